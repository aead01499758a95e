//! Starting and stopping: how fast, with which configuration, and what is refused with which words.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use strandline_tests::{
    Broker, BrokerOptions, Finished, Process, free_port, http_get, now_ms, run_to_end,
    strandline_binary, timed, wait_until,
};

use crate::librdkafka;
use strandline_tests::TestRecord;

const DEADLINE: Duration = Duration::from_secs(30);
const BINARY_BYTES_MAX: u64 = 60 << 20;

/// Runs the binary in `folder` until it ends by itself.
fn strandline(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(strandline_binary());
    command
        .current_dir(folder)
        .args(arguments)
        .envs(environment.iter().copied());
    run_to_end(&mut command, DEADLINE)
}

/// A Metadata request of version 1 for all topics, without any library.
fn ask_metadata(port: u16) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let client = b"raw";
    let mut request = vec![0, 3, 0, 1, 0, 0, 0, 7, 0, client.len() as u8];
    request.extend_from_slice(client);
    request.extend_from_slice(&(-1i32).to_be_bytes());
    stream.write_all(&(request.len() as u32).to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A field of /proc/PID/status, in KiB.
fn memory_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_else(|| panic!("no {field} in {status}"))
}

#[test]
fn a_fresh_broker_answers_metadata_and_is_small() {
    let mut times = Vec::new();
    let mut idle_kib = 0;
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, http) = (free_port(), free_port());
        let mut command = Command::new(strandline_binary());
        command
            .current_dir(folder.path())
            .arg("start")
            .args(["-o", &format!("listeners=PLAINTEXT://127.0.0.1:{port}")])
            .args(["-o", &format!("http.listener=127.0.0.1:{http}")]);
        let log = folder.path().join("log");
        let ((process, answer), time) = timed(|| {
            let process = Process::spawn(&mut command, &log);
            // The first that is answered; a refused connection is tried again at once.
            let answer = loop {
                if let Ok(answer) = ask_metadata(port) {
                    break answer;
                }
                assert!(Path::new(&format!("/proc/{}", process.id())).exists());
                std::thread::yield_now();
            };
            (process, answer)
        });
        assert_eq!(answer[..4], [0, 0, 0, 7], "the correlation id");
        times.push(time.as_millis());
        wait_until("it is ready", DEADLINE, || {
            match http_get(http, "/readyz") {
                Ok((200, _)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(http_get(http, "/healthz").expect("answers").0, 200);
        assert!(folder.path().join("strandline-data").is_dir());
        idle_kib = memory_kib(process.id(), "VmRSS");
    }
    times.sort_unstable();
    let size = std::fs::metadata(strandline_binary())
        .expect("the binary is there")
        .len();
    println!(
        "start: first Metadata answered after {} ms (all: {times:?}); idle {:.1} MiB resident; binary {:.1} MB",
        times[times.len() / 2],
        idle_kib as f64 / 1024.0,
        size as f64 / 1e6
    );
    assert!(size < BINARY_BYTES_MAX, "the binary has {size} bytes");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let mut broker = Broker::start(BrokerOptions::default());
    let finished = strandline(
        broker.folder(),
        &[
            "start",
            "-o",
            &format!("listeners=PLAINTEXT://127.0.0.1:{}", free_port()),
            "-o",
            "http.listener=",
            "-o",
            &format!("log.dirs={}", broker.data().display()),
        ],
        &[],
    );
    assert!(!finished.status.success());
    let said = &finished.stderr;
    assert!(
        said.contains(&broker.data().display().to_string()),
        "{said}"
    );
    assert!(
        said.contains("another") || said.contains("in use") || said.contains("locked"),
        "{said}"
    );
    println!("second process: {}", said.trim());

    // SIGTERM is a clean end, and says so in the folder.
    assert!(!broker.data().join(".kafka_cleanshutdown").exists());
    broker.stop();
    assert!(broker.data().join(".kafka_cleanshutdown").exists());
}

#[test]
fn kafkas_quickstart_properties_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (port, http, controller) = (free_port(), free_port(), free_port());
    let data = folder.path().join("kraft-combined-logs");
    // config/server.properties of Kafka 4.3 without its comments; only ports and the folder are ours.
    let properties = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.bootstrap.servers=localhost:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         advertised.listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
         num.network.threads=3\n\
         num.io.threads=8\n\
         socket.send.buffer.bytes=102400\n\
         socket.receive.buffer.bytes=102400\n\
         socket.request.max.bytes=104857600\n\
         log.dirs={}\n\
         num.partitions=1\n\
         num.recovery.threads.per.data.dir=1\n\
         offsets.topic.replication.factor=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         log.retention.hours=168\n\
         log.segment.bytes=1073741824\n\
         log.retention.check.interval.ms=300000\n",
        data.display()
    );
    let file = folder.path().join("server.properties");
    std::fs::write(&file, properties).expect("a file can be written");
    let mut command = Command::new(strandline_binary());
    command
        .current_dir(folder.path())
        .arg("start")
        .arg("--config")
        .arg(&file)
        // As Kafka's images take configuration.
        .env("KAFKA_NUM_PARTITIONS", "4")
        .env("STRANDLINE_HTTP_LISTENER", format!("127.0.0.1:{http}"));
    let process = Process::spawn(&mut command, &folder.path().join("log"));
    wait_until("it is ready", DEADLINE, || {
        match http_get(http, "/readyz") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}\n{}", process.output())),
        }
    });
    let bootstrap = format!("localhost:{port}");
    // A topic that is made by asking for it, with the partitions that the environment says.
    let record = TestRecord {
        partition: 0,
        timestamp: now_ms(),
        value: Some(b"hello".to_vec()),
        ..TestRecord::default()
    };
    librdkafka::produce(
        &bootstrap,
        "quickstart-events",
        "none",
        std::slice::from_ref(&record),
    );
    let read = librdkafka::consume(&bootstrap, "quickstart-events", 1);
    assert_eq!(read[0].record, record);
    let consumer = librdkafka::consumer(&bootstrap, "unused");
    assert_eq!(
        librdkafka::partitions(&consumer, "quickstart-events").len(),
        4
    );
    assert!(data.join("quickstart-events-3").is_dir());
    let said = process.output();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("WARN")).collect();
    assert!(
        warnings.iter().any(|line| line.contains("num.io.threads")),
        "what has no effect is warned of: {said}"
    );
    println!(
        "quickstart: {} warnings: {}",
        warnings.len(),
        warnings.join(" | ")
    );
}

#[test]
fn what_is_wrong_is_refused_with_its_name_and_what_would_be_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (override_, wanted) in [
        (
            "log.segmnet.bytes=1",
            &["log.segmnet.bytes", "log.segment.bytes"][..],
        ),
        ("log.segment.bytes=many", &["log.segment.bytes", "many"]),
        ("num.partitions=0", &["num.partitions", "0", "1"]),
        (
            "log.cleanup.policy=burn",
            &["log.cleanup.policy", "burn", "delete"],
        ),
        ("listeners=nonsense", &["listeners", "nonsense"]),
        (
            "remote.storage.url=gopher://x",
            &["remote.storage.url", "gopher"],
        ),
    ] {
        let finished = strandline(folder.path(), &["start", "-o", override_], &[]);
        assert!(!finished.status.success(), "{override_} was accepted");
        for wanted in wanted {
            assert!(
                finished.stderr.contains(wanted),
                "{override_}: no {wanted} in {}",
                finished.stderr
            );
        }
        println!("refused: {}", finished.stderr.trim());
    }
    let finished = strandline(
        folder.path(),
        &["start"],
        &[("STRANDLINE_LOG_SEGMENT_BYTES", "-5")],
    );
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("log.segment.bytes"),
        "{}",
        finished.stderr
    );
    let finished = strandline(
        folder.path(),
        &["start", "--config", "missing.properties"],
        &[],
    );
    assert!(
        finished.stderr.contains("missing.properties"),
        "{}",
        finished.stderr
    );
}
