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
}
