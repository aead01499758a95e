//! The records: appended, replicated, committed, deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use rand::{Rng, RngExt};
use strandline_log::record::{Batch, BatchBuilder, BatchOptions, NewRecord, ValidBatch};
use strandline_log::{LeaderAppend, LeaderEpoch, Log, Offset, TierStart, TierView};

use super::{Committed, Tiering, World};

impl World {
    pub fn append(&mut self, id: usize) {
        let broker = &self.brokers[id];
        if !broker.settled {
            return;
        }
        let (Some(log), epoch) = (broker.log.clone(), broker.epoch) else {
            return;
        };
        for _ in 0..self.rng.random_range(1..4) {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            for _ in 0..self.rng.random_range(1..4) {
                let mut value = vec![0; self.rng.random_range(20..200)];
                self.rng.fill_bytes(&mut value);
                builder
                    .append(NewRecord {
                        timestamp: self.now_ms() - self.written_before_ms,
                        key: None,
                        value: Some(value.into()),
                        headers: Vec::new(),
                    })
                    .expect("fits");
            }
            let batch = Batch::parse(builder.build()).expect("valid");
            append_batch(&log, batch, epoch, self.now_ms());
        }
        let end = log.log_end_offset();
        self.note(format!("broker {id} appends up to {end}"));
    }

    pub fn replicate(&mut self, id: usize) {
        let Some((leader, leader_log)) = self.live_leader() else {
            return;
        };
        let (leader_id, leader_log) = (leader.id, Arc::clone(leader_log));
        let broker = &self.brokers[id];
        let Some(log) = broker.log.clone() else {
            return;
        };
        if id == leader_id || broker.epoch != self.epoch || broker.led.is_some() {
            return;
        }
        let now_ms = self.now_ms();
        let local_start = leader_log.local_log_start_offset();
        if broker.must_truncate {
            let common = common_end(&log, &leader_log);
            log.truncate_to(common, now_ms).expect("cuts");
        }
        if log.log_end_offset() < local_start {
            // As a follower learns from the tier: its local part begins where the leader's does.
            let start = TierStart {
                log_start: leader_log.log_start_offset(),
                offset: local_start,
                epochs: leader_log.epoch_entries(),
                producer_snapshot: Bytes::new(),
            };
            log.start_from_tier(&start, now_ms).expect("starts");
            self.brokers[id].log_start_checkpoint = start.log_start;
        }
        self.brokers[id].must_truncate = false;
        for batch in local_batches(&leader_log, log.log_end_offset()) {
            let epoch = batch.header.partition_leader_epoch;
            append_batch(&log, batch, epoch, now_ms);
        }
        log.set_high_watermark(leader_log.high_watermark());
        let log_start = leader_log.log_start_offset();
        if log_start <= log.high_watermark() {
            log.increment_log_start_offset(log_start).expect("moves");
        }
        if log.log_end_offset() == leader_log.log_end_offset() {
            self.isr.insert(id);
            self.brokers[id].in_sync_process = self.brokers[id].process;
        }
        self.note(format!("broker {id} has up to {}", log.log_end_offset()));
    }

    /// The high watermark follows the in-sync replicas; what is below counts as acknowledged.
    pub fn commit(&mut self) {
        let Some((leader, log)) = self.live_leader() else {
            return;
        };
        let (leader_id, log) = (leader.id, Arc::clone(log));
        let ends = self.isr.iter().map(|id| {
            let broker = &self.brokers[*id];
            match &broker.log {
                Some(log)
                    if *id == leader_id
                        || (broker.epoch == self.epoch && !broker.must_truncate) =>
                {
                    log.log_end_offset()
                }
                _ => 0,
            }
        });
        let end = ends.min().unwrap_or(0);
        let from = self.committed_end();
        if end > from {
            for batch in local_batches(&log, from) {
                if batch.header.next_offset() > end {
                    break;
                }
                self.committed.push(Committed {
                    base: batch.header.base_offset,
                    end: batch.header.next_offset(),
                    bytes: batch.bytes.clone(),
                });
            }
        }
        log.set_high_watermark(self.committed_end().min(end.max(log.high_watermark())));
    }

    /// What the broker's own retention does for a log that is not tiered.
    pub(super) fn retain_untiered(&mut self, id: usize) {
        let Some(log) = self.brokers[id].log.clone() else {
            return;
        };
        if self.tiering == Tiering::GivenUp && self.leader == Some(id) {
            let now_ms = self.now_ms();
            let plan = log.plan_retention(now_ms, &TierView::default());
            log.apply_retention(&plan, now_ms).expect("deletes");
            self.log_start = self.log_start.max(log.log_start_offset());
        }
    }

    pub(super) fn delete_records(&mut self) {
        let Some((_, log)) = self.live_leader() else {
            return;
        };
        let log = Arc::clone(log);
        let Some(batch) = self.committed.len().checked_sub(1) else {
            return;
        };
        let to = self.committed[self.rng.random_range(0..=batch)].end;
        if self.rng.random_range(0..3) == 0 && to <= log.high_watermark() {
            log.increment_log_start_offset(to).expect("moves");
            self.log_start = self.log_start.max(to);
            self.note(format!("records are deleted up to {to}"));
        }
    }
}

fn append_batch(log: &Log, batch: Batch, epoch: LeaderEpoch, now_ms: i64) {
    let append = LeaderAppend {
        batch: ValidBatch { batch },
    };
    for answer in log.append_as_leader(&[append], epoch, now_ms) {
        answer.expect("appends");
    }
}

/// The whole batches of a local log from an offset on.
pub fn local_batches(log: &Log, from: Offset) -> Vec<Batch> {
    let end = log.log_end_offset();
    let mut offset = from.max(log.local_log_start_offset());
    let mut batches = Vec::new();
    while offset < end {
        let read = log.read(offset, end, 1 << 20, true).expect("readable");
        let before = offset;
        for slice in &read.slices {
            let bytes = slice.read_to_bytes().expect("reads");
            for batch in strandline_log::record::split_batches(bytes).expect("whole batches") {
                offset = batch.header.next_offset();
                batches.push(batch);
            }
        }
        assert!(offset > before, "nothing is read at {before}");
    }
    batches
}

/// Where a follower's log ceases to be its leader's.
fn common_end(follower: &Log, leader: &Log) -> Offset {
    let theirs: BTreeMap<Offset, Batch> = local_batches(leader, 0)
        .into_iter()
        .map(|batch| (batch.header.base_offset, batch))
        .collect();
    let begin = leader.local_log_start_offset();
    for batch in local_batches(follower, 0) {
        // Below the leader's local start only epochs tell.
        let base = batch.header.base_offset;
        let same = match theirs.get(&base) {
            Some(other) => other.bytes == batch.bytes,
            None if batch.header.next_offset() <= begin => {
                leader.epoch_for_offset(base) == Some(batch.header.partition_leader_epoch)
            }
            None => false,
        };
        if !same {
            return base;
        }
    }
    follower.log_end_offset()
}
