//! Numbers idempotent producers from blocks that the metadata quorum hands out.
//!
//! What always holds: an id is given once, also across restarts: a block that was begun is never begun again.

use strandline_core::metadata::{AllocateProducerIds, Command, CommandOutcome};
use strandline_log::ProducerId;
use strandline_wire::KafkaError;
use tokio::sync::Mutex;

use crate::metadata_driver::MetadataDriver;

/// Kafka's block size.
const BLOCK_SIZE: i32 = 1000;

#[derive(Default)]
struct Block {
    next: ProducerId,
    end: ProducerId,
}

#[derive(Default)]
pub struct ProducerIds {
    /// Held while a block is asked for, so that one request does it for all that wait.
    block: Mutex<Block>,
}

impl ProducerIds {
    pub async fn next(&self, metadata: &MetadataDriver) -> Result<ProducerId, KafkaError> {
        let mut block = self.block.lock().await;
        if block.next >= block.end {
            let command = Command::AllocateProducerIds(AllocateProducerIds {
                broker_id: metadata.node_id(),
                count: BLOCK_SIZE,
            });
            match metadata.propose(command).await {
                Ok(CommandOutcome::ProducerIds(ids)) => {
                    *block = Block {
                        next: ids.first,
                        end: ids.first + i64::from(ids.count),
                    };
                }
                Ok(outcome) => {
                    tracing::error!(?outcome, "no producer ids were given");
                    return Err(KafkaError::CoordinatorNotAvailable);
                }
                // Retriable for producers.
                Err((error, message)) => {
                    tracing::warn!(%error, message, "no producer ids could be asked for");
                    return Err(KafkaError::CoordinatorNotAvailable);
                }
            }
        }
        let id = block.next;
        block.next += 1;
        Ok(id)
    }
}
