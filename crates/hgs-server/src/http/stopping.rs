//! The order to stop, as everything that runs in a server hears it.

use tokio::sync::watch;

/// Gives the order.
#[derive(Debug)]
pub(super) struct Stop(watch::Sender<bool>);

/// Hears the order; each clone hears it, also when it was given before.
#[derive(Debug, Clone)]
pub(super) struct Stopping(watch::Receiver<bool>);

/// An order that was not given yet.
pub(super) fn channel() -> (Stop, Stopping) {
    let (sender, receiver) = watch::channel(false);
    (Stop(sender), Stopping(receiver))
}

impl Stop {
    /// Gives the order.
    pub(super) fn order(&self) {
        self.0.send_replace(true);
    }
}

impl Stopping {
    /// Resolves when the order is given, or can't be given any more.
    pub(super) async fn ordered(&mut self) {
        drop(self.0.wait_for(|ordered| *ordered).await);
    }
}
