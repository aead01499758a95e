//! From the log's errors to Kafka's: the one place where an append's failure gets its code.

use strandline_log::producer_state::ProducerError;
use strandline_log::{AppendError, LogError, ReadError};
use strandline_wire::KafkaError;

use super::AppendFailure;

pub fn append_failure(error: &AppendError) -> AppendFailure {
    let code = match error {
        AppendError::BatchTooLarge { .. } => KafkaError::RecordListTooLarge,
        AppendError::Producer(error) => producer_error(error),
        AppendError::Log(error) => log_error(error),
    };
    AppendFailure {
        error: code,
        message: Some(error.to_string()),
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
