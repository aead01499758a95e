//! What goes wrong between us and a broker.

use std::time::Duration;

use strandline_wire::{EncodeError, KafkaError};

/// Why one request on one connection has no answer. Every waiter gets a copy.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConnectionError {
    #[error("cannot connect to {address}: {reason}")]
    Connect { address: String, reason: String },
    #[error("the connection to {address} is closed: {reason}")]
    Closed { address: String, reason: String },
    #[error("{address} has not answered {api} within {} ms", timeout.as_millis())]
    Timeout {
        address: String,
        api: &'static str,
        timeout: Duration,
    },
    #[error("{address} serves no version of {api} that we speak")]
    UnsupportedVersion { address: String, api: &'static str },
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the answer to {api} version {version} does not decode: {reason}")]
    Decode {
        api: &'static str,
        version: i16,
        reason: String,
    },
}

impl ConnectionError {
    /// Whether another attempt on a new connection may succeed.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Closed { .. } | Self::Timeout { .. }
        )
    }
}

/// Why an operation on the cluster failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("{what}: {error}{}", message.as_ref().map(|message| format!(" ({message})")).unwrap_or_default())]
    Kafka {
        what: String,
        error: KafkaError,
        message: Option<String>,
    },
    #[error("{what}: the broker's answer does not mention it")]
    Missing { what: String },
    #[error("{topic}-{partition} has no leader")]
    NoLeader { topic: String, partition: i32 },
    #[error("broker {0} is not in the cluster's metadata")]
    UnknownBroker(i32),
    #[error("no bootstrap server is given")]
    NoBootstrapServer,
    #[error("{what} has not succeeded within {} ms: {last}", timeout.as_millis())]
    TimedOut {
        what: String,
        timeout: Duration,
        last: Box<ClientError>,
    },
    #[error("a batch of {topic}-{partition} at offset {offset} is damaged: {reason}")]
    Corrupt {
        topic: String,
        partition: i32,
        offset: i64,
        reason: String,
    },
}

impl ClientError {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Connection(error) => error.is_retriable(),
            Self::Kafka { error, .. } => error.is_retriable(),
            Self::NoLeader { .. } | Self::UnknownBroker(_) => true,
            Self::Missing { .. }
            | Self::NoBootstrapServer
            | Self::TimedOut { .. }
            | Self::Corrupt { .. } => false,
        }
    }

    /// The broker's error code, also behind a time-out.
    pub fn kafka_error(&self) -> Option<KafkaError> {
        match self {
            Self::Kafka { error, .. } => Some(*error),
            Self::TimedOut { last, .. } => last.kafka_error(),
            _ => None,
        }
    }

    /// `Ok` for code 0.
    pub(crate) fn check(
        code: i16,
        message: Option<&str>,
        what: impl FnOnce() -> String,
    ) -> Result<(), ClientError> {
        match strandline_wire::error_from_code(code) {
            None => Ok(()),
            Some(error) => Err(ClientError::Kafka {
                what: what(),
                error,
                message: message.map(str::to_owned),
            }),
        }
    }
}
