//! The Fetch response, hand-written: everything but the records, which the server sends as file slices.
//!
//! The answer is cut behind each partition's length of records. So `n` partitions make `n + 1` chunks, and the server
//! sends chunk 0, the records of the first partition, chunk 1, the records of the second, and so on. The records must
//! be exactly as long as `records_len` says; a partition without records has a section of 0 bytes.
//!
//! ```text
//! throttle_time_ms: i32
//! error_code: i16, session_id: i32                                   7+
//! responses: array
//!   topic: string                                                    0-12
//!   topic_id: uuid                                                   13+
//!   partitions: array
//!     partition_index: i32, error_code: i16, high_watermark: i64
//!     last_stable_offset: i64
//!     log_start_offset: i64                                          5+
//!     aborted_transactions: nullable array of (i64, i64)
//!     preferred_read_replica: i32                                    11+
//!     records: length, then the gap
//!     tags 0 diverging_epoch, 1 current_leader, 2 snapshot_id        12+
//! tag 0 node_endpoints                                               16+
//! ```
//!
//! From version 12 on, lengths are compact and every struct ends with tagged fields.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, NodeEndpoint, SnapshotId,
};
use uuid::Uuid;

use crate::response::put_response_header;
use crate::{Api, EncodeError};

/// The first version with compact lengths and tagged fields.
const FLEXIBLE_SINCE: i16 = 12;

/// A Fetch response without its records.
#[derive(Clone, Default, Debug)]
pub struct FetchResponseParts {
    pub throttle_time_ms: i32,
    /// Not sent below version 7.
    pub error_code: i16,
    /// Not sent below version 7.
    pub session_id: i32,
    pub topics: Vec<FetchTopicPart>,
    /// Where the leaders of `current_leader` are; not sent below version 16.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Default, Debug)]
pub struct FetchTopicPart {
    /// Sent below version 13.
    pub topic: TopicName,
    /// Sent from version 13 on.
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartitionPart>,
}

#[derive(Clone, Debug)]
pub struct FetchPartitionPart {
    pub partition_index: i32,
    pub error_code: i16,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging_epoch: Option<EpochEndOffset>,
    pub current_leader: Option<LeaderIdAndEpoch>,
    pub snapshot_id: Option<SnapshotId>,
    /// `None` to readers of uncommitted records.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    pub preferred_read_replica: i32,
    /// The bytes of records that the server sends behind this partition's chunk.
    pub records_len: usize,
}

impl Default for FetchPartitionPart {
    fn default() -> Self {
        Self {
            partition_index: 0,
            error_code: 0,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            current_leader: None,
            snapshot_id: None,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records_len: 0,
        }
    }
}

/// An encoded response with gaps.
#[derive(Clone, Debug)]
pub struct EncodedFetchResponse {
    /// One more than there are partitions. The first starts with the frame's length.
    pub chunks: Vec<Bytes>,
    /// The bytes of all chunks and all records, the frame's length included.
    pub total_bytes: usize,
}

/// Encodes everything but the records.
pub fn encode_fetch_response(
    version: i16,
    correlation_id: i32,
    parts: &FetchResponseParts,
) -> Result<EncodedFetchResponse, EncodeError> {
    let fail = |reason: String| EncodeError {
        api_key: Api::Fetch.key(),
        version,
        reason,
    };
    if !Api::Fetch.served().contains(version) {
        return Err(fail("the version is not served".to_owned()));
    }
    let partitions_count: usize = parts
        .topics
        .iter()
        .map(|topic| topic.partitions.len())
        .sum();
    let mut encoder = Encoder {
        buffer: BytesMut::with_capacity(64 + 48 * parts.topics.len() + 64 * partitions_count),
        cuts: Vec::with_capacity(partitions_count),
        records_bytes: 0,
        version,
        flexible: version >= FLEXIBLE_SINCE,
    };
    encoder.buffer.put_i32(0);
    put_response_header(
        &mut encoder.buffer,
        correlation_id,
        if encoder.flexible { 1 } else { 0 },
    );
    encoder.response(parts).map_err(fail)?;

    let Encoder {
        mut buffer,
        cuts,
        records_bytes,
        ..
    } = encoder;
    let total_bytes = buffer.len() + records_bytes;
    let frame_len = i32::try_from(total_bytes - 4)
        .map_err(|_| fail(format!("{total_bytes} bytes do not fit a frame")))?;
    buffer[..4].copy_from_slice(&frame_len.to_be_bytes());
    let bytes = buffer.freeze();
    let mut chunks = Vec::with_capacity(cuts.len() + 1);
    let mut start = 0;
    for cut in cuts {
        chunks.push(bytes.slice(start..cut));
        start = cut;
    }
    chunks.push(bytes.slice(start..));
    Ok(EncodedFetchResponse {
        chunks,
        total_bytes,
    })
}

struct Encoder {
    buffer: BytesMut,
    /// Where the records go.
    cuts: Vec<usize>,
    records_bytes: usize,
    version: i16,
    flexible: bool,
}

impl Encoder {
    fn response(&mut self, parts: &FetchResponseParts) -> Result<(), String> {
        self.buffer.put_i32(parts.throttle_time_ms);
        if self.version >= 7 {
            self.buffer.put_i16(parts.error_code);
            self.buffer.put_i32(parts.session_id);
        }
        self.count(parts.topics.len())?;
        for topic in &parts.topics {
            if self.version <= 12 {
                self.string(&topic.topic.0)?;
            } else {
                self.buffer.put_slice(topic.topic_id.as_bytes());
            }
            self.count(topic.partitions.len())?;
            for partition in &topic.partitions {
                self.partition(partition)?;
            }
            self.no_tags();
        }
        if self.version >= 16 && !parts.node_endpoints.is_empty() {
            self.varint(1);
            let mut value = self.value();
            value.count(parts.node_endpoints.len())?;
            for node in &parts.node_endpoints {
                value.buffer.put_i32(node.node_id.0);
                value.string(&node.host)?;
                value.buffer.put_i32(node.port);
                match &node.rack {
                    Some(rack) => value.string(rack)?,
                    None => value.varint(0),
                }
                value.no_tags();
            }
            self.tag(0, &value.buffer);
        } else {
            self.no_tags();
        }
        Ok(())
    }

    fn partition(&mut self, partition: &FetchPartitionPart) -> Result<(), String> {
        self.buffer.put_i32(partition.partition_index);
        self.buffer.put_i16(partition.error_code);
        self.buffer.put_i64(partition.high_watermark);
        self.buffer.put_i64(partition.last_stable_offset);
        if self.version >= 5 {
            self.buffer.put_i64(partition.log_start_offset);
        }
        match &partition.aborted_transactions {
            Some(aborted) => {
                self.count(aborted.len())?;
                for transaction in aborted {
                    self.buffer.put_i64(transaction.producer_id.0);
                    self.buffer.put_i64(transaction.first_offset);
                    self.no_tags();
                }
            }
            None if self.flexible => self.varint(0),
            None => self.buffer.put_i32(-1),
        }
        if self.version >= 11 {
            self.buffer.put_i32(partition.preferred_read_replica);
        }
        self.count(partition.records_len)?;
        self.cuts.push(self.buffer.len());
        self.records_bytes += partition.records_len;
        if self.flexible {
            self.partition_tags(partition);
        }
        Ok(())
    }

    fn partition_tags(&mut self, partition: &FetchPartitionPart) {
        let FetchPartitionPart {
            diverging_epoch,
            current_leader,
            snapshot_id,
            ..
        } = partition;
        let count = usize::from(diverging_epoch.is_some())
            + usize::from(current_leader.is_some())
            + usize::from(snapshot_id.is_some());
        self.varint(count as u32);
        if let Some(epoch) = diverging_epoch {
            let mut value = self.value();
            value.buffer.put_i32(epoch.epoch);
            value.buffer.put_i64(epoch.end_offset);
            value.no_tags();
            self.tag(0, &value.buffer);
        }
        if let Some(leader) = current_leader {
            let mut value = self.value();
            value.buffer.put_i32(leader.leader_id.0);
            value.buffer.put_i32(leader.leader_epoch);
            value.no_tags();
            self.tag(1, &value.buffer);
        }
        if let Some(snapshot) = snapshot_id {
            let mut value = self.value();
            value.buffer.put_i64(snapshot.end_offset);
            value.buffer.put_i32(snapshot.epoch);
            value.no_tags();
            self.tag(2, &value.buffer);
        }
    }

    /// An encoder of one tagged value, whose size must be known before it is written.
    fn value(&self) -> Encoder {
        Encoder {
            buffer: BytesMut::with_capacity(32),
            cuts: Vec::new(),
            records_bytes: 0,
            version: self.version,
            flexible: self.flexible,
        }
    }

    fn tag(&mut self, tag: u32, value: &[u8]) {
        self.varint(tag);
        self.varint(value.len() as u32);
        self.buffer.put_slice(value);
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    /// The count of an array or the length of records.
    fn count(&mut self, count: usize) -> Result<(), String> {
        let length =
            i32::try_from(count).map_err(|_| format!("a length of {count} does not fit"))?;
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.buffer.put_i32(length);
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), String> {
        let length = i16::try_from(text.len())
            .map_err(|_| format!("a text of {} bytes does not fit", text.len()))?;
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.buffer.put_i16(length);
        }
        self.buffer.put_slice(text.as_bytes());
        Ok(())
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }
}
