//! Kafka's error codes.

/// An error code of the protocol; `try_from_code` and `code` convert, `is_retriable` says what clients do.
pub use kafka_protocol::ResponseError as KafkaError;

/// The code on the wire: 0 when there is no error.
pub fn error_code(error: Option<KafkaError>) -> i16 {
    error.map_or(0, |error| error.code())
}

/// The error of a code on the wire; `None` for 0.
pub fn error_from_code(code: i16) -> Option<KafkaError> {
    KafkaError::try_from_code(code)
}
