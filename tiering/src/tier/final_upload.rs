//! remote.log.upload.on.shutdown: before the end everything that is committed goes up, what is not sealed yet too.

use std::sync::Arc;
use std::time::Duration;

use super::Tier;
use crate::blocking;
use crate::remote_partition::RemotePartition;

/// How often it is looked whether all is done.
const LOOK: Duration = Duration::from_millis(20);

impl Tier {
    /// Seals and uploads what is committed, for at most `patience`. Nothing may be appended any more. Tells how many
    /// partitions have records left that only the local disk holds.
    pub async fn upload_all(&self, patience: Duration) -> usize {
        let mut waiting: Vec<Arc<RemotePartition>> = self.partitions();
        waiting.retain(|partition| partition.is_copied());
        let done = async {
            for partition in &waiting {
                let log = Arc::clone(partition.log());
                let now_ms = self.core.clock.now_ms();
                let sealed = blocking::run(move || {
                    if log.active_segment_base_offset() < log.log_end_offset() {
                        log.roll(now_ms)?;
                    }
                    log.flush_sealed()
                });
                match sealed.await {
                    Ok(Ok(_)) => partition.wake(),
                    Ok(Err(error)) => {
                        tracing::warn!(partition = %partition.topic_partition(), %error, "cannot be sealed");
                    }
                    Err(error) => tracing::error!(%error, "sealing failed by a bug"),
                }
            }
            while left(&waiting) > 0 && self.core.stop().sleep(LOOK).await {}
        };
        // What is cut short here is only the waiting.
        let _ = tokio::time::timeout(patience, done).await;
        left(&waiting)
    }
}

fn left(partitions: &[Arc<RemotePartition>]) -> usize {
    let exposed = partitions.iter().filter(|p| p.unprotected().records > 0);
    exposed.count()
}
