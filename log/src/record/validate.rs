//! What a leader checks before it takes a producer's batch: Kafka's LogValidator.
//!
//! 1. One batch, magic 2, within max.message.bytes, CRC-32C right, nothing after it.
//! 2. Header: base offset 0, count and last offset delta agree, no control batch, sequence and epoch where
//!    there is a producer id, timestamps within the topic's limits.
//! 3. Deep, where asked, on compacted topics and before recompressing; also where the header does not settle the
//!    timestamps: a header that is out of limits, or a limit into the past. Every record is opened; offsets are 0..n-1,
//!    keys present where the topic compacts, each timestamp within limits. Kafka always does this.
//! 4. Rewrite only if LogAppendTime or the topic's codec force it. Else the bytes are slices of the input.
//!
//! The words are those of Kafka 4.3.1 (its LogValidator, UnifiedLog, ProduceRequest and DefaultRecordBatch), where it
//! has the same case. It renumbers records whose offsets are not 0..n-1; here they are refused: no client sends such.
//!
//! The leader's offset and epoch come later, into [`Batch::patched_header`]. Producer sequences are compared by
//! the producer state, not here. Lengths and counts are never trusted.

use bytes::Bytes;

use super::attributes::TimestampType;
use super::batch::Batch;
use super::batch_header::{BATCH_HEADER_LEN, BatchHeader};
use super::builder::{assemble, seal};
use super::compression::{Compression, CompressionError, DecodeLimit};
use super::error::BatchError;
use super::iter::RecordIter;
use crate::types::{NO_TIMESTAMP, TimestampMs, TopicPartition};

/// A topic's `compression.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicCompression {
    /// As the producer sent it.
    #[default]
    Producer,
    /// Always this codec; the level is on its own scale.
    Fixed(Compression, Option<i32>),
}

impl TopicCompression {
    /// Reads `compression.type`; levels come from configs of their own.
    pub fn from_name(name: &str) -> Option<Self> {
        if name == "producer" {
            return Some(Self::Producer);
        }
        // "none" is a codec of producers; topics say "uncompressed".
        if name == "none" {
            return None;
        }
        Compression::from_name(name).map(|codec| Self::Fixed(codec, None))
    }
}

/// What a topic asks of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    pub max_message_bytes: usize,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// cleanup.policy contains compact: keys are demanded, records are opened.
    pub compacted: bool,
    /// Open every record.
    pub deep: bool,
    pub compression: TopicCompression,
    pub allow_transactional: bool,
    /// Off for Produce below version 7, which does not know zstd.
    pub allow_zstd: bool,
    /// The most that a batch may inflate to where it is opened.
    pub decode_limit: DecodeLimit,
}

impl Default for ProduceRules {
    /// Kafka's defaults of a topic.
    fn default() -> Self {
        Self {
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            deep: false,
            compression: TopicCompression::Producer,
            allow_transactional: false,
            allow_zstd: true,
            decode_limit: DecodeLimit::default(),
        }
    }
}

/// A batch that may be appended.
#[derive(Clone, Debug)]
pub struct ValidBatch {
    pub batch: Batch,
}

/// A record at fault: its index in the batch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    pub batch_index: i32,
    pub message: String,
}

/// Why a batch was refused; one variant per error code of Kafka.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProduceError {
    #[error("{0}")]
    CorruptMessage(String),
    #[error(
        "The record batch size in the append to a partition is {size} bytes which exceeds the maximum configured value of {max})."
    )]
    MessageTooLarge { size: usize, max: usize },
    #[error("{message}")]
    InvalidTimestamp {
        message: String,
        records: Vec<RecordError>,
    },
    #[error("{message}")]
    InvalidRecord {
        message: String,
        records: Vec<RecordError>,
    },
    #[error("{0}")]
    UnsupportedCompressionType(String),
    #[error("{0}")]
    InvalidTxnState(String),
}

/// What Kafka ends many messages with, before the partition's name.
const IN_PARTITION: &str = " in topic partition";

impl ProduceError {
    /// Says of which partition it tells, where Kafka does.
    pub fn in_partition(mut self, tp: &TopicPartition) -> Self {
        let name = |text: &mut String| {
            if text.ends_with(IN_PARTITION) {
                *text = format!("{text} {tp}");
            }
        };
        match &mut self {
            Self::CorruptMessage(message)
            | Self::UnsupportedCompressionType(message)
            | Self::InvalidTxnState(message) => name(message),
            Self::InvalidTimestamp { message, records }
            | Self::InvalidRecord { message, records } => {
                for record in records {
                    let before = record.message.clone();
                    name(&mut record.message);
                    *message = message.replace(&before, &record.message);
                }
                name(message);
            }
            Self::MessageTooLarge { .. } => {}
        }
        self
    }
}

/// The most record errors that one answer lists.
const RECORD_ERRORS_MAX: usize = 100;

/// Checks one partition's records of a produce request. The answer holds exactly one batch, as Kafka demands.
pub fn validate_produce(
    records: Bytes,
    rules: &ProduceRules,
    now_ms: TimestampMs,
) -> Result<Vec<ValidBatch>, ProduceError> {
    let batch = sole_batch(records, rules)?;
    let source = check_header(&batch, rules)?;
    check_timestamp_type(&batch.header)?;
    let deep = rules.deep || rules.compacted || needs_timestamps(&batch.header, rules, now_ms);
    let target = match rules.compression {
        TopicCompression::Producer => source,
        TopicCompression::Fixed(codec, _) => codec,
    };
    let mut header = batch.header;
    let mut payload = None;
    if deep || target != source {
        let body = source
            .decompress(&batch.payload(), rules.decode_limit)
            .map_err(|e| refuse_compression(&e))?;
        header.max_timestamp = check_records(header, body.clone(), rules, now_ms)?;
        if target != source {
            payload = Some(body);
        }
    }
    if rules.timestamp_type == TimestampType::LogAppendTime {
        header.attributes = header
            .attributes
            .with_timestamp_type(TimestampType::LogAppendTime);
        header.max_timestamp = now_ms;
    }
    if let Some(body) = payload {
        let level = match rules.compression {
            TopicCompression::Fixed(_, level) => level,
            TopicCompression::Producer => None,
        };
        header.attributes = header.attributes.with_compression_id(target.id());
        let bytes = assemble(header, &target.compress(&body, level));
        check_size(bytes.len(), rules)?;
        return reparse(bytes);
    }
    if header != batch.header {
        let mut bytes = batch.bytes.to_vec();
        seal(&mut header, &mut bytes);
        return reparse(Bytes::from(bytes));
    }
    Ok(vec![ValidBatch { batch }])
}

fn reparse(bytes: Bytes) -> Result<Vec<ValidBatch>, ProduceError> {
    let batch = Batch::parse(bytes).map_err(|e| ProduceError::CorruptMessage(e.to_string()))?;
    Ok(vec![ValidBatch { batch }])
}

fn invalid(message: impl Into<String>) -> ProduceError {
    ProduceError::InvalidRecord {
        message: message.into(),
        records: Vec::new(),
    }
}

fn refuse_compression(e: &CompressionError) -> ProduceError {
    match e {
        CompressionError::TooLarge { .. } => invalid(e.to_string()),
        CompressionError::Corrupt { .. } => ProduceError::CorruptMessage(e.to_string()),
    }
}

fn check_size(size: usize, rules: &ProduceRules) -> Result<(), ProduceError> {
    if size > rules.max_message_bytes {
        return Err(ProduceError::MessageTooLarge {
            size,
            max: rules.max_message_bytes,
        });
    }
    Ok(())
}

const NO_BATCH: &str = "Produce requests must have at least one record batch per partition";

fn sole_batch(records: Bytes, rules: &ProduceRules) -> Result<Batch, ProduceError> {
    if records.is_empty() {
        return Err(invalid(NO_BATCH));
    }
    let total = records.len();
    let batch = Batch::parse(records).map_err(|e| match e {
        // Like Kafka, which sees no batch at all before its last byte.
        BatchError::Truncated { .. } => invalid(format!("{NO_BATCH} ({e})")),
        BatchError::Magic(0 | 1) => invalid(
            "Produce requests are only allowed to contain record batches with magic version 2",
        ),
        _ => ProduceError::CorruptMessage(format!("{e}{IN_PARTITION}")),
    })?;
    if batch.size() < total {
        return Err(invalid(
            "Produce requests are only allowed to contain exactly one record batch per partition",
        ));
    }
    // In Kafka's order: what is wrong with several of these gets the first one's code.
    if batch.header.base_offset != 0 {
        return Err(invalid(format!(
            "The baseOffset of the record batch in the append to a partition should be 0, but it is {}",
            batch.header.base_offset
        )));
    }
    check_size(batch.size(), rules)?;
    batch.verify_crc().map_err(|e| match e {
        BatchError::Crc { stored, .. } => ProduceError::CorruptMessage(format!(
            "Record is corrupt (stored crc = {stored}){IN_PARTITION}"
        )),
        e => ProduceError::CorruptMessage(format!("{e}{IN_PARTITION}")),
    })?;
    Ok(batch)
}

fn check_header(batch: &Batch, rules: &ProduceRules) -> Result<Compression, ProduceError> {
    let header = &batch.header;
    let codec = header
        .compression()
        .map_err(|e| ProduceError::UnsupportedCompressionType(e.to_string()))?;
    if codec == Compression::Zstd && !rules.allow_zstd {
        return Err(ProduceError::UnsupportedCompressionType(
            "Produce requests below version 7 are not allowed to use ZStandard compression"
                .to_owned(),
        ));
    }
    let count = header.records_count;
    let (base, last) = (header.base_offset, header.last_offset());
    if last < base {
        return Err(invalid(format!(
            "Batch has an invalid offset range: [{base}, {last}]{IN_PARTITION}"
        )));
    }
    if count <= 0 {
        return Err(invalid(format!(
            "Invalid reported count for record batch: {count}{IN_PARTITION}"
        )));
    }
    if i64::from(header.last_offset_delta) + 1 != i64::from(count) {
        return Err(invalid(format!(
            "Inconsistent batch offset range [{base}, {last}] and count of records {count}{IN_PARTITION}"
        )));
    }
    if codec == Compression::None
        && header.records_count as usize > (batch.size() - BATCH_HEADER_LEN) / RECORD_LEN_MIN
    {
        return Err(invalid(format!(
            "{} records do not fit {} bytes",
            header.records_count,
            batch.size()
        )));
    }
    if header.is_control() {
        return Err(invalid(format!(
            "Clients are not allowed to write control records{IN_PARTITION}"
        )));
    }
    check_producer(header, rules)?;
    Ok(codec)
}

/// A record's length, attributes, two deltas, two lengths and a count, each at least a byte.
const RECORD_LEN_MIN: usize = 7;

fn check_producer(header: &BatchHeader, rules: &ProduceRules) -> Result<(), ProduceError> {
    if header.is_transactional() && !rules.allow_transactional {
        return Err(ProduceError::InvalidTxnState(
            "transactional batches are not accepted here".to_owned(),
        ));
    }
    if !header.has_producer_id() {
        if header.is_transactional() {
            return Err(invalid("a transactional batch needs a producer id"));
        }
        return Ok(());
    }
    if header.base_sequence < 0 {
        return Err(invalid(format!(
            "Invalid sequence number {} in record batch with producerId {}{IN_PARTITION}",
            header.base_sequence, header.producer_id
        )));
    }
    if header.producer_epoch < 0 {
        return Err(invalid(format!(
            "invalid epoch {} in a batch of producer {}",
            header.producer_epoch, header.producer_id
        )));
    }
    Ok(())
}

/// Kafka's words for a batch with such records.
const TIMESTAMP_FAULTS: &str = "One or more records have been rejected due to invalid timestamp";

/// Why a timestamp is outside the topic's limits, if it is.
fn timestamp_fault(
    timestamp: TimestampMs,
    offset: i64,
    rules: &ProduceRules,
    now_ms: TimestampMs,
) -> Option<String> {
    if rules.timestamp_type == TimestampType::LogAppendTime || timestamp == NO_TIMESTAMP {
        return None;
    }
    let oldest = now_ms.saturating_sub(rules.timestamp_before_max_ms);
    let newest = now_ms.saturating_add(rules.timestamp_after_max_ms);
    (timestamp < oldest || timestamp > newest).then(|| {
        format!(
            "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be within \
             [{oldest}, {newest}]"
        )
    })
}

fn check_timestamp_type(header: &BatchHeader) -> Result<(), ProduceError> {
    if header.timestamp_type() != TimestampType::LogAppendTime {
        return Ok(());
    }
    Err(ProduceError::InvalidTimestamp {
        message: TIMESTAMP_FAULTS.to_owned(),
        records: vec![RecordError {
            batch_index: 0,
            message:
                "Invalid timestamp type. Producer should not set timestamp type to LogAppendTime."
                    .to_owned(),
        }],
    })
}

/// Whether the records' timestamps have to be looked at: the header promises no more than the largest one, and its
/// first one need not be any record's.
fn needs_timestamps(header: &BatchHeader, rules: &ProduceRules, now_ms: TimestampMs) -> bool {
    if rules.timestamp_type == TimestampType::LogAppendTime {
        return false;
    }
    rules.timestamp_before_max_ms < now_ms
        || timestamp_fault(header.max_timestamp, 0, rules, now_ms).is_some()
}

/// Opens all records; gives the largest timestamp.
fn check_records(
    header: BatchHeader,
    body: Bytes,
    rules: &ProduceRules,
    now_ms: TimestampMs,
) -> Result<TimestampMs, ProduceError> {
    let corrupt = |e: BatchError| invalid(e.to_string());
    let mut max_timestamp = NO_TIMESTAMP;
    let mut faults = Vec::new();
    let mut faults_total = 0_usize;
    let mut of_timestamps = false;
    for (index, record) in (0i32..).zip(RecordIter::new(header, body).map_err(corrupt)?) {
        let record = record.map_err(corrupt)?;
        let fault = if record.offset != i64::from(index) {
            Some(format!(
                "Inner record {index} does not have incremental offsets, expected offset is {index}, it is {}",
                record.offset
            ))
        } else if rules.compacted && record.key.is_none() {
            Some(format!(
                "Compacted topic cannot accept message without key{IN_PARTITION}"
            ))
        } else {
            let fault = timestamp_fault(record.timestamp, record.offset, rules, now_ms);
            of_timestamps |= fault.is_some();
            fault
        };
        max_timestamp = max_timestamp.max(record.timestamp);
        if let Some(message) = fault {
            faults_total += 1;
            if faults.len() < RECORD_ERRORS_MAX {
                faults.push(RecordError {
                    batch_index: index,
                    message,
                });
            }
        }
    }
    if faults.is_empty() {
        return Ok(max_timestamp);
    }
    // One timestamp decides, whatever else is wrong, as in Kafka.
    Err(if of_timestamps {
        ProduceError::InvalidTimestamp {
            message: TIMESTAMP_FAULTS.to_owned(),
            records: faults,
        }
    } else {
        let first: Vec<String> = faults
            .iter()
            .take(3)
            .map(|fault| {
                format!(
                    "ApiRecordError[apiError=INVALID_RECORD, recordError=RecordError(batchIndex={}, message='{}')]",
                    fault.batch_index, fault.message
                )
            })
            .collect();
        ProduceError::InvalidRecord {
            message: format!(
                "One or more records have been rejected due to {faults_total} record errors in total, and only showing \
                 the first three errors at most: [{}]",
                first.join(", ")
            ),
            records: faults,
        }
    })
}

#[cfg(test)]
mod tests;
