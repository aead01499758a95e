//! Reads one segment object through the caches: its indexes, its chunks, and what is asked of them.
//!
//! Every chunk's checksum is verified before anyone sees a byte of it. What fails is asked for once more, because a
//! connection may have damaged it, before the object counts as corrupt. Requests to the store are bounded in number;
//! reads for consumers come before reads ahead of them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use strandline_log::record::{Batch, BatchError, BatchHeader, DecodeLimit};
use strandline_log::{FileSlice, Offset, TimestampMs, TimestampOffset};
use tokio::sync::Semaphore;

use super::batches::{self, BatchesError, Found};
use super::span::Span;
use super::tail_cache::TailCache;
use crate::cache::{ChunkCache, ChunkId, FetchError, Fetched};
use crate::format::{FormatError, PartitionKey, SegmentFooter, SegmentTail};
use crate::manifest::ManifestEntry;
use crate::store::{RemoteStore, StoreError};

/// Chunks that one read waits for at most, unless a single batch needs more.
const CHUNKS_PER_READ_MAX: u64 = 4;
/// Times that a search may ask for more bytes: a batch of the largest size spans this many chunks of the smallest.
const SEARCH_STEPS_MAX: usize = 64;
/// Blocking header scans at a time.
const SCANS_MAX: usize = 16;

/// Where a range of the log lies in the store, as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    pub object: Arc<str>,
    /// Of the range within the object.
    pub position: u64,
    pub bytes: u64,
    pub log_bytes: u64,
    pub start: Offset,
    pub end: Offset,
}

impl SegmentRef {
    pub fn of(entry: &ManifestEntry, partition: &PartitionKey) -> Self {
        Self {
            object: entry.key(partition).into(),
            position: entry.position(),
            bytes: entry.bytes,
            log_bytes: entry.log_bytes,
            start: entry.start,
            end: entry.end,
        }
    }
}

/// Whole batches of one segment.
#[derive(Clone, Debug)]
pub struct SegmentRead {
    pub slices: Vec<FileSlice>,
    pub positions: Range<u64>,
    pub end_bound: Offset,
}

pub struct SegmentReader {
    store: RemoteStore,
    chunks: Arc<ChunkCache>,
    tails: Arc<TailCache>,
    chunk_bytes: u64,
    requests: Arc<Semaphore>,
    requests_max: usize,
    ahead: Arc<Semaphore>,
    pending: Arc<AtomicUsize>,
    pending_max: usize,
    scans: Semaphore,
}

impl SegmentReader {
    pub fn new(
        store: RemoteStore,
        chunks: Arc<ChunkCache>,
        tails: Arc<TailCache>,
        chunk_bytes: u64,
        requests_max: usize,
        pending_max: usize,
    ) -> Self {
        Self {
            store,
            chunks,
            tails,
            chunk_bytes,
            requests: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            ahead: Arc::new(Semaphore::new((requests_max / 2).max(1))),
            pending: Arc::default(),
            pending_max,
            scans: Semaphore::new(SCANS_MAX),
        }
    }

    pub fn chunks(&self) -> &Arc<ChunkCache> {
        &self.chunks
    }

    pub fn tails(&self) -> &Arc<TailCache> {
        &self.tails
    }

    /// Waits until no request is under way and lets none begin: the end.
    pub async fn close(&self) {
        self.ahead.close();
        let all = self
            .requests
            .acquire_many(u32::try_from(self.requests_max).unwrap_or(u32::MAX))
            .await;
        self.requests.close();
        drop(all);
    }

    /// The segment's indexes and footer.
    pub async fn tail(&self, segment: &SegmentRef) -> Result<Arc<SegmentTail>, FetchError> {
        if let Some(tail) = self.tails.cached(&segment.object) {
            return Ok(tail);
        }
        let turn = self.turn()?;
        let store = self.store.clone();
        let requests = Arc::clone(&self.requests);
        let wanted = segment.clone();
        self.tails
            .get(&segment.object, move || async move {
                let _turn = turn;
                let _permit = requests.acquire().await.map_err(closed)?;
                fetch_tail(&store, &wanted).await
            })
            .await
    }

    /// About `bytes_max` of whole batches from the one that holds `from`, at least one. `None`: the segment has no batch
    /// at or above `from`.
    pub async fn read(
        &self,
        segment: &SegmentRef,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Option<SegmentRead>, FetchError> {
        let tail = self.tail(segment).await?;
        let floor = tail.indexes.position_for(from).position;
        let bytes_max = bytes_max as u64;
        let up_to = floor.saturating_add(bytes_max.min(CHUNKS_PER_READ_MAX * self.chunk_bytes));
        let found = self
            .search(
                segment,
                &tail,
                floor,
                up_to,
                move |span, tail, log_bytes| {
                    batches::plan_read(span, &tail.indexes, log_bytes, from, bytes_max)
                },
            )
            .await?;
        Ok(found.map(|(range, span)| SegmentRead {
            slices: span.slices(range.positions.clone()),
            end_bound: range.end_bound.unwrap_or(segment.end),
            positions: range.positions,
        }))
    }

    /// The first record of the segment at or above `from` whose timestamp reaches `timestamp`.
    pub async fn find_timestamp(
        &self,
        segment: &SegmentRef,
        from: Offset,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, FetchError> {
        let tail = self.tail(segment).await?;
        let mut position = tail
            .indexes
            .position_for_timestamp(timestamp)
            .position
            .max(tail.indexes.position_for(from).position);
        // A batch may promise a timestamp that none of its records at or above `from` has; then the search goes on.
        loop {
            let begin = position;
            let wanted = move |header: &BatchHeader| {
                header.max_timestamp >= timestamp && header.last_offset() >= from
            };
            let found = self
                .search(
                    segment,
                    &tail,
                    begin,
                    begin + 1,
                    move |span, _, log_bytes| match batches::find_batch(
                        span, begin, log_bytes, wanted,
                    )? {
                        Found::Here(place) => Ok(match batches::read_batch(span, &place)? {
                            Found::Here(bytes) => Found::Here((place, bytes)),
                            Found::NeedsUpTo(position) => Found::NeedsUpTo(position),
                            Found::Nowhere => Found::Nowhere,
                        }),
                        Found::NeedsUpTo(position) => Ok(Found::NeedsUpTo(position)),
                        Found::Nowhere => Ok(Found::Nowhere),
                    },
                )
                .await?;
            let Some(((place, bytes), _)) = found else {
                return Ok(None);
            };
            // Records may have to be decompressed: not on a worker that serves others.
            let looked =
                tokio::task::spawn_blocking(move || first_reaching(bytes, from, timestamp))
                    .await
                    .map_err(FetchError::unavailable)?;
            match looked {
                Ok(Some(hit)) => return Ok(Some(hit)),
                Ok(None) => {}
                Err(error) => return Err(corrupt(segment, error)),
            }
            position = place.end();
        }
    }

    /// Starts fetching the chunk that holds `position`, if it is neither here nor under way. Returns whether it did.
    pub fn read_ahead(&self, segment: &SegmentRef, tail: &Arc<SegmentTail>, position: u64) -> bool {
        let Some(range) = self.chunk_at(tail, position) else {
            return false;
        };
        let id = chunk_id(segment, &range);
        if self.chunks.contains(&id) {
            return false;
        }
        let Ok(permit) = Arc::clone(&self.ahead).try_acquire_owned() else {
            return false;
        };
        let permit = Arc::new(permit);
        let fetch = self.fetcher(segment, range.clone());
        self.chunks.prefetch(&id, verifier(tail, &range), move || {
            let (permit, fetched) = (Arc::clone(&permit), fetch());
            async move {
                let _permit = permit;
                fetched.await
            }
        });
        true
    }

    /// All log bytes of a segment, if every chunk of it is in the cache and passes its checksums. No request.
    pub async fn cached_slices(
        &self,
        segment: &SegmentRef,
        tail: &Arc<SegmentTail>,
    ) -> Option<Vec<FileSlice>> {
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Some(range) = self.chunk_at(tail, at) {
            at = range.end;
            if !self.chunks.contains(&chunk_id(segment, &range)) {
                return None;
            }
            ranges.push(range);
        }
        let mut slices = Vec::new();
        for range in ranges {
            let id = chunk_id(segment, &range);
            let fetch = || async { Err(FetchError::NotFound) };
            let file = self.chunks.get(&id, verifier(tail, &range), fetch).await;
            slices.push(FileSlice {
                file: file.ok()?,
                position: 0,
                len: (range.end - range.start) as usize,
            });
        }
        Some(slices)
    }

    /// How many bytes one chunk of this segment has: the configured size in whole checksummed pieces.
    pub fn chunk_bytes_of(&self, tail: &SegmentTail) -> u64 {
        let piece = u64::from(tail.footer.chunk_bytes);
        self.chunk_bytes.div_ceil(piece) * piece
    }

    fn chunk_at(&self, tail: &SegmentTail, position: u64) -> Option<Range<u64>> {
        let size = self.chunk_bytes_of(tail);
        let start = position / size * size;
        (start < tail.footer.log_bytes).then(|| start..(start + size).min(tail.footer.log_bytes))
    }

    /// Loads chunks from the one that holds `from` and asks `look` until it has an answer.
    async fn search<T, L>(
        &self,
        segment: &SegmentRef,
        tail: &Arc<SegmentTail>,
        from: u64,
        mut up_to: u64,
        look: L,
    ) -> Result<Option<(T, Span)>, FetchError>
    where
        T: Send + 'static,
        L: Fn(&Span, &SegmentTail, u64) -> Result<Found<T>, BatchesError>
            + Send
            + Sync
            + Clone
            + 'static,
    {
        let log_bytes = tail.footer.log_bytes;
        let mut span = Span::default();
        for _ in 0..SEARCH_STEPS_MAX {
            let next = if span.end() == 0 { from } else { span.end() };
            span = self
                .extend(segment, tail, span, next, up_to.min(log_bytes))
                .await?;
            let (scanned, tail, look) = (span.clone(), Arc::clone(tail), look.clone());
            let _permit = self.scans.acquire().await.map_err(closed)?;
            let found = tokio::task::spawn_blocking(move || look(&scanned, &tail, log_bytes))
                .await
                .map_err(FetchError::unavailable)?;
            match found {
                Ok(Found::Here(found)) => return Ok(Some((found, span))),
                Ok(Found::Nowhere) => return Ok(None),
                Ok(Found::NeedsUpTo(position)) => up_to = position.max(span.end() + 1),
                Err(BatchesError::Io(error)) => return Err(FetchError::unavailable(error)),
                Err(error @ BatchesError::Malformed { .. }) => {
                    return Err(corrupt(segment, error));
                }
            }
            if span.end() >= log_bytes {
                return Err(corrupt(segment, "its last batch is cut short"));
            }
        }
        Err(corrupt(segment, "a batch is larger than any may be"))
    }

    async fn extend(
        &self,
        segment: &SegmentRef,
        tail: &Arc<SegmentTail>,
        mut span: Span,
        from: u64,
        up_to: u64,
    ) -> Result<Span, FetchError> {
        let mut ranges = Vec::new();
        let mut next = from;
        while let Some(range) = self
            .chunk_at(tail, next)
            .filter(|_| next < up_to || next == from)
        {
            next = range.end;
            ranges.push(range);
        }
        let files = futures::future::join_all(
            ranges
                .iter()
                .map(|range| self.chunk(segment, tail, range.clone())),
        )
        .await;
        for (range, file) in ranges.into_iter().zip(files) {
            span.push(range.start, range.end - range.start, file?);
        }
        Ok(span)
    }

    async fn chunk(
        &self,
        segment: &SegmentRef,
        tail: &Arc<SegmentTail>,
        range: Range<u64>,
    ) -> Result<Arc<std::fs::File>, FetchError> {
        let id = chunk_id(segment, &range);
        let turn = self.turn()?;
        let fetch = self.fetcher(segment, range.clone());
        self.chunks
            .get(&id, verifier(tail, &range), move || {
                let _waits = &turn;
                fetch()
            })
            .await
    }

    fn fetcher(
        &self,
        segment: &SegmentRef,
        range: Range<u64>,
    ) -> impl Fn() -> BoxFuture<'static, Result<Fetched, FetchError>> + Send + 'static {
        let (store, requests) = (self.store.clone(), Arc::clone(&self.requests));
        let segment = segment.clone();
        move || {
            let (store, requests) = (store.clone(), Arc::clone(&requests));
            let (segment, range) = (segment.clone(), range.clone());
            Box::pin(async move {
                let permit = requests.acquire_owned().await.map_err(closed)?;
                let at = segment.position + range.start..segment.position + range.end;
                let bytes = store
                    .get_range(&segment.object, at)
                    .await
                    .map_err(|error| fetch_error(&segment, error))?;
                Ok(Fetched {
                    bytes,
                    permit: Some(permit),
                })
            })
        }
    }

    fn turn(&self) -> Result<Turn, FetchError> {
        let before = self.pending.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(Arc::clone(&self.pending));
        if before >= self.pending_max {
            return Err(FetchError::unavailable(
                "more remote reads are waiting than remote.log.reader.max.pending.tasks allows",
            ));
        }
        Ok(turn)
    }
}

/// A place among the pending reads.
struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn closed(_: tokio::sync::AcquireError) -> FetchError {
    FetchError::unavailable("the tier is shutting down")
}

fn chunk_id(segment: &SegmentRef, range: &Range<u64>) -> ChunkId {
    ChunkId {
        object: Arc::clone(&segment.object),
        position: segment.position + range.start,
        len: (range.end - range.start) as u32,
    }
}

/// Checks a chunk's bytes against the footer.
fn verifier(
    tail: &Arc<SegmentTail>,
    range: &Range<u64>,
) -> impl Fn(&[u8]) -> bool + Send + Sync + 'static {
    let tail = Arc::clone(tail);
    let first = first_piece(&tail.footer, range.start);
    move |bytes| tail.footer.verify_chunks(first, bytes).is_ok()
}

fn first_piece(footer: &SegmentFooter, position: u64) -> u32 {
    (position / u64::from(footer.chunk_bytes)) as u32
}

async fn fetch_tail(store: &RemoteStore, segment: &SegmentRef) -> Result<SegmentTail, FetchError> {
    let at = segment.position + segment.log_bytes..segment.position + segment.bytes;
    let mut tried = 0;
    loop {
        tried += 1;
        let bytes = store
            .get_range(&segment.object, at.clone())
            .await
            .map_err(|error| fetch_error(segment, error))?;
        match SegmentTail::decode(&bytes, segment.log_bytes) {
            Ok(tail) => return Ok(tail),
            Err(error) if tried > 1 => return Err(format_error(segment, &error)),
            Err(error) => {
                tracing::warn!(object = %segment.object, %error, "indexes are unreadable; they are fetched again");
            }
        }
    }
}

fn format_error(segment: &SegmentRef, error: &FormatError) -> FetchError {
    corrupt(segment, error)
}

fn corrupt(segment: &SegmentRef, why: impl std::fmt::Display) -> FetchError {
    FetchError::Corrupt(
        format!(
            "object {} with offsets {} to {}: {why}",
            segment.object, segment.start, segment.end
        )
        .into(),
    )
}

fn fetch_error(segment: &SegmentRef, error: StoreError) -> FetchError {
    match error {
        StoreError::NotFound { .. } => FetchError::NotFound,
        error @ StoreError::Short { .. } => corrupt(segment, error),
        error => FetchError::unavailable(error),
    }
}

fn first_reaching(
    bytes: Bytes,
    from: Offset,
    timestamp: TimestampMs,
) -> Result<Option<TimestampOffset>, BatchError> {
    let batch = Batch::parse(bytes)?;
    for record in batch.records(DecodeLimit::default())? {
        let record = record?;
        if record.offset >= from && record.timestamp >= timestamp {
            return Ok(Some(TimestampOffset {
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: batch.header.partition_leader_epoch,
            }));
        }
    }
    Ok(None)
}
