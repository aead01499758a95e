//! Consumers that stop reading, or never begin: they hold their own connection and a bounded amount of memory. And what a
//! consumer costs that has nothing to read.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kafka_protocol::messages::fetch_response::FetchResponse;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use strandline_log::record::{DecodeLimit, records_of};
use strandline_tests::{
    Broker, BrokerOptions, cpu_seconds, memory_bytes, metric, now_ms, timed, wait_until,
};

use crate::librdkafka::create_topic;
use crate::raw::{
    DEADLINE, FETCH_VERSION, PRODUCE_VERSION, RawClient, batch, decode_answer, fetch_request,
    produce_request,
};

fn produce(client: &mut RawClient, topic: &str, partition: i32, values: &[&[u8]]) -> i64 {
    let request = produce_request(
        topic,
        partition,
        -1,
        batch(now_ms(), values.iter().copied()),
    );
    let answer = client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!(answer.error_code, 0);
    answer.base_offset
}

/// The values of a fetch's one partition.
fn values(answer: &FetchResponse) -> Vec<Vec<u8>> {
    let records = answer.responses[0].partitions[0]
        .records
        .clone()
        .unwrap_or_default();
    records_of(records, DecodeLimit::default())
        .map_while(Result::ok)
        .map(|record| record.value.expect("a value").to_vec())
        .collect()
}

/// Produces numbered records one by one and reads each back, until it is told to stop.
pub fn mind_own_business(
    port: u16,
    topic: &str,
    partition: i32,
    stop: &AtomicBool,
) -> (u64, Duration) {
    let mut producer = RawClient::connect(port);
    let mut consumer = RawClient::connect(port);
    let (mut number, mut slowest) = (0u64, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let value = number.to_be_bytes();
        let ((), took) = timed(|| {
            let offset = produce(&mut producer, topic, partition, &[&value]);
            let request = fetch_request(topic, [(partition, offset)], 5000, 1 << 20);
            let answer = consumer.ask::<FetchRequest>(FETCH_VERSION, &request);
            assert_eq!(values(&answer), [value.to_vec()]);
        });
        slowest = slowest.max(took);
        number += 1;
    }
    (number, slowest)
}

/// While `work` runs a neighbour is served.
fn beside_a_neighbour(broker: &Broker, topic: &str, partition: i32, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| mind_own_business(broker.port(), topic, partition, &stop));
        // Also when the work fails: the scope waits for the neighbour.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let (records, slowest) = neighbour.join().expect("the neighbour is served");
        println!("the neighbour wrote and read {records} records, the slowest in {slowest:?}");
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
        assert!(records > 20, "{records} records");
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    });
}

#[test]
fn consumers_that_stop_reading_hold_little_and_are_closed() {
    const PARTITIONS: i32 = 500;
    const STUCK: usize = 150;
    const MEMORY_BYTES_MAX: u64 = 64 << 20;
    const SEND_TIMEOUT_MS: u64 = 4000;
    let broker = Broker::start(BrokerOptions::with(&[&format!(
        "socket.send.timeout.ms={SEND_TIMEOUT_MS}"
    )]));
    // Slices too small for sendfile, so that answers of them are bytes in memory: 5 MB each, 750 MB together.
    create_topic(&broker.bootstrap(), "small", PARTITIONS + 1, &[]);
    create_topic(&broker.bootstrap(), "large", 1, &[]);
    let mut client = RawClient::connect(broker.port());
    for partition in 0..PARTITIONS {
        produce(&mut client, "small", partition, &[&[3; 10_000]]);
    }
    for _ in 0..64 {
        produce(&mut client, "large", 0, &[&[4; 1_000_000]]);
    }
    let before = memory_bytes(broker.pid(), "VmHWM");
    let open_before = metric(broker.http_port(), "strandline_network_connections", &[]);
    beside_a_neighbour(&broker, "small", PARTITIONS, || {
        let small = fetch_request("small", (0..PARTITIONS).map(|one| (one, 0)), 1000, i32::MAX);
        let large = fetch_request("large", [(0, 0)], 1000, i32::MAX);
        let stuck: Vec<RawClient> = (0..STUCK)
            .map(|number| {
                let mut client = RawClient::connect(broker.port());
                // Several each: the second begins when the first is sent, which is never.
                for _ in 0..5 {
                    client.send(FETCH_VERSION, if number % 3 == 0 { &large } else { &small });
                }
                client
            })
            .collect();
        let closed = || {
            let cause = "cause=\"write\"";
            metric(
                broker.http_port(),
                "strandline_network_connections_failed_total",
                &[cause],
            )
        };
        wait_until("the stuck are closed", DEADLINE, || match closed() {
            closed if closed == STUCK as f64 => Ok(()),
            closed => Err(format!("{closed} are closed")),
        });
        drop(stuck);
    });
    let grown = memory_bytes(broker.pid(), "VmHWM") - before;
    println!(
        "{STUCK} stuck consumers: {} MiB more at the peak",
        grown >> 20
    );
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more");
    wait_until("their places are free", DEADLINE, || {
        match metric(broker.http_port(), "strandline_network_connections", &[]) {
            now if now <= open_before => Ok(()),
            now => Err(format!("{now} connections")),
        }
    });
}

#[test]
fn clients_that_send_fetches_and_never_read_are_read_no_further() {
    const CLIENTS: usize = 20;
    const MEMORY_BYTES_MAX: u64 = 64 << 20;
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "some", 2, &[]);
    let mut client = RawClient::connect(broker.port());
    for _ in 0..20 {
        produce(&mut client, "some", 0, &[&[4; 500_000]]);
    }
    let before = memory_bytes(broker.pid(), "VmHWM");
    beside_a_neighbour(&broker, "some", 1, || {
        let mut taken = 0;
        let mut all: Vec<RawClient> = (0..CLIENTS)
            .map(|_| RawClient::connect(broker.port()))
            .collect();
        for client in &mut all {
            let request = fetch_request("some", (0..1000).map(|_| (0, 0)), 1000, i32::MAX);
            let frame = client.frame(FETCH_VERSION, &request);
            client
                .stream
                .set_write_timeout(Some(Duration::from_millis(200)))
                .expect("it can be set");
            // Until the broker reads no more and the sockets between are full.
            for _ in 0..10_000 {
                match client.stream.write(&frame) {
                    Ok(written) => taken += written,
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                    {
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        println!(
            "{CLIENTS} clients could send {} KiB of Fetches",
            taken >> 10
        );
        let used = metric(
            broker.http_port(),
            "strandline_request_memory_used_bytes",
            &[],
        );
        println!("their requests hold {} KiB", used as u64 >> 10);
        assert!(used < (CLIENTS * (512 << 10)) as f64, "{used} bytes");
    });
    let grown = memory_bytes(broker.pid(), "VmHWM") - before;
    println!("{} MiB more at the peak", grown >> 20);
    assert!(grown < MEMORY_BYTES_MAX, "{grown} bytes more");
}

/// The log file of a partition's only segment.
fn log_file(broker: &Broker, partition: &str) -> std::fs::File {
    let path = broker
        .data()
        .join(partition)
        .join("00000000000000000000.log");
    std::fs::File::open(path).expect("the log file")
}

#[test]
fn a_slow_reader_of_evicted_history_gets_it_right_and_holds_nobody() {
    const RECORDS: usize = 32;
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "old", 2, &[]);
    let mut client = RawClient::connect(broker.port());
    let value = |number: usize| vec![number as u8; 1_000_000];
    for number in 0..RECORDS {
        produce(&mut client, "old", 0, &[&value(number)]);
    }
    beside_a_neighbour(&broker, "old", 1, || {
        let request = fetch_request("old", [(0, 0)], 1000, 100 << 20);
        client.send(FETCH_VERSION, &request);
        // The answer has begun, and then its reader pauses for longer than pages are trusted to stay.
        let mut frame = vec![0; 4];
        client.stream.read_exact(&mut frame).expect("an answer");
        let length = u32::from_be_bytes(frame[..].try_into().expect("four bytes")) as usize;
        let mut pause = RawClient::connect(broker.port());
        let poll = fetch_request("old", [(0, RECORDS as i64)], 1500, 1000);
        pause.ask::<FetchRequest>(FETCH_VERSION, &poll);
        let cold = || metric(broker.http_port(), "strandline_fetch_cold_bytes_total", &[]);
        assert_eq!(cold(), 0.0);
        let file = log_file(&broker, "old-0");
        let mut frame = vec![0; length];
        let mut done = 0;
        while done < length {
            file.sync_all().expect("it can be synced");
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
            let end = length.min(done + (1 << 20));
            client
                .stream
                .read_exact(&mut frame[done..end])
                .expect("the rest");
            done = end;
        }
        let answer = decode_answer::<FetchRequest>(FETCH_VERSION, frame.into());
        let got = values(&answer);
        assert_eq!(got.len(), RECORDS);
        assert!((0..RECORDS).all(|number| got[number] == value(number)));
        println!(
            "{} KiB had to be read in again on the way",
            cold() as u64 >> 10
        );
        assert!(cold() > 0.0, "nothing was found missing");
    });
}

#[test]
fn a_session_of_a_thousand_idle_partitions_costs_what_changed() {
    const PARTITIONS: i32 = 1000;
    const ROUNDS: i32 = 50;
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "idle", PARTITIONS, &[]);
    let mut producer = RawClient::connect(broker.port());
    let mut consumer = RawClient::connect(broker.port());
    let begin = fetch_request("idle", (0..PARTITIONS).map(|one| (one, 0)), 0, 1 << 20);
    let full = consumer.ask::<FetchRequest>(FETCH_VERSION, &begin.with_session_epoch(0));
    assert_ne!(full.session_id, 0);
    assert_eq!(full.responses[0].partitions.len(), PARTITIONS as usize);
    let looks = || {
        metric(
            broker.http_port(),
            "strandline_fetch_partitions_looked_at_total",
            &[],
        )
    };
    let mut epoch = 1;
    // Nothing but what is to be changed, in the session that is there.
    let mut ask = |consumer: &mut RawClient, moved: Option<(i32, i64)>, max_wait_ms: i32| {
        let request = fetch_request("idle", moved, max_wait_ms, 1 << 20)
            .with_session_id(full.session_id)
            .with_session_epoch(epoch);
        epoch += 1;
        consumer.send(FETCH_VERSION, &request);
    };
    ask(&mut consumer, None, 0);
    consumer.receive::<FetchRequest>(FETCH_VERSION);

    let before = looks();
    for _ in 0..ROUNDS {
        ask(&mut consumer, None, 0);
        let answer = consumer.receive::<FetchRequest>(FETCH_VERSION);
        assert!(answer.responses.is_empty());
    }
    let idle = looks() - before;
    println!("{ROUNDS} fetches without news: {idle} looks");
    assert!(idle <= f64::from(ROUNDS), "{idle} looks");

    let before = looks();
    let mut moved = None;
    for round in 0..ROUNDS {
        // It waits before there is anything to read.
        ask(&mut consumer, moved, 20_000);
        let partition = round * 17 % PARTITIONS;
        let offset = produce(&mut producer, "idle", partition, &[b"news"]);
        let mut answer = consumer.receive::<FetchRequest>(FETCH_VERSION);
        if answer.responses.is_empty() {
            // Only of the watermark that moved with the last round's record.
            ask(&mut consumer, None, 20_000);
            answer = consumer.receive::<FetchRequest>(FETCH_VERSION);
        }
        let told = &answer.responses[0].partitions;
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].partition_index, partition);
        moved = Some((partition, offset + 1));
    }
    let news = looks() - before;
    println!("{ROUNDS} fetches with news of one partition: {news} looks");
    assert!(news <= f64::from(ROUNDS * 5), "{news} looks");
}

#[test]
fn thousands_of_waiting_fetches_cost_nothing_until_something_happens() {
    const WAITING: usize = 2000;
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "slow", 2, &[]);
    let poll = fetch_request("slow", [(0, 0)], 60_000, 1000);
    let mut waiting: Vec<RawClient> = (0..WAITING)
        .map(|number| {
            let source = std::net::IpAddr::from([127, 0, 0, 1 + (number % 4) as u8]);
            let mut client = RawClient::connect_from(source, broker.port()).expect("accepted");
            client.send(FETCH_VERSION, &poll);
            client
        })
        .collect();
    let taken = || {
        metric(
            broker.http_port(),
            "strandline_requests_total",
            &["api=\"Fetch\""],
        )
    };
    wait_until("all of them wait", DEADLINE, || match taken() {
        taken if taken == WAITING as f64 => Ok(()),
        taken => Err(format!("{taken} are taken")),
    });
    let mut other = RawClient::connect(broker.port());
    let before = (
        cpu_seconds(broker.pid()),
        strandline_tests::voluntary_switches(broker.pid()),
    );
    let two_seconds = fetch_request("slow", [(1, 0)], 2000, 1000);
    other.ask::<FetchRequest>(FETCH_VERSION, &two_seconds);
    let cpu = cpu_seconds(broker.pid()) - before.0;
    let wakes = strandline_tests::voluntary_switches(broker.pid()) - before.1;
    println!("{WAITING} fetches waited for 2 s: {cpu:.2} CPU seconds, {wakes} wake-ups");
    assert!(wakes < 500, "{wakes} wake-ups");
    produce(&mut other, "slow", 0, &[b"at last"]);
    for client in &mut waiting {
        let answer = client.receive::<FetchRequest>(FETCH_VERSION);
        assert_eq!(values(&answer), [b"at last"]);
    }
}
