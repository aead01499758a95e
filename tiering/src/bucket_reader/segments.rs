//! Reads segment objects: index section and footer in one GET, log bytes by chunks that are checked.

use std::ops::Range;

use bytes::Bytes;
use strandline_log::Offset;
use strandline_log::record::{BATCH_HEADER_LEN, BatchHeader};

use super::BucketReader;
use crate::format::segment_object::{FOOTER_BYTES_GUESS, FooterRead};
use crate::format::{FormatError, PartitionKey, SegmentFooter, SegmentTail};
use crate::manifest::ManifestEntry;
use crate::store::{RemoteStore, StoreError};

/// Why a segment object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentReadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is there is not what was uploaded.
    #[error("{key} is damaged: {cause}")]
    Damaged { key: String, cause: FormatError },
    #[error("{key} is not the object that the manifest names")]
    WrongObject { key: String },
}

impl SegmentReadError {
    /// Whether the object is missing or damaged, other than the store being away.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Store(e) => e.is_lost(),
            Self::Damaged { .. } | Self::WrongObject { .. } => true,
        }
    }
}

/// Index section and footer of an entry: one GET. What comes back never changes and may be cached.
pub async fn read_segment_tail(
    store: &RemoteStore,
    partition: &PartitionKey,
    entry: &ManifestEntry,
) -> Result<SegmentTail, SegmentReadError> {
    let key = entry.key(partition);
    let bytes = store.get_range(&key, entry.tail_range()).await?;
    let tail = SegmentTail::decode(&bytes, entry.log_bytes).map_err(|cause| {
        SegmentReadError::Damaged {
            key: key.clone(),
            cause,
        }
    })?;
    check_belongs(&key, partition, entry, &tail.footer, &bytes)?;
    Ok(tail)
}

/// Log bytes of an entry, checked: the GET is widened to whole chunks. `range` counts from the entry's first byte.
pub async fn read_log_bytes(
    store: &RemoteStore,
    partition: &PartitionKey,
    entry: &ManifestEntry,
    footer: &SegmentFooter,
    range: Range<u64>,
) -> Result<Bytes, SegmentReadError> {
    let chunks = footer.chunks_covering(&range);
    if chunks.is_empty() {
        return Ok(Bytes::new());
    }
    let key = entry.key(partition);
    let wide = footer.chunk_range(chunks.start).start..footer.chunk_range(chunks.end - 1).end;
    let bytes = store
        .get_range(&key, entry.object_range(wide.clone()))
        .await?;
    footer
        .verify_chunks(chunks.start, &bytes)
        .map_err(|cause| SegmentReadError::Damaged { key, cause })?;
    let end = range.end.min(footer.log_bytes);
    Ok(bytes.slice((range.start - wide.start) as usize..(end - wide.start) as usize))
}

/// Index section and footer of an object that nothing names, and the footer's checksum: its end, then all of its tail.
pub async fn read_object_tail(
    store: &RemoteStore,
    key: &str,
    bytes: u64,
) -> Result<(SegmentTail, u32), SegmentReadError> {
    let damaged = |cause| SegmentReadError::Damaged {
        key: key.to_owned(),
        cause,
    };
    let mut last = FOOTER_BYTES_GUESS.min(bytes);
    let footer = loop {
        let end = store.get_range(key, bytes - last..bytes).await?;
        match SegmentFooter::decode_suffix(&end, bytes).map_err(damaged)? {
            FooterRead::NeedsLast(more) => last = more,
            FooterRead::Footer(footer) => break footer,
        }
    };
    let tail = store.get_range(key, footer.log_bytes..bytes).await?;
    let decoded = SegmentTail::decode(&tail, footer.log_bytes).map_err(damaged)?;
    Ok((decoded, crate::format::segment_plan::footer_crc(&tail)))
}

/// Whether an uploaded object is there in its length with the footer that the entry names (I4): one GET.
pub async fn verify_object(
    store: &RemoteStore,
    partition: &PartitionKey,
    entry: &ManifestEntry,
) -> Result<SegmentFooter, SegmentReadError> {
    let key = entry.key(partition);
    let mut last = FOOTER_BYTES_GUESS.min(entry.bytes);
    loop {
        let from = entry.bytes - last;
        let bytes = store
            .get_range(&key, entry.object_range(from..entry.bytes))
            .await?;
        let read = SegmentFooter::decode_suffix(&bytes, entry.bytes).map_err(|cause| {
            SegmentReadError::Damaged {
                key: key.clone(),
                cause,
            }
        })?;
        match read {
            FooterRead::NeedsLast(more) => last = more,
            FooterRead::Footer(footer) => {
                check_belongs(&key, partition, entry, &footer, &bytes)?;
                return Ok(footer);
            }
        }
    }
}

fn check_belongs(
    key: &str,
    partition: &PartitionKey,
    entry: &ManifestEntry,
    footer: &SegmentFooter,
    tail: &[u8],
) -> Result<(), SegmentReadError> {
    let same = footer.partition == *partition
        && footer.start == entry.start
        && footer.end == entry.end
        && footer.log_bytes == entry.log_bytes
        && crate::format::segment_plan::footer_crc(tail) == entry.footer_crc;
    if same {
        return Ok(());
    }
    Err(SegmentReadError::WrongObject {
        key: key.to_owned(),
    })
}

impl BucketReader {
    /// Index section and footer of an entry.
    pub async fn segment_tail(
        &self,
        partition: &PartitionKey,
        entry: &ManifestEntry,
    ) -> Result<SegmentTail, SegmentReadError> {
        read_segment_tail(&self.store, partition, entry).await
    }

    /// Log bytes of an entry, checked.
    pub async fn read_segment_bytes(
        &self,
        partition: &PartitionKey,
        entry: &ManifestEntry,
        footer: &SegmentFooter,
        range: Range<u64>,
    ) -> Result<Bytes, SegmentReadError> {
        read_log_bytes(&self.store, partition, entry, footer, range).await
    }

    /// Whole batches of an entry, checked, from `position` (the start of a batch) on: about `bytes_max`, at least
    /// one batch, empty at the end.
    pub async fn read_batches(
        &self,
        partition: &PartitionKey,
        entry: &ManifestEntry,
        footer: &SegmentFooter,
        position: u64,
        bytes_max: u64,
    ) -> Result<Bytes, SegmentReadError> {
        let bytes_max = bytes_max.max(BATCH_HEADER_LEN as u64);
        let wanted = position..position.saturating_add(bytes_max).min(footer.log_bytes);
        let bytes = self
            .read_segment_bytes(partition, entry, footer, wanted)
            .await?;
        let whole = whole_batches(&bytes);
        if whole > 0 || bytes.is_empty() {
            return Ok(bytes.slice(..whole));
        }
        // One batch that is longer than the limit.
        let size = BatchHeader::parse(&bytes).map_or(0, |h| h.size() as u64);
        let end = position.saturating_add(size);
        if size == 0 || end > footer.log_bytes {
            return Err(SegmentReadError::Damaged {
                key: entry.key(partition),
                cause: FormatError::Malformed {
                    what: "log bytes",
                    why: "there is no whole batch",
                },
            });
        }
        self.read_segment_bytes(partition, entry, footer, position..end)
            .await
    }
}

/// How many bytes from the front are whole batches.
fn whole_batches(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Ok(header) = BatchHeader::parse(&bytes[whole..]) {
        match whole.checked_add(header.size()) {
            Some(end) if end <= bytes.len() => whole = end,
            _ => break,
        }
    }
    whole
}

/// The position of the batch that holds an offset, or of the first one behind it, within bytes that start with a
/// batch. `None` when all of them end before it.
pub fn position_of(bytes: &[u8], offset: Offset) -> Option<usize> {
    let mut at = 0;
    while let Ok(header) = BatchHeader::parse(bytes.get(at..)?) {
        if header.last_offset() >= offset {
            return Some(at);
        }
        at += header.size();
    }
    None
}
