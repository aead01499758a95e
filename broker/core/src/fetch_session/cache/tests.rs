use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

use super::*;

const VERSION: i16 = 13;

fn cache(slots_max: usize) -> FetchSessionCache {
    let mut last = 0;
    FetchSessionCache::new(
        FetchSessionConfig {
            slots_max,
            eviction_ms: EVICTION_MS,
            shard: 1,
            shards: 4,
        },
        Box::new(move || {
            last += 4;
            last
        }),
    )
}

fn topic_id() -> Uuid {
    Uuid::from_u128(7)
}

fn request(session_id: i32, epoch: i32, partitions: &[(i32, i64)], forget: &[i32]) -> FetchRequest {
    let mut request = FetchRequest::default()
        .with_session_id(session_id)
        .with_session_epoch(epoch);
    if !partitions.is_empty() {
        let partitions = partitions.iter().map(|(partition, offset)| {
            FetchPartition::default()
                .with_partition(*partition)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(1_000)
        });
        request.topics = vec![
            FetchTopic::default()
                .with_topic_id(topic_id())
                .with_partitions(partitions.collect()),
        ];
    }
    if !forget.is_empty() {
        request.forgotten_topics_data = vec![
            ForgottenTopic::default()
                .with_topic_id(topic_id())
                .with_partitions(forget.to_vec()),
        ];
    }
    request
}

fn idle(high_watermark: i64) -> PartitionResult {
    PartitionResult {
        high_watermark,
        ..PartitionResult::default()
    }
}

fn records(high_watermark: i64, records_len: usize) -> PartitionResult {
    PartitionResult {
        records_len,
        ..idle(high_watermark)
    }
}

/// Answers a request with `found` for every candidate; the partitions that are in the answer.
fn answer(
    c: &mut FetchSessionCache,
    context: &FetchContext,
    found: impl Fn(i32) -> PartitionResult,
) -> Result<Vec<i32>, KafkaError> {
    let mut told = Vec::new();
    for candidate in c.candidates(context) {
        if c.settle(context, &candidate, &found(candidate.partition)) {
            told.push(candidate.partition);
        }
    }
    c.finish(context).map(|()| told)
}

fn all(n: i32) -> Vec<(i32, i64)> {
    (0..n).map(|p| (p, 0)).collect()
}

/// A session of `n` partitions, all idle at offset 0 and told so.
fn idle_session(c: &mut FetchSessionCache, n: i32) -> i32 {
    let context = c
        .begin(0, VERSION, &request(0, 0, &all(n), &[]), false)
        .expect("begins");
    assert_eq!(context.kind, FetchKind::Full);
    assert_eq!(context.added.len(), n as usize);
    assert_eq!(
        answer(c, &context, |_| idle(0)).expect("holds").len(),
        n as usize
    );
    context.session_id
}

#[test]
fn a_full_fetch_answers_all_and_an_incremental_one_what_changed() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 1_000);
    assert_eq!((id % 4, c.partitions_cached()), (1, 1_000));
    let context = c
        .begin(1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("goes on");
    assert_eq!(context.kind, FetchKind::Incremental);
    // Nothing was marked, so nothing is looked at.
    assert_eq!(c.candidates(&context), vec![]);
    assert!(c.mark_dirty(id, Slot(7)));
    assert_eq!(c.candidates(&context).len(), 1);
    assert_eq!(answer(&mut c, &context, |_| records(5, 100)), Ok(vec![7]));
}

#[test]
fn epochs_are_held_to() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 1);
    let table = [
        (id, 2, KafkaError::InvalidFetchSessionEpoch),
        (id + 4, 1, KafkaError::FetchSessionIdNotFound),
        (0, 1, KafkaError::FetchSessionIdNotFound),
    ];
    for (id, epoch, error) in table {
        let result = c.begin(1, VERSION, &request(id, epoch, &[], &[]), false);
        assert_eq!(result.map(|_| ()), Err(error));
    }
    let names = c.begin(1, 12, &request(id, 1, &[], &[]), false);
    assert_eq!(names.map(|_| ()), Err(KafkaError::FetchSessionTopicIdError));
    let first = c
        .begin(1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("epoch 1");
    let second = c
        .begin(1, VERSION, &request(id, 2, &[], &[]), false)
        .expect("epoch 2");
    assert_eq!(c.finish(&first), Err(KafkaError::InvalidFetchSessionEpoch));
    assert_eq!(c.finish(&second), Ok(()));
    assert_eq!([next_epoch(1), next_epoch(i32::MAX)], [2, 1]);
}

#[test]
fn what_the_client_moves_adds_and_forgets_is_taken_in() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 3);
    let context = c
        .begin(
            1,
            VERSION,
            &request(id, 1, &[(1, 50), (9, 0)], &[0, 77]),
            false,
        )
        .expect("goes on");
    assert_eq!(
        context
            .added
            .iter()
            .map(|p| p.partition)
            .collect::<Vec<_>>(),
        [9]
    );
    assert_eq!(
        context
            .forgotten
            .iter()
            .map(|p| p.partition)
            .collect::<Vec<_>>(),
        [0]
    );
    let candidates = c.candidates(&context);
    assert_eq!(
        candidates
            .iter()
            .map(|p| (p.partition, p.position.fetch_offset))
            .collect::<Vec<_>>(),
        [(1, 50), (9, 0)]
    );
    // Partition 1 has nothing new to tell, 9 was never told.
    assert_eq!(answer(&mut c, &context, |_| idle(0)), Ok(vec![9]));
    assert_eq!(c.partitions_cached(), 3);
    // A mark for the forgotten one hits an empty place.
    assert!(!c.mark_dirty(id, context.forgotten[0].slot));
}

#[test]
fn news_is_records_watermarks_log_starts_errors_and_directives() {
    let error = PartitionResult {
        error_code: 6,
        ..idle(0)
    };
    let table = [
        (idle(0), false),
        (idle(1), true),
        (records(0, 1), true),
        (error, true),
        (
            PartitionResult {
                log_start_offset: 1,
                ..idle(0)
            },
            true,
        ),
        (
            PartitionResult {
                directive: true,
                ..idle(0)
            },
            true,
        ),
    ];
    for (result, told) in table {
        let mut c = cache(10);
        let id = idle_session(&mut c, 1);
        c.mark_dirty(id, Slot(0));
        let context = c
            .begin(1, VERSION, &request(id, 1, &[], &[]), false)
            .expect("goes on");
        assert_eq!(
            answer(&mut c, &context, |_| result).expect("holds").len(),
            usize::from(told),
            "{result:?}"
        );
    }
    // When an error is over, the client is told, without a mark.
    let mut c = cache(10);
    let id = idle_session(&mut c, 1);
    c.mark_dirty(id, Slot(0));
    let context = c
        .begin(1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("goes on");
    assert_eq!(answer(&mut c, &context, |_| error), Ok(vec![0]));
    let context = c
        .begin(2, VERSION, &request(id, 2, &[], &[]), false)
        .expect("goes on");
    assert_eq!(answer(&mut c, &context, |_| idle(0)), Ok(vec![0]));
    let context = c
        .begin(3, VERSION, &request(id, 3, &[], &[]), false)
        .expect("goes on");
    assert_eq!(c.candidates(&context), vec![]);
}

#[test]
fn who_got_records_goes_to_the_end_of_the_line() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 3);
    for slot in 0..3 {
        c.mark_dirty(id, Slot(slot));
    }
    let left_out = PartitionResult {
        more: true,
        ..idle(0)
    };
    let context = c
        .begin(1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("goes on");
    // Only the first had room.
    let told = answer(&mut c, &context, |p| {
        if p == 0 { records(0, 1) } else { left_out }
    });
    assert_eq!(told, Ok(vec![0]));
    let context = c
        .begin(2, VERSION, &request(id, 2, &[(0, 1)], &[]), false)
        .expect("goes on");
    let order: Vec<i32> = c.candidates(&context).iter().map(|p| p.partition).collect();
    assert_eq!(order, [1, 2, 0]);
}

#[test]
fn a_mark_between_look_and_park_is_not_lost() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 1);
    let context = c
        .begin(1, VERSION, &request(id, 1, &[(0, 0)], &[]), false)
        .expect("goes on");
    let look = c.candidates(&context).remove(0);
    c.mark_dirty(id, Slot(0));
    assert!(c.park(&context, &look, &idle(0)), "look again");
    let look = c.candidates(&context).remove(0);
    assert!(!c.park(&context, &look, &idle(0)));
    assert_eq!(c.candidates(&context), vec![]);
    // The same for a look that is answered.
    c.mark_dirty(id, Slot(0));
    let look = c.candidates(&context).remove(0);
    c.mark_dirty(id, Slot(0));
    assert!(!c.settle(&context, &look, &idle(0)));
    assert_eq!(c.candidates(&context).len(), 1);
}

#[test]
fn too_few_bytes_stay_marked_while_the_fetch_waits() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 2);
    c.mark_dirty(id, Slot(0));
    c.mark_dirty(id, Slot(1));
    let context = c
        .begin(1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("goes on");
    for look in c.candidates(&context) {
        let found = if look.partition == 0 {
            records(3, 10)
        } else {
            idle(0)
        };
        assert!(!c.park(&context, &look, &found));
    }
    let left: Vec<i32> = c.candidates(&context).iter().map(|p| p.partition).collect();
    assert_eq!(left, [0]);
}

#[test]
fn a_session_ends_with_its_last_partition_or_a_final_epoch() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 1);
    let context = c
        .begin(1, VERSION, &request(id, 1, &[], &[0]), false)
        .expect("goes on");
    assert_eq!(
        (context.kind, context.session_id),
        (FetchKind::Sessionless, 0)
    );
    assert!(c.is_empty());
    assert_eq!(c.take_closed().len(), 1);

    let id = idle_session(&mut c, 2);
    let context = c
        .begin(1, VERSION, &request(id, -1, &[(5, 3)], &[]), false)
        .expect("ends");
    assert_eq!(context.kind, FetchKind::Sessionless);
    assert_eq!(answer(&mut c, &context, |_| idle(0)), Ok(vec![5]));
    let closed = c.take_closed();
    assert_eq!((closed[0].0, closed[0].1.len()), (id, 2));
    assert_eq!((c.len(), c.partitions_cached()), (0, 0));
    assert!(!c.mark_dirty(id, Slot(0)));
}

#[test]
fn a_new_full_fetch_replaces_the_session_it_names() {
    let mut c = cache(10);
    let id = idle_session(&mut c, 1);
    let context = c
        .begin(1, VERSION, &request(id, 0, &all(2), &[]), false)
        .expect("begins");
    assert_ne!(context.session_id, id);
    assert_eq!((c.len(), c.take_closed().len()), (1, 1));
}

#[test]
fn who_gives_way_to_whom() {
    let begin = |c: &mut FetchSessionCache, now_ms, n, privileged| {
        c.begin(now_ms, VERSION, &request(0, 0, &all(n), &[]), privileged)
            .expect("begins")
            .session_id
    };
    // A young session is safe from consumers, of any size, but not from a follower.
    let mut c = cache(1);
    let small = begin(&mut c, 0, 1, false);
    assert_eq!(begin(&mut c, 1, 100, false), 0);
    let follower = begin(&mut c, 1, 1, true);
    assert_ne!(follower, 0);
    assert_eq!(c.take_closed()[0].0, small);
    assert_eq!(
        begin(&mut c, 2, 100, true),
        0,
        "a young follower is safe from followers"
    );
    // An old one that is in use gives way to a larger one.
    let mut c = cache(1);
    let id = begin(&mut c, 0, 5, false);
    c.begin(EVICTION_MS + 1, VERSION, &request(id, 1, &[], &[]), false)
        .expect("goes on");
    assert_eq!(begin(&mut c, EVICTION_MS + 2, 5, false), 0);
    assert_ne!(begin(&mut c, EVICTION_MS + 2, 6, false), 0);
    // One out of use gives way to anyone.
    let mut c = cache(1);
    begin(&mut c, 0, 5, true);
    assert_eq!(begin(&mut c, EVICTION_MS, 1, false), 0);
    assert_ne!(begin(&mut c, EVICTION_MS + 1, 1, false), 0);
    assert_eq!((c.evictions(), c.len(), c.partitions_cached()), (1, 1, 1));
    // Without slots there are no sessions.
    assert_eq!(begin(&mut cache(0), 0, 1, true), 0);
}

#[test]
fn shards_are_told_by_the_id() {
    assert_eq!(FetchSessionCache::shard_of(9, 4, 3), 1);
    assert_eq!(FetchSessionCache::shard_of(0, 4, 7), 3);
    assert_eq!(FetchSessionCache::shard_of(-5, 4, 2), 2);
}
