//! Tasks that are somebody's.

use tokio::task::AbortHandle;

/// A task that ends with this.
pub(crate) struct Task(AbortHandle);

impl Task {
    /// Starts it. It must be called in the context of a runtime.
    pub(crate) fn spawn<F>(work: F) -> Self
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
