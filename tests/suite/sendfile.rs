//! Large slices of the log go from the page cache to the socket without entering user space.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rdkafka::Offset;
use strandline_tests::{
    Broker, BrokerOptions, Pattern, Process, TestRecord, metric, now_ms, wait_until,
};

use crate::librdkafka;

const TOPIC: &str = "large";
const RECORDS: usize = 4000;
const VALUE_BYTES: usize = 16 << 10;
const SENT: &str = "strandline_network_sent_bytes_total";
/// From here on slices are left to the kernel.
const SENDFILE_BYTES_MIN: u64 = 16 << 10;

fn produce(bootstrap: &str) {
    let mut pattern = Pattern::new(3);
    let timestamp = now_ms();
    let records: Vec<TestRecord> = (0..RECORDS)
        .map(|_| TestRecord {
            timestamp,
            value: Some(pattern.bytes(VALUE_BYTES)),
            ..TestRecord::default()
        })
        .collect();
    librdkafka::create_topic(bootstrap, TOPIC, 1, &[]);
    librdkafka::produce(bootstrap, TOPIC, "none", &records);
}

fn consume(bootstrap: &str) {
    let consumer = librdkafka::consumer_from(bootstrap, TOPIC, Offset::Beginning);
    let mut left = RECORDS;
    librdkafka::poll_until(&consumer, "all records", |_| {
        left -= 1;
        left == 0
    });
}

#[test]
fn what_a_consumer_reads_was_sent_with_sendfile() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    produce(&bootstrap);
    let port = broker.http_port();
    let sendfile = || metric(port, SENT, &[r#"path="sendfile""#]);
    let (sendfile_before, all_before) = (sendfile(), metric(port, SENT, &[]));
    consume(&bootstrap);
    let sent = sendfile() - sendfile_before;
    let all = metric(port, SENT, &[]) - all_before;
    let read = (RECORDS * VALUE_BYTES) as f64;
    assert!(sent >= 0.98 * read, "{sent} of {read} bytes with sendfile");
    assert!(all - sent <= 0.02 * read, "{} bytes otherwise", all - sent);
    println!(
        "sendfile: {sent} bytes with sendfile, {} otherwise, for {read} bytes of values",
        all - sent
    );
}

/// What a finished `sendfile(...) = n` line says: asked for and sent.
fn parse(line: &str) -> Option<(u64, u64)> {
    let call = line.split_once("sendfile(")?.1;
    let (arguments, result) = call.split_once(") = ")?;
    let asked = arguments.rsplit(", ").next()?.parse().ok()?;
    let sent = result.split(' ').next()?.parse().ok()?;
    Some((asked, sent))
}

/// Attaches to all threads; `None` when this machine does not let a process be traced.
fn trace(broker: &Broker, output: &Path) -> Option<Process> {
    let log = broker.folder().join("strace.log");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-e", "trace=sendfile", "-o"])
        .arg(output)
        .args(["-p", &broker.pid().to_string()]);
    let mut process = Process::spawn(&mut command, &log);
    wait_until("strace is attached", Duration::from_secs(20), || {
        let said = process.output();
        if said.contains("attached") {
            return Ok(Some(()));
        }
        if process.exited().is_some() {
            assert!(said.contains("not permitted"), "{said}");
            return Ok(None);
        }
        Err(said)
    })?;
    Some(process)
}

#[test]
fn strace_sees_large_sendfile_calls() {
    let broker = Broker::start(BrokerOptions::default());
    let bootstrap = broker.bootstrap();
    produce(&bootstrap);
    let output = broker.folder().join("calls");
    let Some(mut strace) = trace(&broker, &output) else {
        println!(
            "strace: this machine does not permit ptrace, so system calls could not be watched"
        );
        return;
    };
    consume(&bootstrap);
    strace.signal("INT");
    strace.wait(Duration::from_secs(20));
    let calls = std::fs::read_to_string(&output).expect("strace has written");
    let calls: Vec<(u64, u64)> = calls.lines().filter_map(parse).collect();
    let sent: u64 = calls.iter().map(|(_, sent)| sent).sum();
    let largest = calls.iter().map(|(asked, _)| *asked).max().unwrap_or(0);
    assert!(
        sent >= (RECORDS * VALUE_BYTES) as u64 * 9 / 10,
        "strace saw {sent} bytes in {} calls",
        calls.len()
    );
    assert!(
        calls.iter().all(|(asked, _)| *asked > 0) && largest >= 4 * SENDFILE_BYTES_MIN,
        "the largest call asked for {largest}"
    );
    println!(
        "strace: {} sendfile calls sent {sent} bytes, the largest asked for {largest}",
        calls.len()
    );
}
