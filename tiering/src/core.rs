//! What all parts of one tier share. Not public: [`Tier`](crate::tier::Tier) is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use strandline_log::TopicId;
use tokio::sync::{Notify, watch};

use crate::bucket_reader::BucketError;
use crate::clock::Clock;
use crate::config::TierConfig;
use crate::deletion_journal::DeletionJournal;
use crate::format::TopicMarker;
use crate::garbage::Garbage;
use crate::id_source::IdSource;
use crate::manifest::PageCache;
use crate::metrics::TierMetrics;
use crate::reader::SegmentReader;
use crate::scrub::ScrubBudget;
use crate::store::{Purpose, RemoteStore, StoreError};
use crate::supervise::Stop;
use crate::uploader::{CopyQuota, Pace, Schedule};

/// Read-ahead over segment boundaries that runs at the same time.
const BOUNDARY_READ_AHEADS_MAX: usize = 16;

pub(crate) struct Core {
    pub config: TierConfig,
    pub cluster_id: String,
    pub store: RemoteStore,
    pub pages: PageCache,
    pub ids: IdSource,
    pub clock: Clock,
    pub metrics: TierMetrics,
    pub reader: SegmentReader,
    pub schedule: Mutex<Schedule>,
    pub schedule_changed: Notify,
    pub quota: Arc<Mutex<CopyQuota>>,
    pub garbage: Garbage,
    pub scrub_budget: Mutex<ScrubBudget>,
    /// Deleted topics that the bucket does not know of yet.
    pub journal: Arc<DeletionJournal>,
    pub stop: watch::Sender<bool>,
    /// Whether the store honours conditional writes: `None` until it was asked.
    probed: tokio::sync::Mutex<Option<Result<(), Arc<str>>>>,
    is_probed: AtomicBool,
    /// Why it cannot be used, for the health report.
    pub store_error: Mutex<Option<Arc<str>>>,
    /// The partition counts of topic markers that this process has written.
    markers: Mutex<HashMap<TopicId, i32>>,
    boundary_read_aheads: AtomicUsize,
    /// Makes the logs' starts outlive a crash. Unset: nothing expires while the store is away.
    pub keep_log_starts: OnceLock<KeepLogStarts>,
}

/// Blocks on a small file.
pub type KeepLogStarts = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The store cannot be used for tiering, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Unusable(Arc<str>),
}

impl Core {
    pub fn new(
        config: TierConfig,
        cluster_id: String,
        store: RemoteStore,
        ids: IdSource,
        clock: Clock,
        metrics: TierMetrics,
        reader: SegmentReader,
    ) -> Self {
        let budget = ScrubBudget::new(
            config.scrub_requests_per_second_max,
            config.scrub_bytes_per_second_max,
        );
        Self {
            scrub_budget: Mutex::new(budget),
            quota: Arc::new(Mutex::new(CopyQuota::new(config.copy_bytes_per_second_max))),
            journal: Arc::new(DeletionJournal::new(&config.state_dir)),
            config,
            cluster_id,
            store,
            pages: PageCache::default(),
            ids,
            clock,
            metrics,
            reader,
            schedule: Mutex::default(),
            schedule_changed: Notify::new(),
            garbage: Garbage::default(),
            stop: watch::channel(false).0,
            probed: tokio::sync::Mutex::default(),
            is_probed: AtomicBool::new(false),
            store_error: Mutex::default(),
            markers: Mutex::default(),
            boundary_read_aheads: AtomicUsize::new(0),
            keep_log_starts: OnceLock::new(),
        }
    }

    pub fn stop(&self) -> Stop {
        Stop::new(self.stop.subscribe())
    }

    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// The rate that all uploads share.
    pub fn pace(&self) -> Pace {
        Pace::new(Arc::clone(&self.quota), self.clock.clone(), self.stop())
    }

    /// A number in 0..1 for jitter.
    pub fn random_fraction(&self) -> f64 {
        (self.ids.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Proves once that conditional writes work. A store that does not answer is asked again next time.
    pub async fn probe(&self) -> Result<(), ProbeError> {
        let mut probed = self.probed.lock().await;
        if let Some(known) = &*probed {
            return known.clone().map_err(ProbeError::Unusable);
        }
        let outcome = self
            .store
            .probe_conditional_writes(&self.cluster_id, &self.ids)
            .await;
        match outcome {
            Ok(()) => {
                *probed = Some(Ok(()));
                self.is_probed.store(true, Ordering::Release);
                *self.store_error.lock() = None;
                Ok(())
            }
            Err(error @ StoreError::NotSupported { .. }) => {
                let why: Arc<str> = error.to_string().into();
                tracing::error!(%error, "the object store cannot be used for tiering");
                *self.store_error.lock() = Some(Arc::clone(&why));
                *probed = Some(Err(Arc::clone(&why)));
                Err(ProbeError::Unusable(why))
            }
            Err(error) => {
                *self.store_error.lock() = Some(error.to_string().into());
                Err(error.into())
            }
        }
    }

    /// Whether the store was used, and can be.
    pub fn is_probed(&self) -> bool {
        self.is_probed.load(Ordering::Acquire)
    }

    /// Sees to it that the bucket can name the topic, before anything of it is there.
    pub async fn ensure_marker(
        &self,
        topic: &str,
        topic_id: TopicId,
        partitions: i32,
    ) -> Result<(), BucketError> {
        let known = self.markers.lock().get(&topic_id).copied();
        if known.is_some_and(|known| known >= partitions) {
            return Ok(());
        }
        let marker = TopicMarker {
            topic: topic.to_owned(),
            topic_id,
            partitions,
            created_ms: self.clock.now_ms(),
            deleted_ms: None,
        };
        let store = self.store.with_purpose(Purpose::Manifest);
        marker.ensure(&store, &self.cluster_id).await?;
        let mut markers = self.markers.lock();
        let known = markers.entry(topic_id).or_insert(0);
        *known = (*known).max(partitions);
        Ok(())
    }

    /// A place among the read-aheads over boundaries.
    pub fn boundary_read_ahead(self: &Arc<Self>) -> Option<BoundaryReadAhead> {
        let before = self.boundary_read_aheads.fetch_add(1, Ordering::Relaxed);
        let place = BoundaryReadAhead(Arc::clone(self));
        (before < BOUNDARY_READ_AHEADS_MAX).then_some(place)
    }
}

pub(crate) struct BoundaryReadAhead(Arc<Core>);

impl Drop for BoundaryReadAhead {
    fn drop(&mut self) {
        self.0.boundary_read_aheads.fetch_sub(1, Ordering::Relaxed);
    }
}
