//! Threads for work that keeps a processor busy: decisions, and RSA with software keys.
//!
//! A roll takes about a millisecond of a processor. On the threads that serve connections it would keep others from being
//! read; on a thread for each request, many requests would share few processors and all be late. So there are as
//! many at work as there are processors, and the others wait in a [`queue`] that is fair to hosts.
//!
//! There are more threads than processors where keys are in tokens: a thread that waits for a token leaves its processor
//! to another.

mod queue;

use std::io;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, available_parallelism};
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;
use tracing::Span;

pub(crate) use queue::Claimant;

use queue::FairQueue;

use crate::Config;
use crate::metrics::{Metrics, WORK_QUEUE_SECONDS, WORK_TURNED_AWAY};
use crate::telemetry;

/// A host has as many requests waiting as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostIsFull;

/// A pool of threads.
#[derive(Debug)]
pub(crate) struct Workers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    shared: Mutex<Shared>,
    /// Notified when there may be work for an idle thread.
    work: Condvar,
    /// Notified when there may be a processor for a thread that waited for a token.
    processor: Condvar,
    queue_seconds: Histogram,
    turned_away: Counter,
}

#[derive(Debug)]
struct Shared {
    queue: FairQueue<Waiting>,
    /// Idle processors.
    free: usize,
    /// Threads whose token has answered and that wait for a processor. They come first: their work is nearly done.
    returning: usize,
    closed: bool,
}

/// A job that waits.
#[derive(Debug)]
struct Waiting {
    job: Job,
    since: Instant,
    /// Ends with it.
    _span: Span,
}

/// Does a piece of work; it may be followed by another piece, on another account.
struct Job(Box<Work>);

type Work = dyn FnOnce(&mut ProcessorPermit) -> Option<(Claimant, Job)> + Send;

impl Job {
    /// Does `work` unless its caller waits no longer, and sends what comes of it: a value, or the panic.
    fn answering<T: Send + 'static>(
        sender: oneshot::Sender<thread::Result<T>>,
        span: Span,
        work: impl FnOnce(&mut ProcessorPermit) -> T + Send + 'static,
    ) -> Self {
        Self(Box::new(move |processor| {
            if !sender.is_closed() {
                let traced = telemetry::work(&span);
                let work = || traced.in_scope(|| work(processor));
                let done = AssertUnwindSafe(|| span.in_scope(work));
                drop(sender.send(catch_unwind(done)));
            }
            None
        }))
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Job")
    }
}

impl Waiting {
    fn since_now(job: Job, span: Span) -> Self {
        Self {
            job,
            since: Instant::now(),
            _span: span,
        }
    }
}

impl Workers {
    /// As many at work as this machine has processors for the process. Of one host half as many requests wait as a
    /// listener lets in.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(config: &Config, metrics: &Metrics) -> io::Result<Self> {
        let processors = available_parallelism().map_or(1, NonZero::get);
        let requests = config.limits.concurrent_requests;
        // Twice as many threads wait for tokens as tokens have sessions, so that each session always has work.
        let modules = config.pkcs11.settings().modules;
        let waiting_for_tokens: usize = modules.iter().map(|module| 2 * module.sessions).sum();
        Self::with(
            processors,
            processors + waiting_for_tokens.min(requests),
            (requests / 2).max(1),
            metrics,
        )
    }

    fn with(
        processors: usize,
        threads: usize,
        most_of_host: usize,
        metrics: &Metrics,
    ) -> io::Result<Self> {
        let pool = Arc::new(Pool {
            shared: Mutex::new(Shared {
                queue: FairQueue::new(most_of_host),
                free: processors,
                returning: 0,
                closed: false,
            }),
            work: Condvar::new(),
            processor: Condvar::new(),
            queue_seconds: metrics.histogram(&WORK_QUEUE_SECONDS, []),
            turned_away: metrics.counter(&WORK_TURNED_AWAY, []),
        });
        let workers = Self(pool);
        for number in 0..threads {
            let pool = Arc::clone(&workers.0);
            let thread = thread::Builder::new().name(format!("worker-{number}"));
            let spawned = thread.spawn(move || pool.serve());
            // Fewer are slower; without any nothing would be done.
            if let Err(error) = spawned
                && number == 0
            {
                return Err(error);
            }
        }
        Ok(workers)
    }

    /// How many jobs wait for a processor.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lock().queue.len()
    }

    /// A processor for the calling thread, which may block: for work that no host waits for.
    pub(crate) fn processor(&self) -> ProcessorPermit {
        let mut processor = ProcessorPermit {
            pool: Arc::clone(&self.0),
            held: false,
        };
        processor.acquire();
        processor
    }

    /// Has `work` done on the account of `claimant`. Once begun it is finished even if its caller waits no longer; a
    /// panic in it is the caller's.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        claimant: Claimant,
        work: impl FnOnce(&mut ProcessorPermit) -> T + Send + 'static,
    ) -> Result<T, HostIsFull> {
        let (sender, receiver) = oneshot::channel();
        self.submit(claimant, Job::answering(sender, Span::current(), work))?;
        received(receiver.await)
    }

    /// The same for work of which it is not known at first whose it is: `identify` tells, on the account of `claimant`,
    /// and what it found is passed on to `work`. It waits in the queue from now on, not only once the future is polled.
    pub(crate) fn run_identified<K, T, E>(
        &self,
        claimant: Claimant,
        identify: impl FnOnce() -> Result<(Claimant, K), E> + Send + 'static,
        work: impl FnOnce(K, &mut ProcessorPermit) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>>
    where
        K: Send + 'static,
        T: Send + 'static,
        E: From<HostIsFull> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let span = Span::current();
        let job = Job(Box::new(move |_| {
            if sender.is_closed() {
                return None;
            }
            let traced = telemetry::identify(&span);
            let identify = || traced.in_scope(identify);
            let (claimant, known) = match catch_unwind(AssertUnwindSafe(|| span.in_scope(identify)))
            {
                Ok(Ok(identified)) => identified,
                Ok(Err(refused)) => {
                    drop(sender.send(Ok(Err(refused))));
                    return None;
                }
                Err(panic) => {
                    drop(sender.send(Err(panic)));
                    return None;
                }
            };
            Some((
                claimant,
                Job::answering(sender, span, |processor| work(known, processor)),
            ))
        }));
        let submitted = self.submit(claimant, job);
        async move {
            submitted?;
            received(receiver.await)?
        }
    }

    fn submit(&self, claimant: Claimant, job: Job) -> Result<(), HostIsFull> {
        let mut shared = self.0.lock();
        let pushed = shared
            .queue
            .push(claimant, Waiting::since_now(job, telemetry::wait()));
        self.0.wake(shared);
        pushed.map_err(|_| {
            self.0.turned_away.increment(1);
            HostIsFull
        })
    }
}

/// A job that was dropped undone found no room in the queue.
fn received<T>(
    received: Result<thread::Result<T>, oneshot::error::RecvError>,
) -> Result<T, HostIsFull> {
    match received {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => Err(HostIsFull),
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // The threads do what waits, and end.
        self.0.lock().closed = true;
        self.0.work.notify_all();
    }
}

impl Pool {
    /// The life of a thread.
    fn serve(self: Arc<Self>) {
        let mut processor = ProcessorPermit {
            pool: Arc::clone(&self),
            held: false,
        };
        let mut done = None;
        while let Some((claimant, Job(job))) = self.next(&mut processor, done.take()) {
            let begun = processor_time();
            let follows = job(&mut processor);
            done = Some((claimant, processor_time().saturating_sub(begun), follows));
        }
    }

    /// Settles what was done and waits for what comes next: work, and a processor to do it on. `None` at the end.
    fn next(&self, processor: &mut ProcessorPermit, done: Option<Done>) -> Option<(Claimant, Job)> {
        let mut shared = self.lock();
        if let Some((claimant, cost, follows)) = done {
            let pushed = follows.map_or(Ok(()), |(claimant, job)| {
                shared
                    .queue
                    .push(claimant, Waiting::since_now(job, Span::none()))
            });
            shared.queue.charge(claimant, cost);
            if let Err(turned_away) = pushed {
                // It may hold the last handle on this pool.
                drop(shared);
                self.turned_away.increment(1);
                drop(turned_away);
                shared = self.lock();
            }
        }
        loop {
            if processor.held && shared.returning > 0 {
                processor.held = false;
                shared.free += 1;
                self.processor.notify_one();
            }
            if (processor.held || shared.free > shared.returning)
                && let Some((claimant, waiting)) = shared.queue.pop()
            {
                if !processor.held {
                    processor.held = true;
                    shared.free -= 1;
                }
                self.queue_seconds.record(waiting.since.elapsed());
                return Some((claimant, waiting.job));
            }
            if processor.held {
                processor.held = false;
                shared.free += 1;
            }
            if shared.closed && shared.queue.is_empty() {
                self.work.notify_all();
                return None;
            }
            let woken = self.work.wait(shared);
            shared = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes those that `free` processors are for.
    fn wake(&self, shared: MutexGuard<'_, Shared>) {
        let (returning, free) = (shared.returning, shared.free);
        // They need the lock next.
        drop(shared);
        if returning > 0 {
            self.processor.notify_one();
        }
        if free > returning {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose work was done, what it cost, and what follows it.
type Done = (Claimant, Duration, Option<(Claimant, Job)>);

/// Processor time of this thread, without the time that it waits.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// The use of a processor, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct ProcessorPermit {
    pool: Arc<Pool>,
    /// False while its holder works without a processor.
    held: bool,
}

impl ProcessorPermit {
    /// Does `work` that waits and needs no processor; another thread has the processor until then.
    pub(crate) fn without_processor<T>(&mut self, work: impl FnOnce() -> T) -> T {
        self.release();
        let done = work();
        self.acquire();
        done
    }

    fn acquire(&mut self) {
        let mut shared = self.pool.lock();
        shared.returning += 1;
        while shared.free == 0 {
            let woken = self.pool.processor.wait(shared);
            shared = woken.unwrap_or_else(PoisonError::into_inner);
        }
        shared.returning -= 1;
        shared.free -= 1;
        self.held = true;
        self.pool.wake(shared);
    }

    fn release(&mut self) {
        if !self.held {
            return;
        }
        self.held = false;
        let mut shared = self.pool.lock();
        shared.free += 1;
        self.pool.wake(shared);
    }
}

impl Drop for ProcessorPermit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, channel};

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use hgs_pki::health::HostId;

    use super::*;

    const HOST: Claimant = Claimant::Host(HostId::from_bytes([1; 16]));
    const OTHER: Claimant = Claimant::Host(HostId::from_bytes([2; 16]));

    fn network() -> Claimant {
        Claimant::Network("192.0.2.1".parse::<IpAddr>().unwrap().into())
    }

    /// Keeps the only processor until the sender of this is dropped.
    fn keep(workers: &Workers, until: Receiver<()>) {
        let (begun, wait) = channel();
        let job = Job(Box::new(move |_| {
            begun.send(()).unwrap();
            let _ = until.recv();
            None
        }));
        workers.submit(network(), job).unwrap();
        wait.recv().unwrap();
    }

    #[tokio::test]
    async fn no_more_are_at_work_than_there_are_processors() {
        let workers = Workers::with(2, 6, 64, &Metrics::new()).unwrap();
        let (at_work, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let jobs = (0..64).map(|_| {
            let (at_work, most) = (at_work.clone(), most.clone());
            workers.run(HOST, move |processor| {
                processor.without_processor(thread::yield_now);
                most.fetch_max(at_work.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                at_work.fetch_sub(1, Ordering::SeqCst);
            })
        });
        assert!(join_all(jobs).await.iter().all(Result::is_ok));
        assert!(most.load(Ordering::SeqCst) <= 2);
    }

    #[tokio::test]
    async fn k16_a_panic_reaches_the_caller_and_costs_no_worker() {
        let workers = Workers::with(1, 1, 1, &Metrics::new()).unwrap();
        for _ in 0..3 {
            let work = workers.run(HOST, |_| panic!("asked to"));
            assert!(AssertUnwindSafe(work).catch_unwind().await.is_err());
            let work = workers.run(HOST, |processor| {
                processor.without_processor(|| panic!("asked to"))
            });
            assert!(AssertUnwindSafe(work).catch_unwind().await.is_err());
        }
        assert_eq!(workers.run(HOST, |_| 7).await, Ok(7));
    }

    /// With one processor, this ends only if the waiting thread has given it back.
    #[tokio::test]
    async fn another_is_at_work_while_one_waits() {
        let workers = Workers::with(1, 2, 1, &Metrics::new()).unwrap();
        let (other_was_here, wait) = channel();
        let away = workers.run(HOST, move |processor| {
            processor.without_processor(|| wait.recv().is_ok())
        });
        let other = workers.run(OTHER, move |_| other_was_here.send(()).is_ok());
        assert_eq!(tokio::join!(away, other), (Ok(true), Ok(true)));
        let shared = workers.0.lock();
        assert!(shared.queue.is_empty() && shared.returning == 0);
    }

    /// What one host has put before it, another does not wait for, though both come from one address.
    #[tokio::test]
    async fn work_goes_on_the_account_of_the_host_once_that_is_known() {
        let workers = Workers::with(1, 1, 100, &Metrics::new()).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (release, until) = channel();
        keep(&workers, until);
        let run = |host: Claimant| {
            let order = Arc::clone(&order);
            let identify = move || Ok::<_, HostIsFull>((host, host));
            workers.run_identified(network(), identify, move |host, _| {
                order.lock().unwrap().push(host);
                // More than any turn of the clock: what it took is charged.
                let begun = processor_time();
                while processor_time() - begun < Duration::from_millis(2) {}
                Ok(())
            })
        };
        let mut waiting: Vec<_> = (0..10).map(|_| run(HOST).boxed_local()).collect();
        waiting.push(run(OTHER).boxed_local());
        let done = join_all(waiting);
        let (done, ()) = tokio::join!(done, async { drop(release) });
        assert!(done.iter().all(Result::is_ok));
        let order = order.lock().unwrap();
        let place = order.iter().position(|host| *host == OTHER).unwrap();
        assert!(place <= 2, "{order:?}");
    }

    #[tokio::test]
    async fn a_host_that_has_enough_waiting_is_told_so_and_others_are_served() {
        let workers = Workers::with(1, 1, 1, &Metrics::new()).unwrap();
        let (release, until) = channel();
        keep(&workers, until);
        let first = workers.run(HOST, |_| 1);
        let second = workers.run(HOST, |_| 2);
        let other = workers.run(OTHER, |_| 3);
        let identified =
            workers.run_identified(network(), || Ok((HOST, ())), |(), _| Ok::<_, HostIsFull>(4));
        let (first, second, other, _, ()) =
            tokio::join!(first, second, other, identified, async { drop(release) });
        assert_eq!((first, second, other), (Ok(1), Err(HostIsFull), Ok(3)));
    }

    /// A pool that is dropped ends its threads, also when one of them drops it.
    #[test]
    fn threads_end_with_their_pool() {
        let workers = Arc::new(Workers::with(2, 9, 1, &Metrics::new()).unwrap());
        let pool = Arc::downgrade(&workers.0);
        let last = Arc::clone(&workers);
        let (sender, receiver) = channel::<()>();
        let job = Job(Box::new(move |_| {
            let _ = receiver.recv();
            drop(last);
            None
        }));
        workers.submit(HOST, job).unwrap();
        drop(workers);
        drop(sender);
        while pool.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
