//! Every limit of the broker, reached from outside: what is beyond it is refused or waits, and nobody else notices.

use std::io::Write;
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, MetadataRequest, ProduceRequest};
use strandline_tests::{
    Broker, BrokerOptions, cpu_seconds, memory_bytes, metric, now_ms, open_files, timed,
    voluntary_switches, wait_until,
};

use crate::librdkafka::create_topic;
use crate::raw::{
    DEADLINE, FETCH_VERSION, PRODUCE_VERSION, RawClient, batch, fetch_request, produce_request,
};

const API_VERSIONS_VERSION: i16 = 0;
const METADATA_VERSION: i16 = 1;

fn ask_versions(client: &mut RawClient) {
    let answer = client.ask(API_VERSIONS_VERSION, &ApiVersionsRequest::default());
    assert!(!answer.api_keys.is_empty());
}

fn loopback(last: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, last])
}

fn refused(broker: &Broker, limit: &str) -> f64 {
    let label = format!("limit=\"{limit}\"");
    metric(
        broker.http_port(),
        "strandline_network_connections_refused_total",
        &[&label],
    )
}

fn connections(broker: &Broker) -> f64 {
    metric(broker.http_port(), "strandline_network_connections", &[])
}

/// Metadata of no topic, made `size` bytes long by bytes that the broker does not know.
fn padded_metadata(client: &mut RawClient, size: usize) -> Vec<u8> {
    let request = MetadataRequest::default().with_topics(Some(Vec::new()));
    let mut frame = client.frame(METADATA_VERSION, &request).to_vec();
    frame.resize(size + 4, 0);
    frame[..4].copy_from_slice(&(size as u32).to_be_bytes());
    frame
}

#[test]
fn a_request_above_socket_request_max_bytes_closes_its_connection() {
    const MAX: usize = 100_000;
    let broker = Broker::start(BrokerOptions::with(&[&format!(
        "socket.request.max.bytes={MAX}"
    )]));
    let mut neighbour = RawClient::connect(broker.port());
    let mut client = RawClient::connect(broker.port());
    let largest = padded_metadata(&mut client, MAX);
    client.stream.write_all(&largest).expect("it is taken");
    client.receive::<MetadataRequest>(METADATA_VERSION);
    // Only the length is sent: nothing more is waited for.
    let length = (MAX as u32 + 1).to_be_bytes();
    client.stream.write_all(&length).expect("it is taken");
    client.wait_closed(DEADLINE).expect("closed");
    ask_versions(&mut neighbour);
}

#[test]
fn requests_of_all_connections_share_one_memory_budget() {
    const BUDGET_BYTES: u64 = 16 << 20;
    const CLIENTS: usize = 24;
    const VALUE_BYTES: usize = 3 << 20;
    let broker = Broker::start(BrokerOptions::with(&[
        &format!("queued.max.request.bytes={BUDGET_BYTES}"),
        "message.max.bytes=8388608",
    ]));
    create_topic(
        &broker.bootstrap(),
        "large",
        4,
        &[("max.message.bytes", "8388608")],
    );
    let before = memory_bytes(broker.pid(), "VmHWM");
    let value = vec![5; VALUE_BYTES];
    let records = batch(now_ms(), [&value[..]]);
    let mut clients: Vec<RawClient> = (0..CLIENTS)
        .map(|_| RawClient::connect(broker.port()))
        .collect();
    let frames: Vec<_> = clients
        .iter_mut()
        .enumerate()
        .map(|(number, client)| {
            let request = produce_request("large", (number % 4) as i32, -1, records.clone());
            client.frame(PRODUCE_VERSION, &request)
        })
        .collect();
    // All of them announce what they have: more than the budget holds.
    const BEGINNING: usize = 10_000;
    for (client, frame) in clients.iter_mut().zip(&frames) {
        let beginning = &frame[..BEGINNING];
        client
            .stream
            .write_all(beginning)
            .expect("it fits the socket");
    }
    let waits = || {
        metric(
            broker.http_port(),
            "strandline_request_memory_waits_total",
            &[],
        )
    };
    wait_until("requests wait for memory", DEADLINE, || match waits() {
        0.0 => Err("nobody waits".to_owned()),
        _ => Ok(()),
    });
    std::thread::scope(|scope| {
        for (client, frame) in clients.iter_mut().zip(&frames) {
            let mut stream = client.stream.try_clone().expect("a handle");
            scope.spawn(move || {
                let rest = &frame[BEGINNING..];
                stream.write_all(rest).expect("it is taken in the end");
            });
        }
        let mut neighbour = RawClient::connect(broker.port());
        let used = || {
            metric(
                broker.http_port(),
                "strandline_request_memory_used_bytes",
                &[],
            )
        };
        for _ in 0..20 {
            ask_versions(&mut neighbour);
            let used = used();
            assert!(used <= BUDGET_BYTES as f64, "{used} bytes");
        }
        for client in &mut clients {
            let answer = client.receive::<ProduceRequest>(PRODUCE_VERSION);
            let partition = &answer.responses[0].partition_responses[0];
            assert_eq!(partition.error_code, 0);
        }
    });
    let used = metric(
        broker.http_port(),
        "strandline_request_memory_used_bytes",
        &[],
    );
    assert_eq!(used, 0.0, "all of it was given back");
    let grown = memory_bytes(broker.pid(), "VmHWM") - before;
    println!(
        "{CLIENTS} requests of {} MiB: {} waits, {} MiB more at the peak",
        frames[0].len() >> 20,
        waits(),
        grown >> 20
    );
    // The budget, the pool of idle buffers, and what the allocator keeps.
    assert!(grown < 3 * BUDGET_BYTES, "{grown} bytes more");
}

#[test]
fn connections_are_bounded_together_and_by_address() {
    let broker = Broker::start(BrokerOptions::with(&[
        "max.connections=12",
        "max.connections.per.ip=3",
        "max.connections.per.ip.overrides=127.0.0.2:5,127.0.0.3:0",
    ]));
    let port = broker.port();
    let admitted = |client: &mut RawClient| {
        // Whoever is refused sees its connection closed, with or without its request.
        let frame = client.frame(API_VERSIONS_VERSION, &ApiVersionsRequest::default());
        client.stream.write_all(&frame).is_ok() && client.receive_frame().is_ok()
    };
    let open = |last: u8, wanted: usize| {
        let clients = (0..wanted)
            .map(|_| RawClient::connect_from(loopback(last), port).expect("the kernel accepts it"));
        clients
            .filter_map(|mut client| admitted(&mut client).then_some(client))
            .collect::<Vec<_>>()
    };
    let of_one = open(1, 5);
    assert_eq!(of_one.len(), 3);
    assert_eq!(open(3, 2).len(), 0);
    let of_two = open(2, 8);
    assert_eq!(of_two.len(), 5);
    assert_eq!(refused(&broker, "max.connections.per.ip"), 2.0 + 2.0 + 3.0);
    // 8 are open; 4 more fit.
    let others = [open(4, 3), open(5, 3)];
    assert_eq!(others.iter().map(Vec::len).sum::<usize>(), 4);
    assert_eq!(refused(&broker, "max.connections"), 2.0);
    // A place that is given back can be taken.
    drop(of_one);
    wait_until("the places are free", DEADLINE, || {
        match connections(&broker) {
            9.0 => Ok(()),
            other => Err(format!("{other} connections")),
        }
    });
    assert_eq!(open(1, 3).len(), 3);
}

#[test]
fn idle_and_half_sending_connections_are_closed_and_waiting_ones_are_not() {
    const IDLE_MS: u64 = 1500;
    const READ_MS: u64 = 600;
    let broker = Broker::start(BrokerOptions::with(&[
        &format!("connections.max.idle.ms={IDLE_MS}"),
        &format!("request.read.timeout.ms={READ_MS}"),
    ]));
    create_topic(&broker.bootstrap(), "quiet", 1, &[]);
    let port = broker.port();
    let within = Duration::from_millis(10 * IDLE_MS);

    let mut half = RawClient::connect(port);
    let frame = half.frame(API_VERSIONS_VERSION, &ApiVersionsRequest::default());
    half.stream
        .write_all(&frame[..frame.len() - 1])
        .expect("it is taken");
    let ((), took) = timed(|| half.wait_closed(within).expect("closed"));
    assert!(took >= Duration::from_millis(READ_MS / 2), "after {took:?}");
    assert!(
        took < Duration::from_millis(READ_MS + 1000),
        "after {took:?}"
    );

    // Three bytes of a length are half a frame as well.
    let mut cut = RawClient::connect(port);
    cut.stream.write_all(&[0, 0, 0]).expect("it is taken");
    let ((), took) = timed(|| cut.wait_closed(within).expect("closed"));
    assert!(
        took < Duration::from_millis(READ_MS + 1000),
        "after {took:?}"
    );

    // A byte now and then does not buy more time.
    let mut trickling = RawClient::connect(port);
    trickling
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .expect("it can be set");
    let frame = padded_metadata(&mut trickling, 10_000);
    let (sent, took) = timed(|| {
        frame
            .iter()
            .take_while(|byte| {
                let sent = trickling.stream.write_all(&[**byte]).is_ok();
                sent && trickling.wait_closed(Duration::from_millis(50)).is_err()
            })
            .count()
    });
    assert!(sent < 100, "{sent} bytes");
    assert!(
        took < Duration::from_millis(READ_MS + 1500),
        "after {took:?}"
    );

    let mut idle = RawClient::connect(port);
    ask_versions(&mut idle);
    let ((), took) = timed(|| idle.wait_closed(within).expect("closed"));
    assert!(took >= Duration::from_millis(IDLE_MS / 2), "after {took:?}");
    assert!(
        took < Duration::from_millis(IDLE_MS + 1000),
        "after {took:?}"
    );

    // A long poll is no idleness, and costs nothing while it waits.
    let mut waiting = RawClient::connect(port);
    let poll = fetch_request("quiet", [(0, 0)], 3 * IDLE_MS as i32, 1000);
    let cpu_before = cpu_seconds(broker.pid());
    let (answer, took) = timed(|| waiting.ask::<FetchRequest>(FETCH_VERSION, &poll));
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert!(
        took >= Duration::from_millis(3 * IDLE_MS - 100),
        "after {took:?}"
    );
    let cpu = cpu_seconds(broker.pid()) - cpu_before;
    assert!(cpu < 0.5, "{cpu} CPU seconds for one waiting poll");
}

#[test]
fn the_requests_of_a_client_that_has_gone_do_not_keep_its_place() {
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "quiet", 1, &[]);
    let before = wait_until("librdkafka is gone", DEADLINE, || {
        match connections(&broker) {
            0.0 => Ok(0.0),
            other => Err(format!("{other} connections")),
        }
    });
    for _ in 0..50 {
        let mut client = RawClient::connect(broker.port());
        // It would wait for weeks.
        client.send(
            FETCH_VERSION,
            &fetch_request("quiet", [(0, 0)], i32::MAX, 1000),
        );
    }
    wait_until("their places are free", DEADLINE, || {
        match connections(&broker) {
            now if now == before => Ok(()),
            now => Err(format!("{now} connections")),
        }
    });
}

#[test]
fn a_fetch_answers_no_more_than_fetch_max_bytes_but_one_batch_whole() {
    const MAX: usize = 256 << 10;
    let broker = Broker::start(BrokerOptions::with(&[&format!("fetch.max.bytes={MAX}")]));
    create_topic(
        &broker.bootstrap(),
        "wide",
        8,
        &[("max.message.bytes", "2097152")],
    );
    let mut client = RawClient::connect(broker.port());
    let value = vec![9; 100 << 10];
    for number in 0..32 {
        let request = produce_request("wide", number % 8, 1, batch(now_ms(), [&value[..]]));
        client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
    }
    let all = fetch_request(
        "wide",
        (0..8).map(|partition| (partition, 0)),
        1000,
        i32::MAX,
    );
    client.send(FETCH_VERSION, &all);
    let frame = client.receive_frame().expect("an answer");
    assert!(frame.len() <= MAX + 1024, "{} bytes", frame.len());
    assert!(frame.len() >= 200 << 10, "{} bytes", frame.len());
    let huge = vec![9; 4 * MAX];
    let request = produce_request("wide", 0, 1, batch(now_ms(), [&huge[..]]));
    let appended = client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
    let offset = appended.responses[0].partition_responses[0].base_offset;
    let one = fetch_request("wide", [(0, offset)], 1000, 1000);
    let answer = client.ask::<FetchRequest>(FETCH_VERSION, &one);
    let records = answer.responses[0].partitions[0].records.clone();
    assert!(records.is_some_and(|records| records.len() > 4 * MAX));
}

#[test]
fn fetch_sessions_are_bounded_and_the_rest_is_served_without_one() {
    for slots in [0, 10, 100] {
        let broker = Broker::start(BrokerOptions::with(&[&format!(
            "max.incremental.fetch.session.cache.slots={slots}"
        )]));
        create_topic(&broker.bootstrap(), "one", 1, &[]);
        let mut with_session = 0;
        let mut clients = Vec::new();
        for _ in 0..200 {
            let mut client = RawClient::connect(broker.port());
            let request = fetch_request("one", [(0, 0)], 0, 1000).with_session_epoch(0);
            let answer = client.ask::<FetchRequest>(FETCH_VERSION, &request);
            assert_eq!(answer.error_code, 0);
            assert_eq!(answer.responses[0].partitions[0].error_code, 0);
            with_session += i32::from(answer.session_id != 0);
            clients.push(client);
        }
        let sessions = metric(broker.http_port(), "strandline_fetch_sessions", &[]);
        assert_eq!(sessions, f64::from(slots), "of {slots}");
        assert!(with_session >= slots, "{with_session} of {slots}");
    }
}

#[test]
fn ten_thousand_idle_connections_are_small_and_quiet() {
    const CONNECTIONS: usize = 10_000;
    const MEMORY_BYTES_MAX: u64 = 200 << 20;
    raise_open_files();
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "quiet", 1, &[]);
    let before = memory_bytes(broker.pid(), "VmRSS");
    let mut clients = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        // Some addresses, so that no pair of them runs out of ports.
        let source = loopback(1 + (number % 8) as u8);
        let mut client = RawClient::connect_from(source, broker.port()).expect("it is accepted");
        ask_versions(&mut client);
        clients.push(client);
    }
    wait_until("only these are connected", DEADLINE, || {
        match connections(&broker) {
            now if now == CONNECTIONS as f64 => Ok(()),
            now => Err(format!("{now} connections")),
        }
    });
    let after = memory_bytes(broker.pid(), "VmRSS");
    let cpu_before = cpu_seconds(broker.pid());
    let mut worst = Duration::ZERO;
    let mut neighbour = RawClient::connect(broker.port());
    for _ in 0..100 {
        let ((), took) = timed(|| ask_versions(&mut neighbour));
        worst = worst.max(took);
    }
    // Two seconds pass while one request waits. Threads that have nothing to do are not woken for the idle.
    let wakes_before = voluntary_switches(broker.pid());
    let poll = fetch_request("quiet", [(0, 0)], 2000, 1000);
    neighbour.ask::<FetchRequest>(FETCH_VERSION, &poll);
    let wakes = voluntary_switches(broker.pid()) - wakes_before;
    let cpu = cpu_seconds(broker.pid()) - cpu_before;
    println!(
        "{CONNECTIONS} idle connections: {} MiB more resident ({} in all), {} bytes each; {cpu:.2} CPU seconds beside \
         100 requests of a neighbour, of which the slowest took {worst:?}; {wakes} wake-ups in two quiet seconds",
        (after - before) >> 20,
        after >> 20,
        (after - before) / CONNECTIONS as u64,
    );
    assert!(after < MEMORY_BYTES_MAX, "{after} bytes resident");
    assert!(cpu < 1.0, "{cpu} CPU seconds");
    assert!(wakes < 1000, "{wakes} wake-ups");
    // All of them still work.
    for client in clients.iter_mut().step_by(97) {
        ask_versions(client);
    }
}

/// The test holds the clients' ends.
fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit can be raised to the hard one");
}

#[test]
fn the_broker_raises_its_limit_of_open_files_and_says_what_it_got() {
    let broker = Broker::start(BrokerOptions {
        open_files: Some((300, 4000)),
        ..BrokerOptions::default()
    });
    let log = std::fs::read_to_string(broker.log()).expect("a log");
    let line = log
        .lines()
        .find(|line| line.contains("descriptors that may be open"))
        .unwrap_or_else(|| panic!("nothing about descriptors in {log}"));
    assert!(line.contains("4000") && line.contains("300"), "{line}");
}

#[test]
fn connections_leave_descriptors_to_the_logs() {
    const OPEN_FILES: u64 = 400;
    let broker = Broker::start(BrokerOptions {
        open_files: Some((OPEN_FILES, OPEN_FILES)),
        ..BrokerOptions::default()
    });
    create_topic(&broker.bootstrap(), "filed", 8, &[]);
    let mut clients: Vec<RawClient> = (0..OPEN_FILES)
        .map(|_| RawClient::connect(broker.port()))
        .collect();
    wait_until("some are refused", DEADLINE, || {
        match refused(&broker, "open files") {
            0.0 => Err("nobody".to_owned()),
            _ => Ok(()),
        }
    });
    let first = &mut clients[0];
    let value = [1; 100];
    for partition in 0..8 {
        let request = produce_request("filed", partition, -1, batch(now_ms(), [&value[..]]));
        let answer = first.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
}

#[test]
fn without_descriptors_connections_wait_and_are_served_when_there_are_some() {
    let broker = Broker::start(BrokerOptions::default());
    let limit = |soft: usize| {
        let status = Command::new("prlimit")
            .args([
                "--pid",
                &broker.pid().to_string(),
                &format!("--nofile={soft}:"),
            ])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit");
    };
    let mut before = RawClient::connect(broker.port());
    ask_versions(&mut before);
    let open = open_files(broker.pid());
    limit(open + 4);
    let mut waiting: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(("127.0.0.1", broker.port())).expect("the backlog has room"))
        .collect();
    wait_until("all descriptors are taken", DEADLINE, || {
        match open_files(broker.pid()) >= open + 3 {
            true => Ok(()),
            false => Err(format!("{} open", open_files(broker.pid()))),
        }
    });
    let cpu_before = cpu_seconds(broker.pid());
    let ((), took) = timed(|| {
        for _ in 0..2000 {
            ask_versions(&mut before);
        }
    });
    let cpu = cpu_seconds(broker.pid()) - cpu_before;
    println!("without descriptors: 2000 requests in {took:?}, {cpu} CPU seconds");
    limit(20_000.min(open + 4000));
    for stream in waiting.drain(..) {
        ask_versions(&mut RawClient::over(stream));
    }
    let failed = metric(
        broker.http_port(),
        "strandline_network_accepts_failed_total",
        &[],
    );
    assert!(failed > 0.0, "accepting never failed");
}
