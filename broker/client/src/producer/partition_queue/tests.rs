//! Orders, retries and holes, as tables of what the broker answered.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const CONFIG: QueueConfig = QueueConfig {
    batch_bytes: 100,
    linger_ms: 10,
    delivery_timeout_ms: 1000,
    in_flight_max: 3,
    is_idempotent: true,
};

fn record(bytes: usize) -> NewRecord {
    NewRecord {
        value: Some(Bytes::from(vec![0; bytes])),
        ..NewRecord::default()
    }
}

/// A queue whose producer id is 7, with `count` full batches of one record each.
fn queue(count: usize) -> (PartitionQueue, Vec<Delivery>) {
    let mut queue = PartitionQueue::new(CONFIG);
    assert!(queue.needs_identity());
    assert!(queue.set_identity(7, 0));
    let deliveries = (0..count)
        .map(|_| queue.append(0, record(100), None).0)
        .collect();
    (queue, deliveries)
}

fn stored(offset: i64) -> AttemptEnd {
    AttemptEnd::Stored(RecordAck {
        offset,
        log_append_time_ms: -1,
    })
}

fn refused(error: KafkaError) -> AttemptEnd {
    AttemptEnd::Refused {
        error,
        message: None,
    }
}

fn no_answer() -> AttemptEnd {
    AttemptEnd::NoAnswer {
        reason: "closed".to_owned(),
    }
}

fn sequence(batch: &QueuedBatch) -> (ProducerId, i32) {
    let identity = batch.identity().expect("a taken batch has its sequence");
    (identity.producer_id, identity.base_sequence)
}

fn outcome(delivery: &Delivery) -> Option<Result<i64, DeliveryError>> {
    let waiting = std::pin::pin!(delivery.clone().wait());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match waiting.poll(&mut context) {
        std::task::Poll::Ready(outcome) => Some(outcome.map(|ack| ack.offset)),
        std::task::Poll::Pending => None,
    }
}

/// Takes and stores the first batch, so that the broker knows the producer.
fn establish(queue: &mut PartitionQueue) {
    let batch = queue.take(0, true).expect("a batch is ready");
    assert!(
        queue.take(0, true).is_none(),
        "one at a time until the broker knows the producer"
    );
    queue.attempt_ended(0, batch, stored(0), 0);
}

#[test]
fn batches_linger_fill_and_hurry() {
    let (mut queue, _) = queue(0);
    let (first, wakes) = queue.append(5, record(20), None);
    assert!(wakes, "a new batch begins to linger");
    let (second, wakes) = queue.append(6, record(20), None);
    assert!(!wakes);
    assert!(!queue.is_ready(14, false));
    assert_eq!(queue.next_deadline_ms(6), Some(15));
    assert!(queue.is_ready(14, true), "a flush does not wait");
    let batch = queue.take(15, false).expect("linger is over");
    assert_eq!((batch.records().len(), sequence(&batch)), (2, (7, 0)));
    assert!(!queue.is_idle());
    queue.attempt_ended(16, batch, stored(40), 0);
    assert!(queue.is_idle());
    assert_eq!(
        [outcome(&first), outcome(&second)],
        [Some(Ok(40)), Some(Ok(41))]
    );

    let (_, wakes) = queue.append(20, record(80), None);
    assert!(wakes);
    let (_, wakes) = queue.append(20, record(80), None);
    assert!(
        wakes,
        "the record does not fit: the batch before it is closed"
    );
    assert_eq!(
        queue.take(20, false).map(|batch| sequence(&batch)),
        Some((7, 2))
    );
    assert!(queue.take(20, false).is_none(), "the open one lingers");
}

#[test]
fn sequences_follow_the_order_and_in_flight_is_bounded() {
    let (mut queue, _) = queue(6);
    establish(&mut queue);
    let taken: Vec<_> = std::iter::from_fn(|| queue.take(0, false)).collect();
    assert_eq!(
        taken.iter().map(sequence).collect::<Vec<_>>(),
        [(7, 1), (7, 2), (7, 3)]
    );
}

#[test]
fn retries_keep_order_and_sequences() {
    let (mut queue, deliveries) = queue(4);
    establish(&mut queue);
    let [one, two, three] = [0; 3].map(|_| queue.take(0, false).expect("three may be in flight"));
    let after = queue.attempt_ended(1, one, refused(KafkaError::NotLeaderOrFollower), 20);
    assert!(after.refresh_metadata);
    assert!(
        queue.take(100, true).is_none(),
        "in flight is waited out first"
    );
    queue.attempt_ended(2, two, refused(KafkaError::OutOfOrderSequenceNumber), 20);
    queue.attempt_ended(2, three, no_answer(), 20);
    assert!(queue.take(21, true).is_none(), "the pause is not over");
    for (expected, offset) in [(1, 10), (2, 11), (3, 12)] {
        let batch = queue.take(30, true).expect("the pause is over");
        assert_eq!(sequence(&batch), (7, expected));
        if expected < 3 {
            assert!(queue.take(30, true).is_none(), "one retry at a time");
        }
        queue.attempt_ended(31, batch, stored(offset), 0);
    }
    let outcomes: Vec<_> = deliveries.iter().map(outcome).collect();
    assert_eq!(
        outcomes,
        [Some(Ok(0)), Some(Ok(10)), Some(Ok(11)), Some(Ok(12))]
    );
}

#[test]
fn a_duplicate_is_stored() {
    let (mut queue, deliveries) = queue(1);
    let batch = queue.take(0, false).unwrap();
    queue.attempt_ended(0, batch, no_answer(), 0);
    let batch = queue.take(0, false).unwrap();
    queue.attempt_ended(0, batch, refused(KafkaError::DuplicateSequenceNumber), 0);
    assert_eq!(outcome(&deliveries[0]), Some(Ok(-1)));
}

#[test]
fn a_batch_refused_for_good_leaves_no_hole() {
    let (mut queue, deliveries) = queue(5);
    establish(&mut queue);
    let [one, two, three] = [0; 3].map(|_| queue.take(0, false).unwrap());
    queue.attempt_ended(0, one, refused(KafkaError::MessageTooLarge), 0);
    assert!(queue.needs_identity());
    assert!(!queue.set_identity(7, 0), "the old one will not do");
    assert!(queue.set_identity(8, 0));
    queue.attempt_ended(0, two, refused(KafkaError::OutOfOrderSequenceNumber), 0);
    assert!(
        queue.take(0, true).is_none(),
        "one of the old sequences is still out"
    );
    queue.attempt_ended(0, three, no_answer(), 0);
    let refusal = DeliveryError::Refused {
        error: KafkaError::MessageTooLarge,
        message: None,
    };
    assert_eq!(outcome(&deliveries[1]), Some(Err(refusal)));
    assert!(
        matches!(
            outcome(&deliveries[3]),
            Some(Err(DeliveryError::Unknown { .. }))
        ),
        "it may be stored under the old sequence"
    );
    let batch = queue
        .take(0, true)
        .expect("the batch that was surely refused goes on");
    assert_eq!(sequence(&batch), (8, 0));
    queue.attempt_ended(0, batch, stored(1), 0);
    assert_eq!(outcome(&deliveries[2]), Some(Ok(1)));
    assert_eq!(
        queue.take(0, true).map(|batch| sequence(&batch)),
        Some((8, 1))
    );
}

/// The broker has lost what it acknowledged: that must not be papered over.
#[test]
fn a_gap_before_the_first_in_line_is_an_error() {
    let (mut queue, deliveries) = queue(2);
    establish(&mut queue);
    let batch = queue.take(0, true).unwrap();
    queue.attempt_ended(0, batch, refused(KafkaError::OutOfOrderSequenceNumber), 0);
    let refusal = DeliveryError::Refused {
        error: KafkaError::OutOfOrderSequenceNumber,
        message: None,
    };
    assert_eq!(outcome(&deliveries[1]), Some(Err(refusal)));
}

#[test]
fn batches_run_out_of_time() {
    let (mut queue, deliveries) = queue(2);
    let batch = queue.take(0, true).unwrap();
    assert!(
        queue.expire(1000),
        "what waits is late; what is in flight waits for its answer"
    );
    queue.attempt_ended(1001, batch, no_answer(), 0);
    for delivery in &deliveries {
        assert!(matches!(
            outcome(delivery),
            Some(Err(DeliveryError::TimedOut {
                timeout_ms: 1000,
                ..
            }))
        ));
    }
    assert!(queue.is_idle() && queue.needs_identity());
}

#[test]
fn marks_are_answered_in_any_order() {
    let (mut queue, _) = queue(3);
    establish(&mut queue);
    let mark = queue.batches_count();
    queue.append(0, record(100), None);
    let [one, two, later] = [0; 3].map(|_| queue.take(0, true).unwrap());
    queue.attempt_ended(0, two, stored(1), 0);
    assert!(!queue.is_answered_below(mark));
    queue.attempt_ended(0, one, stored(0), 0);
    assert!(queue.is_answered_below(mark));
    queue.attempt_ended(0, later, stored(2), 0);
    assert!(queue.is_idle());
}

/// A broker as its producer state sees it: it stores, refuses, forgets answers.
#[derive(Default)]
struct ScriptedBroker {
    log: Vec<u64>,
    next_sequence: BTreeMap<ProducerId, i32>,
    stored_at: BTreeMap<(ProducerId, i32), i64>,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Append,
    Take,
    /// Answers the `n`th batch in flight as an honest broker.
    Answer(usize),
    /// The broker does its work and the answer is lost.
    LoseAnswer(usize),
    /// The request is lost.
    LoseRequest,
    /// The broker refuses for a while.
    NotLeader,
    /// The broker refuses for good.
    TooLarge,
}

impl ScriptedBroker {
    fn produce(&mut self, batch: &QueuedBatch) -> AttemptEnd {
        let (producer_id, sequence) = sequence(batch);
        if let Some(offset) = self.stored_at.get(&(producer_id, sequence)) {
            return stored(*offset);
        }
        let expected = self.next_sequence.get(&producer_id);
        // A producer that is not known may start anywhere.
        if expected.is_some_and(|expected| *expected != sequence) {
            return refused(KafkaError::OutOfOrderSequenceNumber);
        }
        let offset = self.log.len() as i64;
        self.log.push(batch.ordinal);
        self.stored_at.insert((producer_id, sequence), offset);
        self.next_sequence.insert(producer_id, sequence + 1);
        stored(offset)
    }
}

fn event() -> impl Strategy<Value = Event> {
    let place = || 0usize..3;
    prop_oneof![
        4 => Just(Event::Append),
        6 => Just(Event::Take),
        6 => place().prop_map(Event::Answer),
        1 => place().prop_map(Event::LoseAnswer),
        1 => Just(Event::LoseRequest),
        1 => Just(Event::NotLeader),
        1 => Just(Event::TooLarge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_batch_is_stored_once_in_order_and_answered_truly(events in prop::collection::vec(event(), 0..80)) {
        let mut queue = PartitionQueue::new(CONFIG);
        let mut broker = ScriptedBroker::default();
        let mut in_flight: Vec<(QueuedBatch, Option<AttemptEnd>)> = Vec::new();
        let mut deliveries = Vec::new();
        let mut next_producer_id = 1;
        let mut take = |queue: &mut PartitionQueue, broker: &mut ScriptedBroker, lost: bool| {
            if queue.needs_identity() {
                queue.set_identity(next_producer_id, 0);
                next_producer_id += 1;
            }
            let batch = queue.take(0, true)?;
            // Requests of one connection are worked on in order.
            let end = if lost { None } else { Some(broker.produce(&batch)) };
            Some((batch, end))
        };
        let everything = [Event::Take, Event::Answer(0)].into_iter().cycle().take(400);
        for event in events.into_iter().chain(everything) {
            match event {
                Event::Append => {
                    let (delivery, _) = queue.append(0, record(100), None);
                    deliveries.push(delivery);
                }
                Event::Take => in_flight.extend(take(&mut queue, &mut broker, false)),
                Event::LoseRequest => {
                    if let Some((batch, _)) = take(&mut queue, &mut broker, true) {
                        in_flight.push((batch, Some(no_answer())));
                    }
                }
                Event::NotLeader | Event::TooLarge => {
                    if let Some((batch, _)) = take(&mut queue, &mut broker, true) {
                        let error = match event {
                            Event::NotLeader => KafkaError::NotLeaderOrFollower,
                            _ => KafkaError::MessageTooLarge,
                        };
                        in_flight.push((batch, Some(refused(error))));
                    }
                }
                Event::Answer(place) | Event::LoseAnswer(place) if !in_flight.is_empty() => {
                    let place = place % in_flight.len();
                    let (batch, end) = in_flight.remove(place);
                    let end = match event {
                        Event::Answer(_) => end.expect("every attempt has an end"),
                        _ => no_answer(),
                    };
                    queue.attempt_ended(0, batch, end, 0);
                }
                Event::Answer(_) | Event::LoseAnswer(_) => {}
            }
        }
        prop_assert!(queue.is_idle(), "everything is answered in the end");
        let mut sorted = broker.log.clone();
        sorted.sort_unstable();
        sorted.dedup();
        prop_assert_eq!(sorted.len(), broker.log.len(), "nothing is stored twice: {:?}", broker.log);
        prop_assert!(broker.log.is_sorted(), "order is kept: {:?}", broker.log);
        for (ordinal, delivery) in deliveries.iter().enumerate() {
            let offset = broker.log.iter().position(|stored| *stored == ordinal as u64);
            match outcome(delivery).expect("every delivery is answered") {
                Ok(acked) => prop_assert_eq!(Some(acked), offset.map(|offset| offset as i64)),
                Err(DeliveryError::Refused { .. }) => prop_assert_eq!(offset, None),
                Err(_) => {}
            }
        }
    }
}
