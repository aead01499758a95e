//! From the errors of the layers below to Kafka's: the one place, an exhaustive match for each.
//!
//! Two layers speak Kafka's codes themselves, because their decisions are about the protocol: the group coordinator
//! (`strandline_core::group`) and the commands of the metadata image (`strandline_core::metadata`, whose refusals know
//! their code). Everything that is counted is counted by [`crate::api::ApiMetrics`], where an answer takes it in.

use strandline_log::producer_state::ProducerError;
use strandline_log::record::ProduceError;
use strandline_log::{AppendError, LogError, ReadError};
use strandline_metadata::ProposeError;
use strandline_tiering::RemoteReadError;
use strandline_wire::KafkaError;

/// A batch that was refused before it was lined up.
pub fn produce_error(error: &ProduceError) -> KafkaError {
    match error {
        ProduceError::CorruptMessage(_) => KafkaError::CorruptMessage,
        ProduceError::MessageTooLarge { .. } => KafkaError::MessageTooLarge,
        ProduceError::InvalidTimestamp { .. } => KafkaError::InvalidTimestamp,
        ProduceError::InvalidRecord { .. } => KafkaError::InvalidRecord,
        ProduceError::UnsupportedCompressionType(_) => KafkaError::UnsupportedCompressionType,
        ProduceError::InvalidTxnState(_) => KafkaError::InvalidTxnState,
    }
}

/// A batch that the log did not take.
pub fn append_error(error: &AppendError) -> KafkaError {
    match error {
        AppendError::BatchTooLarge { .. } => KafkaError::RecordListTooLarge,
        AppendError::Producer(error) => producer_error(error),
        AppendError::Log(error) => log_error(error),
    }
}

fn producer_error(error: &ProducerError) -> KafkaError {
    match error {
        ProducerError::OutOfOrderSequence { .. } => KafkaError::OutOfOrderSequenceNumber,
        ProducerError::InvalidProducerEpoch { .. } => KafkaError::InvalidProducerEpoch,
        ProducerError::InvalidTxnState { .. } => KafkaError::InvalidTxnState,
        ProducerError::TransactionCoordinatorFenced { .. } => {
            KafkaError::TransactionCoordinatorFenced
        }
    }
}

pub fn log_error(error: &LogError) -> KafkaError {
    match error {
        // Retriable: a full disk gets room, a folder that is offline gets another leader.
        LogError::Storage(_) | LogError::Offline(_) | LogError::StateFile { .. } => {
            KafkaError::KafkaStorageError
        }
        LogError::Corrupt { .. } => KafkaError::CorruptMessage,
        LogError::OutOfRange { .. } | LogError::BelowLocal { .. } => KafkaError::OffsetOutOfRange,
        LogError::Closed => KafkaError::NotLeaderOrFollower,
    }
}

/// `None`: only the remote tier has it.
pub fn read_error(error: &ReadError) -> Option<KafkaError> {
    match error {
        ReadError::OutOfRange { .. } => Some(KafkaError::OffsetOutOfRange),
        ReadError::BelowLocal { .. } => None,
        ReadError::Storage(error) => Some(log_error(error)),
    }
}

pub fn remote_read_error(error: &RemoteReadError) -> KafkaError {
    match error {
        RemoteReadError::OutOfRange { .. } => KafkaError::OffsetOutOfRange,
        // Retriable: the store comes back, or somebody repairs it.
        RemoteReadError::Unavailable(_) | RemoteReadError::Corrupt(_) => {
            KafkaError::KafkaStorageError
        }
    }
}

/// A change of the metadata that did not come to be decided. Retriable: another try may find a quorum.
pub fn propose_error(_: &ProposeError) -> KafkaError {
    KafkaError::RequestTimedOut
}
