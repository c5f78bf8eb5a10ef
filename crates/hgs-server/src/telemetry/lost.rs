//! Spans that no collector gets, which are counted.
//!
//! The library drops spans without telling how many, so it is not left to decide: here it is known how many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

/// How many were lost since the process began, by why. A process has one log, and so one of these.
pub(super) static LOST: Lost = Lost {
    queue_full: AtomicU64::new(0),
    not_sent: AtomicU64::new(0),
};

/// How many spans were lost, by why.
#[derive(Debug, Default)]
pub(super) struct Lost {
    queue_full: AtomicU64,
    not_sent: AtomicU64,
}

impl Lost {
    /// The reasons, and how often each applied.
    pub(super) fn by_reason(&self) -> [(&'static str, u64); 2] {
        [
            ("queue-full", self.queue_full.load(Relaxed)),
            ("not-sent", self.not_sent.load(Relaxed)),
        ]
    }
}

/// Spans that wait to be sent.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: AtomicUsize,
    length: usize,
    lost: &'static Lost,
}

impl Queue {
    pub(super) fn new(length: usize, lost: &'static Lost) -> Arc<Self> {
        Arc::new(Self {
            waiting: AtomicUsize::new(0),
            length,
            lost,
        })
    }

    /// Whether one more may wait.
    fn enter(&self) -> bool {
        let one_more = |waiting| (waiting < self.length).then_some(waiting + 1);
        let entered = self
            .waiting
            .fetch_update(Relaxed, Relaxed, one_more)
            .is_ok();
        if !entered {
            self.lost.queue_full.fetch_add(1, Relaxed);
        }
        entered
    }
}

/// Lets spans into the queue of another processor as long as there is room.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    pub(super) queue: Arc<Queue>,
    pub(super) processor: P,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        // The processor passes over what is not sampled, and so must this.
        if span.span_context.is_sampled() && self.queue.enter() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, time: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(time)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// Counts what leaves the queue, and what of it is not sent.
#[derive(Debug)]
pub(super) struct Counted<E> {
    pub(super) queue: Arc<Queue>,
    pub(super) exporter: E,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        self.queue.waiting.fetch_sub(spans, Relaxed);
        if sent.is_err() {
            let spans = spans.try_into().unwrap_or(u64::MAX);
            self.queue.lost.not_sent.fetch_add(spans, Relaxed);
        }
        sent
    }

    fn shutdown_with_timeout(&self, time: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(time)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Mutex, OnceLock};

    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
    };

    use super::*;

    /// An exporter that takes a batch only when it is told whether that succeeds.
    #[derive(Debug)]
    struct Told {
        begun: SyncSender<usize>,
        outcomes: Mutex<Receiver<bool>>,
    }

    impl SpanExporter for Told {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.begun.send(batch.len()).unwrap();
            match self.outcomes.lock().unwrap().recv().unwrap() {
                true => Ok(()),
                false => Err(OTelSdkError::InternalFailure("refused".to_owned())),
            }
        }
    }

    #[test]
    fn what_finds_no_room_and_what_is_not_sent_is_counted() {
        static COUNTED: OnceLock<Lost> = OnceLock::new();
        let lost = COUNTED.get_or_init(Lost::default);
        let (begun, batches) = sync_channel(8);
        let (outcome, outcomes) = sync_channel(8);
        let queue = Queue::new(3, lost);
        let exporter = Counted {
            queue: Arc::clone(&queue),
            exporter: Told {
                begun,
                outcomes: Mutex::new(outcomes),
            },
        };
        let batch = BatchConfigBuilder::default()
            .with_max_queue_size(3)
            .with_max_export_batch_size(3)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batch)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Bounded { queue, processor })
            .build();
        let tracer = provider.tracer("test");
        let some = |count| (0..count).for_each(|_| drop(tracer.start("span")));
        some(3);
        assert_eq!(batches.recv(), Ok(3));
        // They are on their way, so there is still no room.
        some(2);
        assert_eq!(lost.by_reason(), [("queue-full", 2), ("not-sent", 0)]);
        outcome.send(false).unwrap();
        outcome.send(true).unwrap();
        provider.force_flush().unwrap();
        some(3);
        assert_eq!(batches.recv(), Ok(3));
        provider.force_flush().unwrap();
        assert_eq!(lost.by_reason(), [("queue-full", 2), ("not-sent", 3)]);
    }
}
