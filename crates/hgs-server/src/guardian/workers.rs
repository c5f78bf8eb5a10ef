//! Threads for work that keeps a processor busy: decisions, and RSA with software keys.
//!
//! A roll takes about a millisecond of a processor. On the threads that serve connections it would keep others from being
//! read; on a thread for each request, many requests would take turns at few processors and all be late. So there are as
//! many at work as there are processors, and the others wait in the order in which they came.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tracing::Span;

/// A bound for how much is worked on at once.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Semaphore>);

impl Workers {
    /// As many as this machine lets the process have.
    pub(crate) fn new() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new(processors)))
    }

    /// A turn for the calling thread, which may block and belongs to a runtime: for what no host waits for.
    pub(crate) fn turn(&self) -> Turn {
        let runtime = Handle::current();
        Turn {
            taken: runtime.block_on(Arc::clone(&self.0).acquire_owned()).ok(),
            turns: Arc::clone(&self.0),
            runtime,
        }
    }

    /// Has `work` done. It is finished even if nobody waits for it any more; a panic in it is the caller's.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Turn) -> T + Send + 'static,
    ) -> T {
        let mut turn = Turn {
            taken: Arc::clone(&self.0).acquire_owned().await.ok(),
            turns: Arc::clone(&self.0),
            runtime: Handle::current(),
        };
        let span = Span::current();
        let done = spawn_blocking(move || span.in_scope(|| work(&mut turn)));
        match done.await {
            Ok(value) => value,
            Err(failure) => resume_unwind(failure.into_panic()),
        }
    }
}

/// One turn at a processor, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    // Absent while its holder is away. The semaphore is never closed, so whoever asks gets one.
    taken: Option<OwnedSemaphorePermit>,
    turns: Arc<Semaphore>,
    runtime: Handle,
}

impl Turn {
    /// Does `work` that waits and needs no processor; another has the turn until then.
    pub(crate) fn away<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.taken = None;
        let done = work();
        let again = Arc::clone(&self.turns).acquire_owned();
        self.taken = self.runtime.block_on(again).ok();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_more_are_at_work_than_there_are_processors() {
        let workers = Workers(Arc::new(Semaphore::new(2)));
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs = (0..64).map(|_| {
            let (at_work, most) = (at_work.clone(), most.clone());
            workers.run(move |_| {
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                at_work.fetch_sub(1, Ordering::SeqCst);
            })
        });
        join_all(jobs).await;
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn k16_a_panic_reaches_the_caller_and_costs_no_worker() {
        let workers = Workers(Arc::new(Semaphore::new(1)));
        for _ in 0..3 {
            let work = workers.run(|_| panic!("asked to"));
            assert!(AssertUnwindSafe(work).catch_unwind().await.is_err());
        }
        assert_eq!(workers.run(|_| 7).await, 7);
    }

    /// With one turn, this ends only if whoever is away has given it back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn another_is_at_work_while_one_is_away() {
        let workers = Arc::new(Workers(Arc::new(Semaphore::new(1))));
        let (other_was_here, wait) = std::sync::mpsc::channel();
        let waiting = {
            let workers = workers.clone();
            tokio::spawn(async move {
                workers
                    .run(move |turn| turn.away(|| wait.recv().is_ok()))
                    .await
            })
        };
        workers
            .run(move |_| other_was_here.send(()).unwrap_or_default())
            .await;
        assert!(waiting.await.unwrap());
        assert_eq!(workers.0.available_permits(), 1);
    }
}
