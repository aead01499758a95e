//! A reader: one connection that fetches some partitions in a fetch session, as the Java consumer does.

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use strandline_log::TopicId;
use strandline_wire::encode_request;

use super::answer::{self, FETCH_VERSION, Fetched};

/// Where a reader is in one partition.
#[derive(Clone, Debug)]
struct Position {
    partition: i32,
    start: i64,
    offset: i64,
    /// Reading ends here; a reader without end goes on until it is stopped.
    end: Option<i64>,
    /// Asked for since it last changed.
    is_told: bool,
}

/// Which due time the records of partition 0 have: request i of the replay holds `records_per_request` of them.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub base_offset: i64,
    pub records_per_request: i64,
    pub interval_ns: u64,
}

#[derive(Clone, Debug)]
pub struct Fetch {
    topic_id: TopicId,
    positions: Vec<Position>,
    /// How often everything is read; the session and the connection stay.
    passes: u64,
    /// Between two fetches; `None`: the next follows at once.
    pub interval_ns: Option<u64>,
    pub due_ns: u64,
    pub schedule: Option<Schedule>,
    seen: i64,
    delivered_until: i64,
    session: i32,
    epoch: i32,
}

impl Fetch {
    /// Reads each (partition, start, end) `passes` times.
    pub fn new(topic_id: TopicId, ranges: &[(i32, i64, Option<i64>)], passes: u64) -> Fetch {
        let positions: Vec<Position> = ranges
            .iter()
            .map(|(partition, start, end)| Position {
                partition: *partition,
                start: *start,
                offset: *start,
                end: *end,
                is_told: false,
            })
            .collect();
        let start = positions.first().map_or(0, |position| position.start);
        Fetch {
            topic_id,
            positions,
            passes,
            interval_ns: None,
            due_ns: 0,
            schedule: None,
            seen: start,
            delivered_until: start,
            session: 0,
            epoch: 0,
        }
    }

    pub fn is_done(&self) -> bool {
        self.passes == 0
    }

    /// The next request, with the Java consumer's limits.
    pub fn request(&mut self) -> anyhow::Result<Bytes> {
        let is_full = self.epoch <= 0;
        let mut topic = FetchTopic::default().with_topic_id(self.topic_id);
        for position in &mut self.positions {
            if is_full || !position.is_told {
                position.is_told = true;
                topic.partitions.push(
                    FetchPartition::default()
                        .with_partition(position.partition)
                        .with_current_leader_epoch(-1)
                        .with_fetch_offset(position.offset)
                        .with_log_start_offset(-1)
                        .with_partition_max_bytes(1 << 20),
                );
            }
        }
        let topics = if topic.partitions.is_empty() {
            Vec::new()
        } else {
            vec![topic]
        };
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_max_bytes(50 << 20)
            .with_session_id(self.session)
            .with_session_epoch(self.epoch)
            .with_topics(topics);
        Ok(encode_request(1, Some("bench"), FETCH_VERSION, &request)?)
    }

    /// Takes an answer in.
    pub fn take(&mut self, frame: &[u8], mut with: impl FnMut(Fetched)) -> anyhow::Result<()> {
        let positions = &mut self.positions;
        let mut seen = self.seen;
        let session = answer::fetch(frame, |fetched| {
            let found = positions
                .iter_mut()
                .find(|position| position.partition == fetched.partition);
            if let (Some(position), Some(next_offset)) = (found, fetched.next_offset) {
                position.offset = next_offset;
                position.is_told = false;
                if position.partition == 0 {
                    seen = next_offset;
                }
                with(fetched);
            }
        })?;
        self.seen = seen;
        // A broker without room for a session gives none; then every fetch is a full one.
        self.session = session;
        self.epoch = match session {
            0 => 0,
            _ => self.epoch + 1,
        };
        let is_read = |position: &Position| position.end.is_some_and(|end| position.offset >= end);
        if self.positions.iter().all(is_read) {
            self.passes -= 1;
            for position in &mut self.positions {
                position.offset = position.start;
                position.is_told = false;
            }
        }
        Ok(())
    }

    /// When the requests were due whose records have come since the last call.
    pub fn delivered(&mut self, schedule: Schedule) -> impl Iterator<Item = u64> + use<> {
        let request_of =
            |offset: i64| (offset - schedule.base_offset) / schedule.records_per_request;
        let (first, end) = (request_of(self.delivered_until), request_of(self.seen));
        self.delivered_until = self.seen;
        (first..end).map(move |request| request.max(0) as u64 * schedule.interval_ns)
    }
}
