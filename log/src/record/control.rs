//! Control records: the markers that end a transaction.
//!
//! Key: version i16 (0), type i16 (0 abort, 1 commit). Value of both: version i16 (0), coordinator epoch i32.
//! A control batch holds one of them. Newer versions only add fields at the end.

use bytes::Bytes;

use super::attributes::TimestampType;
use super::batch::Batch;
use super::builder::{BatchBuilder, BatchOptions, NewRecord};
use super::compression::DecodeLimit;
use super::error::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecordType {
    Abort,
    Commit,
    /// A type of another subsystem or a later version. It ends no transaction.
    Other(i16),
}

impl ControlRecordType {
    pub fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }

    pub fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        }
    }

    /// Reads the type from a control record's key.
    pub fn parse_key(key: &[u8]) -> Result<Self, BatchError> {
        match key {
            [v0, v1, t0, t1, ..] => {
                if i16::from_be_bytes([*v0, *v1]) < 0 {
                    return Err(BatchError::Control("negative key version"));
                }
                Ok(Self::from_id(i16::from_be_bytes([*t0, *t1])))
            }
            _ => Err(BatchError::Control("key is cut off")),
        }
    }

    pub fn encode_key(self) -> [u8; 4] {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&self.id().to_be_bytes());
        key
    }
}

/// The end of one producer's transaction on one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTxnMarker {
    pub control_type: ControlRecordType,
    pub coordinator_epoch: i32,
}

impl EndTxnMarker {
    /// Reads key and value; `None` when the record is no end of a transaction.
    pub fn parse(key: &[u8], value: &[u8]) -> Result<Option<Self>, BatchError> {
        let control_type = ControlRecordType::parse_key(key)?;
        if matches!(control_type, ControlRecordType::Other(_)) {
            return Ok(None);
        }
        let [v0, v1, a, b, c, d, ..] = value else {
            return Err(BatchError::Control("value is cut off"));
        };
        if i16::from_be_bytes([*v0, *v1]) < 0 {
            return Err(BatchError::Control("negative value version"));
        }
        Ok(Some(Self {
            control_type,
            coordinator_epoch: i32::from_be_bytes([*a, *b, *c, *d]),
        }))
    }

    /// Reads the marker of a control batch; `None` when it holds another control record or none.
    pub fn of_batch(batch: &Batch) -> Result<Option<Self>, BatchError> {
        // A marker takes tens of bytes; whoever compresses one gets no more.
        const LIMIT: DecodeLimit = DecodeLimit::bytes(64 << 10);
        let Some(record) = batch.records(LIMIT)?.next().transpose()? else {
            return Ok(None);
        };
        let key = record.key.ok_or(BatchError::Control("key is null"))?;
        Self::parse(&key, &record.value.unwrap_or_default())
    }

    pub fn encode_value(&self) -> [u8; 6] {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        value
    }

    /// The control batch that a coordinator writes.
    pub fn to_batch(
        &self,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
        timestamp: TimestampMs,
    ) -> Bytes {
        let mut builder = BatchBuilder::new(BatchOptions {
            timestamp_type: TimestampType::CreateTime,
            producer_id,
            producer_epoch,
            is_transactional: true,
            is_control: true,
            base_offset,
            leader_epoch,
            ..BatchOptions::default()
        });
        builder
            .append(NewRecord {
                timestamp,
                key: Some(Bytes::copy_from_slice(&self.control_type.encode_key())),
                value: Some(Bytes::copy_from_slice(&self.encode_value())),
                headers: Vec::new(),
            })
            .expect("a marker fits every batch");
        builder.build()
    }
}
