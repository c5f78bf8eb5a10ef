//! The shutdown of a server, as its tasks learn of it.

use tokio::sync::watch;

/// Begins the shutdown.
#[derive(Debug)]
pub(super) struct ShutdownTrigger(watch::Sender<bool>);

/// Tells a task of the shutdown. Each clone tells it, also when the shutdown has begun before.
#[derive(Debug, Clone)]
pub(super) struct ShutdownSignal(watch::Receiver<bool>);

/// A shutdown that has not begun.
pub(super) fn channel() -> (ShutdownTrigger, ShutdownSignal) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownTrigger(sender), ShutdownSignal(receiver))
}

impl ShutdownTrigger {
    /// Begins the shutdown.
    pub(super) fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl ShutdownSignal {
    /// Resolves when the shutdown begins, or its trigger is gone.
    pub(super) async fn received(&mut self) {
        drop(self.0.wait_for(|fired| *fired).await);
    }
}
