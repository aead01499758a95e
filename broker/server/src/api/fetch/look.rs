//! One look at one partition: what a fetch at this position finds now.

use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::fetch_response::EpochEndOffset;
use strandline_core::fetch_session::{Candidate, PartitionResult, SessionTopic};
use strandline_core::metadata::MetadataImage;
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{FileSlice, Log, LogRead, Offset, ReadError};
use strandline_tiering::RemoteReadError;
use strandline_wire::KafkaError;

use super::sessions::SessionFetch;
use crate::api::Apis;
use crate::errors;
use crate::partition::Partition;
use crate::tier_driver::PendingRemoteRead;

/// What was found.
pub struct Look {
    pub candidate: Candidate,
    pub partition: Option<Arc<Partition>>,
    pub error: Option<KafkaError>,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start_offset: Offset,
    pub diverging_epoch: Option<EpochEndOffset>,
    pub aborted: Vec<AbortedTxn>,
    pub slices: Vec<FileSlice>,
    pub bytes: usize,
    /// What was found was appended not long ago.
    pub recent: bool,
    /// A download is under way; it goes on whether or not anyone waits.
    pub remote: Option<PendingRemoteRead>,
    /// There is more than was read: the answer was full, or the download is not done.
    pub unread: bool,
}

/// What all looks of one fetch share.
pub struct Terms<'a> {
    pub apis: &'a Apis,
    pub image: &'a MetadataImage,
    pub fetch: &'a SessionFetch,
    pub read_committed: bool,
    /// A follower's fetch, which no replica set here knows.
    pub from_follower: bool,
}

impl Look {
    fn new(candidate: Candidate) -> Self {
        Self {
            candidate,
            partition: None,
            error: None,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging_epoch: None,
            aborted: Vec::new(),
            slices: Vec::new(),
            bytes: 0,
            recent: false,
            remote: None,
            unread: false,
        }
    }

    pub fn result(&self) -> PartitionResult {
        PartitionResult {
            error_code: self.error.map_or(0, |error| error.code()),
            high_watermark: self.high_watermark,
            log_start_offset: self.log_start_offset,
            records_len: self.bytes,
            more: self.unread,
            directive: self.diverging_epoch.is_some(),
        }
    }

    /// An error or a hint is answered at once, whatever the fetch waits for.
    pub fn is_urgent(&self) -> bool {
        self.error.is_some() || self.diverging_epoch.is_some()
    }

    fn fail(&mut self, error: KafkaError) {
        self.error = Some(error);
        self.slices.clear();
        self.bytes = 0;
        self.unread = false;
    }

    /// Takes what a finished download brought, up to the bytes that are left for it.
    pub async fn take_remote(
        &mut self,
        terms: &Terms<'_>,
        deadline: Instant,
        bytes_left: usize,
        first: bool,
    ) {
        let Some(pending) = self.remote.take() else {
            return;
        };
        let remote_reads = &terms.apis.remote_reads;
        match tokio::time::timeout_at(deadline.into(), remote_reads.finish(pending)).await {
            // Not an error: the download goes on, and the next fetch finds it.
            Err(_) => {}
            Ok(Ok(read)) if read.slices.is_empty() => {
                self.go_on_locally(terms, read.first_offset, bytes_left, first)
                    .await;
            }
            Ok(Ok(read)) if read.bytes <= bytes_left || first => {
                self.bytes = read.bytes;
                self.aborted.clone_from(&read.aborted);
                self.slices.clone_from(&read.slices);
                self.unread = false;
            }
            Ok(Ok(_)) => {}
            Ok(Err(None)) => {}
            Ok(Err(Some(RemoteReadError::OutOfRange { .. }))) => self.out_of_remote_range(),
            Ok(Err(Some(error))) => {
                tracing::warn!(
                    partition = %self.candidate.partition,
                    offset = self.candidate.position.fetch_offset,
                    %error,
                    "a remote read failed for longer than consumers are kept waiting"
                );
                self.fail(errors::remote_read_error(&error));
            }
        }
    }

    /// Behind a gap that reaches to the end of the remote log.
    async fn go_on_locally(
        &mut self,
        terms: &Terms<'_>,
        from: Offset,
        bytes_left: usize,
        first: bool,
    ) {
        self.unread = false;
        let Some(partition) = self.partition.clone() else {
            return;
        };
        let bound = self.bound(terms);
        if from < bound {
            let max_bytes = usize::try_from(self.candidate.position.max_bytes).unwrap_or(0);
            let max_bytes = bytes_left.min(max_bytes);
            let read = read_local(terms.apis, &partition, from, bound, max_bytes, first).await;
            self.take_local(terms, &partition, from, read);
        }
    }

    /// What this reader may see of the log.
    fn bound(&self, terms: &Terms<'_>) -> Offset {
        match terms.read_committed {
            true => self.last_stable_offset,
            false => self.high_watermark,
        }
    }

    /// False: local retention has just dropped it.
    fn take_local(
        &mut self,
        terms: &Terms<'_>,
        partition: &Partition,
        from: Offset,
        read: Result<LogRead, ReadError>,
    ) -> bool {
        let log = partition.log();
        match read {
            Ok(read) => {
                self.unread = read.is_empty();
                self.bytes = read.bytes;
                self.recent = from >= partition.hot_start();
                if terms.read_committed {
                    match log.aborted_transactions(from, read.end_bound) {
                        Ok(aborted) => self.aborted = aborted,
                        Err(error) => self.fail(errors::log_error(&error)),
                    }
                }
                self.slices = read.slices;
            }
            Err(error) => match errors::read_error(&error) {
                Some(code) => {
                    partition.metrics().fetch_failed.inc();
                    if code != KafkaError::OffsetOutOfRange {
                        tracing::warn!(partition = %log.topic_partition(), offset = from, %error, "a local read failed");
                    }
                    self.fail(code);
                }
                None => return false,
            },
        }
        true
    }

    /// The remote log does not hold the offset. The truth is the log start, which retention may have just moved; an
    /// offset between the two tiers' ends that neither has yet is asked for again.
    fn out_of_remote_range(&mut self) {
        let Some(partition) = &self.partition else {
            return;
        };
        if self.candidate.position.fetch_offset < partition.log().log_start_offset() {
            self.fail(KafkaError::OffsetOutOfRange);
        }
    }
}

/// Looks at one partition. `max_bytes`: what is left of the answer; `first`: nothing was found yet, so one whole batch is
/// due however large.
pub async fn look(terms: &Terms<'_>, candidate: Candidate, max_bytes: usize, first: bool) -> Look {
    let mut look = Look::new(candidate);
    let position = look.candidate.position;
    let resolved = match &look.candidate.topic {
        SessionTopic::Name(name) => {
            terms
                .apis
                .replicas
                .resolve(terms.image, name, look.candidate.partition)
        }
        SessionTopic::Id(id) => match terms.image.topics.get_by_id(id) {
            Some(topic) => {
                terms
                    .apis
                    .replicas
                    .resolve(terms.image, &topic.name, look.candidate.partition)
            }
            None => Err(KafkaError::UnknownTopicId),
        },
    };
    let partition = match resolved {
        Ok(partition) => partition,
        Err(error) => {
            look.fail(error);
            return look;
        }
    };
    // Watched before it is looked at: what is appended in between marks it again.
    terms
        .apis
        .sessions
        .watch(terms.fetch, look.candidate.slot, &partition);
    look.partition = Some(Arc::clone(&partition));
    if let Err(error) = partition.check_leader(position.current_leader_epoch) {
        look.fail(error);
        return look;
    }
    if terms.from_follower {
        look.fail(KafkaError::NotLeaderOrFollower);
        return look;
    }
    let log = partition.log();
    look.high_watermark = log.high_watermark();
    look.last_stable_offset = log.last_stable_offset();
    look.log_start_offset = log.log_start_offset();
    let from = position.fetch_offset;
    if position.last_fetched_epoch >= 0
        && let Some(diverging) = diverging_epoch(log, position.last_fetched_epoch, from)
    {
        look.diverging_epoch = Some(diverging);
        return look;
    }
    if from < look.log_start_offset || from > log.log_end_offset() {
        partition.metrics().fetch_failed.inc();
        look.fail(KafkaError::OffsetOutOfRange);
        return look;
    }
    let bound = look.bound(terms);
    if from >= bound {
        return look;
    }
    let max_bytes = max_bytes.min(usize::try_from(position.max_bytes).unwrap_or(0));
    if max_bytes == 0 && !first {
        look.unread = true;
        return look;
    }
    if from < log.local_log_start_offset() {
        start_remote(terms, &mut look, &partition, max_bytes);
        return look;
    }
    let read = read_local(terms.apis, &partition, from, bound, max_bytes, first).await;
    if !look.take_local(terms, &partition, from, read) {
        start_remote(terms, &mut look, &partition, max_bytes);
    }
    look
}

fn start_remote(terms: &Terms<'_>, look: &mut Look, partition: &Arc<Partition>, max_bytes: usize) {
    look.unread = true;
    match partition.remote() {
        Some(remote) => {
            let from = look.candidate.position.fetch_offset;
            look.remote = Some(
                terms
                    .apis
                    .remote_reads
                    .start(&remote, from, max_bytes.max(1)),
            );
        }
        // Below the local start of a partition that has no remote tier: it can only be gone.
        None => look.fail(KafkaError::OffsetOutOfRange),
    }
}

/// Reads on the spot what was appended not long ago, anything else where the disk may be waited for.
async fn read_local(
    apis: &Apis,
    partition: &Arc<Partition>,
    from: Offset,
    bound: Offset,
    max_bytes: usize,
    first: bool,
) -> Result<LogRead, ReadError> {
    if from >= partition.hot_start() {
        return partition.log().read(from, bound, max_bytes, first);
    }
    let log = Arc::clone(partition.log());
    match apis
        .cold_reads
        .run(move || log.read(from, bound, max_bytes, first))
        .await
    {
        Some(read) => read,
        None => Err(ReadError::Storage(strandline_log::LogError::Closed)),
    }
}

fn diverging_epoch(log: &Log, last_fetched_epoch: i32, from: Offset) -> Option<EpochEndOffset> {
    let (epoch, end) = log.epoch_end_offset(last_fetched_epoch)?;
    (epoch < last_fetched_epoch || end < from).then(|| {
        EpochEndOffset::default()
            .with_epoch(epoch)
            .with_end_offset(end)
    })
}
