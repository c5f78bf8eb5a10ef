//! Telling a caller what is being done.

use tokio::sync::mpsc;

/// Takes the steps of long work. Nobody has to listen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Option<mpsc::UnboundedSender<String>>);

impl Progress {
    /// Sends each step.
    pub(crate) fn to(sender: mpsc::UnboundedSender<String>) -> Self {
        Self(Some(sender))
    }

    /// Says what is being done now.
    pub(crate) fn step(&self, what: &str) {
        if let Some(sender) = &self.0 {
            // A caller that has gone hears nothing.
            let _ = sender.send(what.to_owned());
        }
    }

    /// Says what is being done now, and again with each tenth of it, of which it is told how much is done and how much there is.
    pub(crate) fn share(&self, what: &str) -> impl FnMut(u64, u64) + use<> {
        self.step(what);
        let (progress, what, mut shown) = (self.clone(), what.to_owned(), 0);
        move |done, all| {
            let tenth = done.saturating_mul(10) / all.max(1);
            if tenth > shown {
                shown = tenth;
                progress.step(&format!("{what}: {} %", tenth * 10));
            }
        }
    }
}
