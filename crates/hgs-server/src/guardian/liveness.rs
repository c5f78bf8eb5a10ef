//! Whether the guardian's threads do their work at all: what the watchdog of a service manager asks.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Weak};

use super::workers::{Claimant, Workers};
use crate::health::Readiness;

/// Asks every part that a request needs, and waits for its answer, whatever it is.
#[derive(Debug)]
pub(crate) struct Liveness {
    readiness: Readiness,
    /// A watchdog must not keep a guardian open that was shut down.
    workers: Weak<Workers>,
}

impl Liveness {
    pub(crate) fn new(readiness: Readiness, workers: &Arc<Workers>) -> Self {
        Self {
            readiness,
            workers: Arc::downgrade(workers),
        }
    }

    /// Resolves when the store has said whether it commits, and a worker has had a turn. A guardian that says why it is not
    /// ready lives: no new start mends a full disk, a token that is away, or a cluster without a quorum. One that says nothing
    /// hangs.
    pub(crate) async fn proved(&self) {
        // What it says is for `/health/ready`.
        let _ = self.readiness.check().await;
        if let Some(workers) = self.workers.upgrade() {
            let ourselves = Claimant::Network(IpAddr::from(Ipv4Addr::LOCALHOST).into());
            // A full queue of requests from here is served, so workers are at work.
            let _ = workers.run(ourselves, |_| ()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::thread::available_parallelism;
    use std::time::Duration;

    use tokio::sync::mpsc::unbounded_channel;
    use tokio::time::timeout;

    use super::*;
    use crate::{Config, Metrics};

    /// Longer than an answer of threads that work.
    const MOMENT: Duration = Duration::from_millis(100);

    fn workers() -> Arc<Workers> {
        Arc::new(Workers::start(&Config::default(), &Metrics::new()).unwrap())
    }

    #[tokio::test]
    async fn a_guardian_lives_though_it_is_not_ready() {
        let workers = workers();
        let not_ready = Readiness::new(|| Err("the disk is full".to_owned()));
        Liveness::new(not_ready, &workers).proved().await;
    }

    #[tokio::test]
    async fn a_guardian_whose_workers_hang_proves_nothing() {
        let workers = workers();
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(std::sync::Mutex::new(hang));
        let stranger = Claimant::Network(IpAddr::from([192, 0, 2, 1]).into());
        let (begin, mut begun) = unbounded_channel();
        // One for each worker; the lock keeps all but the first.
        let processors = available_parallelism().unwrap().get();
        let hanging: Vec<_> = (0..processors)
            .map(|_| {
                let (hang, begin) = (Arc::clone(&hang), begin.clone());
                let work = move |_: &mut _| {
                    begin.send(()).unwrap();
                    let _ = hang.lock().unwrap().recv();
                };
                let workers = Arc::clone(&workers);
                tokio::spawn(async move { workers.run(stranger, work).await })
            })
            .collect();
        for _ in 0..processors {
            begun.recv().await.unwrap();
        }
        let liveness = Liveness::new(Readiness::always(), &workers);
        let mut proved = pin!(liveness.proved());
        assert!(timeout(MOMENT, &mut proved).await.is_err());
        drop(release);
        proved.await;
        for hanging in hanging {
            hanging.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_guardian_whose_store_hangs_proves_nothing() {
        let workers = workers();
        let (release, hang) = mpsc::channel::<()>();
        let hang = std::sync::Mutex::new(hang);
        let hanging = Readiness::new(move || {
            let _ = hang.lock().unwrap().recv();
            Ok(())
        });
        let liveness = Liveness::new(hanging, &workers);
        let mut proved = pin!(liveness.proved());
        assert!(timeout(MOMENT, &mut proved).await.is_err());
        drop(release);
        proved.await;
    }
}
