//! Disk work away from the runtime's workers. A simulation runs it in place, so that a seed gives one trace.

use tokio::task::JoinError;

/// Runs work that blocks.
pub(crate) async fn run<T, F>(work: F) -> Result<T, JoinError>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    #[cfg(test)]
    if crate::simulation::is_running() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await
}
