//! What a produce and a fetch cost in system calls, counted by strace: `docs/produce-and-fetch.md` says these numbers.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, ProduceRequest};
use strandline_tests::{Broker, BrokerOptions, Process, now_ms, wait_until};

use crate::librdkafka::create_topic;
use crate::raw::{
    FETCH_VERSION, PRODUCE_VERSION, RawClient, batch, fetch_request, produce_request,
};

const REQUESTS: usize = 200;
const DEADLINE: Duration = Duration::from_secs(20);

/// System calls per request while `work` runs. `None` when this machine does not let a process be traced.
fn count(broker: &Broker, what: &str, work: impl FnOnce()) -> Option<BTreeMap<String, f64>> {
    let output = broker.folder().join(format!("{what}.calls"));
    let log = broker.folder().join(format!("{what}.strace"));
    let mut command = Command::new("strace");
    command
        .args(["-f", "-o"])
        .arg(&output)
        .args(["-p", &broker.pid().to_string()]);
    let mut strace = Process::spawn(&mut command, &log);
    wait_until("strace is attached", DEADLINE, || {
        let said = strace.output();
        if said.contains("attached") {
            return Ok(Some(()));
        }
        if strace.exited().is_some() {
            assert!(said.contains("not permitted"), "{said}");
            return Ok(None);
        }
        Err(said)
    })?;
    work();
    strace.signal("INT");
    strace.wait(DEADLINE);
    let trace = std::fs::read_to_string(&output).expect("strace has written");
    let mut calls: BTreeMap<String, f64> = BTreeMap::new();
    for line in trace.lines() {
        // "1234 sendto(5, ...": a call begins. Its end, when it had to wait, is a line of another form.
        let Some((_, call)) = line.split_once(' ') else {
            continue;
        };
        if let Some((name, _)) = call.trim_start().split_once('(')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            // Older than the call itself.
            let name = if name == "syscall_0x1c3" {
                "cachestat"
            } else {
                name
            };
            *calls.entry(name.to_owned()).or_default() += 1.0 / REQUESTS as f64;
        }
    }
    calls.retain(|_, calls| *calls >= 0.05);
    let list: Vec<String> = calls
        .iter()
        .map(|(name, calls)| format!("{name} {calls:.2}"))
        .collect();
    println!("{what}: {}", list.join(", "));
    Some(calls)
}

#[test]
fn a_produce_and_a_fetch_cost_few_system_calls() {
    let broker = Broker::start(BrokerOptions::default());
    create_topic(&broker.bootstrap(), "counted", 1, &[]);
    let mut client = RawClient::connect(broker.port());
    let mut produce = |value: &[u8]| {
        let request = produce_request("counted", 0, -1, batch(now_ms(), [value]));
        let answer = client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, 0);
        answer.base_offset
    };
    let (small, large) = (vec![1; 100], vec![2; 60_000]);
    let first_small = produce(&small) + 1;
    let at_most = |calls: &BTreeMap<String, f64>, limits: &[(&str, f64)]| {
        for (name, most) in limits {
            let seen = calls.get(*name).copied().unwrap_or(0.0);
            assert!(seen <= *most, "{name}: {seen} per request");
        }
    };
    let Some(calls) = count(&broker, "produce of 100 bytes", || {
        for _ in 0..REQUESTS {
            produce(&small);
        }
    }) else {
        println!("this machine does not permit ptrace, so system calls could not be counted");
        return;
    };
    at_most(
        &calls,
        &[
            ("pwritev", 1.1),
            ("pwrite64", 1.1),
            ("sendto", 1.1),
            ("fdatasync", 0.1),
            // No empty socket is read. How many threads are woken is no matter of this test: after a slow write, which a
            // busy disk may have at any time, append threads take over for a while.
            ("recvfrom", 1.1),
        ],
    );
    let first_large = first_small + REQUESTS as i64;
    let calls = count(&broker, "produce of 60,000 bytes", || {
        for _ in 0..REQUESTS {
            produce(&large);
        }
    });
    at_most(
        &calls.expect("as before"),
        &[("pwritev", 1.1), ("pwrite64", 1.6), ("sendto", 1.1)],
    );

    let mut reader = RawClient::connect(broker.port());
    let mut read = |offset: i64, least: usize| {
        let request = fetch_request(
            "counted",
            [(0, offset)],
            1000,
            if least > 1000 { 60_500 } else { 200 },
        );
        let answer = reader.ask::<FetchRequest>(FETCH_VERSION, &request);
        let records = answer.responses[0].partitions[0].records.clone();
        assert!(records.is_some_and(|records| records.len() >= least));
    };
    let calls = count(&broker, "fetch of one small batch", || {
        for number in 0..REQUESTS as i64 {
            read(first_small + number, 100);
        }
    });
    at_most(
        &calls.expect("as before"),
        &[("sendfile", 0.1), ("sendto", 1.1)],
    );
    let calls = count(&broker, "fetch of 60,000 bytes", || {
        for number in 0..REQUESTS as i64 {
            read(first_large + number, 60_000);
        }
    });
    // The header before the records, and the tagged fields behind them.
    at_most(
        &calls.expect("as before"),
        &[("sendfile", 2.1), ("sendto", 2.1)],
    );
    let calls = count(
        &broker,
        "fetch that waits for a record of 100 bytes",
        || {
            let end = first_large + REQUESTS as i64;
            let mut producer = RawClient::connect(broker.port());
            for offset in end..end + REQUESTS as i64 {
                let request = fetch_request("counted", [(0, offset)], 5000, 200);
                reader.send(FETCH_VERSION, &request);
                let request = produce_request("counted", 0, -1, batch(now_ms(), [&small[..]]));
                producer.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
                reader.receive::<FetchRequest>(FETCH_VERSION);
            }
        },
    );
    at_most(
        &calls.expect("as before"),
        &[("sendfile", 0.1), ("sendto", 2.2)],
    );
}
