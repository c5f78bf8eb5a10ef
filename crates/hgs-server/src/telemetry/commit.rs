//! The spans of commits. One commit is shared by many requests, so its times are known to each of them only afterwards: the
//! thread that writes notes them, and answers those who wait on the same thread.

use std::cell::Cell;
use std::time::{Instant, SystemTime};

use hgs_store::CommitFacts;
use opentelemetry::trace::{Span as _, Tracer as _};
use tracing::field::Empty;
use tracing::{Span, trace_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::{TRACED, TRACER};

/// From when to when.
type Period = (Instant, Instant);

thread_local! {
    /// When the order of several nodes was last asked, since the last commit.
    static ORDERED: Cell<Option<Period>> = const { Cell::new(None) };
    /// The last commit of this thread.
    static COMMITTED: Cell<Option<Committed>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Committed {
    jobs: usize,
    ordered: Option<Period>,
}

/// Notes that a commit was ordered among those of other nodes. It is called on the thread that writes.
pub(crate) fn note_order(begun: Instant, ended: Instant) {
    ORDERED.set(Some((begun, ended)));
}

/// Notes a commit, on the thread that writes.
pub(crate) fn note_commit(facts: &CommitFacts) {
    COMMITTED.set(Some(Committed {
        jobs: facts.jobs,
        ordered: ORDERED.take(),
    }));
}

/// From the moment that something is handed to the store until it is on the disk.
#[derive(Debug)]
pub(crate) struct CommitSpan(Span);

impl CommitSpan {
    /// Begins now, as a part of `parent`.
    pub(crate) fn within(parent: &Span) -> Self {
        Self(trace_span!(target: TRACED, parent: parent, "commit", openhgs.commit.jobs = Empty))
    }

    /// Ends now, on the thread that writes.
    pub(crate) fn end(self) {
        let (false, Some(committed)) = (self.0.is_disabled(), COMMITTED.get()) else {
            return;
        };
        self.0.record("openhgs.commit.jobs", committed.jobs);
        if let (Some((begun, ended)), Some(tracer)) = (committed.ordered, TRACER.get()) {
            let mut order = tracer
                .span_builder("order")
                .with_start_time(at(begun))
                .start_with_context(tracer, &self.0.context());
            order.end_with_timestamp(at(ended));
        }
    }
}

/// The time of an instant in the past.
fn at(instant: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(instant.elapsed()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Kept {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    /// Has a span of a commit end on this thread, as on the one that writes.
    fn commit(parent: &Span, is_ordered: bool) {
        let span = CommitSpan::within(parent);
        let begun = Instant::now();
        if is_ordered {
            note_order(begun, Instant::now());
        }
        note_commit(&CommitFacts {
            begun,
            ended: Instant::now(),
            jobs: 3,
            done: true,
        });
        span.end();
    }

    #[test]
    fn a_commit_shows_when_it_was_ordered_and_no_order_of_another_one() {
        let kept = Kept::default();
        let provider = SdkTracerProvider::builder();
        let provider = provider.with_simple_exporter(kept.clone()).build();
        let tracer = provider.tracer("test");
        assert!(TRACER.set(tracer.clone()).is_ok(), "no other test begins");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_context_activation(false);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let parent = trace_span!(target: TRACED, "release");
            commit(&parent, true);
            commit(&parent, false);
        });
        let spans = kept.0.lock().unwrap();
        let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
        assert_eq!(names, ["order", "commit", "commit", "release"]);
        let [order, first, second, release] = spans.as_slice() else {
            panic!("{names:?}");
        };
        assert_eq!(order.parent_span_id, first.span_context.span_id());
        for commit in [first, second] {
            assert_eq!(commit.parent_span_id, release.span_context.span_id());
            let jobs = |pair: &&opentelemetry::KeyValue| pair.key.as_str() == "openhgs.commit.jobs";
            let jobs = commit.attributes.iter().find(jobs).unwrap();
            assert_eq!(jobs.value.to_string(), "3");
        }
    }
}
