//! Fetching what a sequential reader will ask for next, also in the segments behind the one that it reads.

use std::sync::Arc;

use strandline_log::Offset;

use super::{RemotePartition, RemoteReadError};
use crate::core::Core;
use crate::format::PartitionKey;
use crate::manifest::{Manifest, ManifestStore};
use crate::reader::{ChunkPlace, SegmentRead, SegmentRef};

impl RemotePartition {
    /// Starts fetching what a sequential reader will ask for next.
    pub(super) async fn read_ahead(
        &self,
        manifest: &Arc<Manifest>,
        segment: &SegmentRef,
        read: &SegmentRead,
    ) {
        let window_max = self.core.config.read_ahead_chunks_max;
        let Some(tail) = self.core.reader.tails().cached(&segment.object) else {
            return;
        };
        if window_max == 0 || read.positions.is_empty() {
            return;
        }
        let chunk_bytes = self.core.reader.chunk_bytes_of(&tail);
        let chunk = (read.positions.end - 1) / chunk_bytes;
        let chunks = segment.log_bytes.div_ceil(chunk_bytes);
        let place = |segment_start, chunk| ChunkPlace {
            segment_start,
            chunk,
        };
        let at = place(segment.start, chunk);
        let next = if chunk + 1 < chunks {
            place(segment.start, chunk + 1)
        } else {
            place(segment.end, 0)
        };
        let window = self.ahead.lock().window(at, next, window_max);
        let within = (window as u64).min(chunks - chunk - 1);
        for ahead in 1..=within {
            let position = (chunk + ahead) * chunk_bytes;
            if self.core.reader.read_ahead(segment, &tail, position) {
                self.core.metrics.read_ahead_chunks.inc();
            }
        }
        if window as u64 > within {
            self.read_ahead_behind(manifest, segment.end, window as u64 - within);
        }
    }

    /// Goes on in the segments behind `end`, whose indexes may have to be fetched first.
    fn read_ahead_behind(&self, manifest: &Arc<Manifest>, end: Offset, window: u64) {
        if end >= manifest.end_offset() {
            return;
        }
        let Some(place) = self.core.boundary_read_ahead() else {
            return;
        };
        let ahead = BehindBoundary {
            core: Arc::clone(&self.core),
            manifest: Arc::clone(manifest),
            manifests: Arc::clone(&self.manifests),
            key: self.key.clone(),
        };
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = ahead.fetch(end, window).await {
                tracing::debug!(%error, "reading ahead failed");
            }
        });
    }
}

/// Reading ahead in the next segments, away from the reader who made it worth while.
struct BehindBoundary {
    core: Arc<Core>,
    manifest: Arc<Manifest>,
    manifests: Arc<ManifestStore>,
    key: PartitionKey,
}

impl BehindBoundary {
    async fn fetch(&self, from: Offset, mut chunks_left: u64) -> Result<(), RemoteReadError> {
        let entries_max = chunks_left as usize;
        let entries = self
            .manifests
            .entries_from(&self.manifest, from, entries_max)
            .await?;
        for entry in &entries {
            let segment = SegmentRef::of(entry, &self.key);
            let tail = self.core.reader.tail(&segment).await?;
            let chunk_bytes = self.core.reader.chunk_bytes_of(&tail);
            for chunk in 0..segment.log_bytes.div_ceil(chunk_bytes) {
                if chunks_left == 0 || self.core.is_stopping() {
                    return Ok(());
                }
                chunks_left -= 1;
                if self
                    .core
                    .reader
                    .read_ahead(&segment, &tail, chunk * chunk_bytes)
                {
                    self.core.metrics.read_ahead_chunks.inc();
                }
            }
        }
        Ok(())
    }
}
