//! What a producer is told once. Names and defaults are those of Kafka's producer where it has them.

use std::time::Duration;

use strandline_log::record::Compression;

use super::partition_queue::QueueConfig;

/// When a batch counts as produced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Acks {
    /// As soon as it is sent. Offsets are not known; losses are not noticed.
    None,
    /// When the leader has it.
    Leader,
    /// When every in-sync replica has it.
    All,
}

impl Acks {
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

#[derive(Clone, Debug)]
pub struct ProducerConfig {
    pub acks: Acks,
    /// Retries are stored once. Needs `Acks::All`; with others it is off.
    pub enable_idempotence: bool,
    pub compression: Compression,
    pub compression_level: Option<i32>,
    pub batch_bytes: usize,
    pub linger: Duration,
    /// All records taken in and not answered.
    pub buffer_bytes_max: usize,
    pub request_bytes_max: usize,
    /// Produce requests in flight per broker, and batches in flight per partition when retries keep their order.
    pub in_flight_max: usize,
    /// How long the broker may take to replicate.
    pub request_timeout: Duration,
    /// How long a record may take in total, retries included.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            enable_idempotence: true,
            compression: Compression::None,
            compression_level: None,
            batch_bytes: 64 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes_max: 32 << 20,
            request_bytes_max: 1 << 20,
            in_flight_max: 5,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerConfig {
    pub(super) fn is_idempotent(&self) -> bool {
        self.enable_idempotence && self.acks == Acks::All
    }

    pub(super) fn queue_config(&self) -> QueueConfig {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // Without sequences the broker could not tell a retry that overtook its successor. Brokers remember the last
        // five batches of a producer, so more in flight would not be recognised.
        let in_flight_max = if self.is_idempotent() {
            self.in_flight_max.clamp(1, 5)
        } else {
            1
        };
        QueueConfig {
            batch_bytes: self.batch_bytes.max(1),
            linger_ms: ms(self.linger),
            delivery_timeout_ms: ms(self.delivery_timeout),
            in_flight_max,
            is_idempotent: self.is_idempotent(),
        }
    }
}
