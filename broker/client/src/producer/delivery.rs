//! What became of a record.

use strandline_log::{Offset, TimestampMs};
use strandline_wire::KafkaError;
use tokio::sync::watch;

/// A record's place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordAck {
    /// -1 where the broker did not say: with acks=0, and for a retry whose first attempt is long stored.
    pub offset: Offset,
    /// The broker's time of append; -1 when the topic keeps the producer's timestamps.
    pub log_append_time_ms: TimestampMs,
}

/// Why a record is not known to be stored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeliveryError {
    #[error("the broker refused the batch: {error}{}", message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default())]
    Refused {
        error: KafkaError,
        message: Option<String>,
    },
    #[error("the batch was not acknowledged within {timeout_ms} ms: {last}")]
    TimedOut { timeout_ms: u64, last: String },
    /// An attempt had no answer, and what came later does not tell what became of it.
    #[error("the batch may or may not be stored: {last}")]
    Unknown { last: String },
    #[error("the record takes {bytes} bytes, the buffer has {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    #[error("the producer ended before the batch was acknowledged")]
    Ended,
}

/// A batch's outcome: the place of its first record.
pub(super) type Outcome = Result<RecordAck, DeliveryError>;

/// The answer about one record, when it comes. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Delivery {
    outcome: watch::Receiver<Option<Outcome>>,
    /// The record's place in its batch.
    index: i32,
}

impl Delivery {
    pub(super) fn new(outcome: watch::Receiver<Option<Outcome>>, index: i32) -> Self {
        Self { outcome, index }
    }

    pub(super) fn refused(error: DeliveryError) -> Self {
        let (_, outcome) = watch::channel(Some(Err(error)));
        Self { outcome, index: 0 }
    }

    /// Waits until the record's batch is answered.
    pub async fn wait(mut self) -> Result<RecordAck, DeliveryError> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        let outcome = match outcome {
            Ok(outcome) => outcome.clone().unwrap_or(Err(DeliveryError::Ended)),
            Err(_) => Err(DeliveryError::Ended),
        };
        outcome.map(|first| RecordAck {
            offset: if first.offset < 0 {
                first.offset
            } else {
                first.offset + i64::from(self.index)
            },
            ..first
        })
    }
}
