//! The tier: history from a folder against Kafka with LocalTieredStorage, and MinIO against the plain requests for the same
//! objects.
//!
//! "Cold" means gone from the local log and from our cache; the store's own files may be in the page cache, for both. What a
//! row against MinIO compares itself with runs in the same row, behind it: parallel ranged GETs of the same objects, a plain
//! PUT of the same bytes, without signatures (the bucket is public).

#![allow(clippy::disallowed_methods)] // It measures time and waits with deadlines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use strandline_log::TopicId;
use strandline_tests::{FaultProxy, Faults, Minio, cpu_seconds};

use super::{BROKERS, Figure, Row, Target, java};
use crate::cluster::Cluster;
use crate::contender::Contender;
use crate::load::{Fetch, Load, run_loads};
use crate::session::Session;

const TOPIC: &str = "tiered";
const WARM_UP_TOPIC: &str = "tiered-before";
const WARM_UP_BYTES: u64 = 300 << 20;
const SEGMENT_BYTES: &str = "104857600";
const BUCKET: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(300);
/// As our reader asks.
const RANGE_BYTES: u64 = 4 << 20;
const PARALLEL_GETS: usize = 8;
const COPY_BUFFER_BYTES: usize = 1 << 20;

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("segment.bytes", SEGMENT_BYTES),
    ("local.retention.ms", "1000"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

pub fn rows() -> Vec<Row> {
    vec![
        history(),
        minio_read("tier-minio-read", "MinIO", Faults::default()),
        minio_read(
            "tier-minio-slow",
            "MinIO behind a proxy that adds 50 ms, 1 % 503 and 0.1 % stalls of 30 s",
            Faults {
                delay: Duration::from_millis(50),
                refused: 100,
                stalled: 10,
                stall: Duration::from_secs(30),
                stalled_first: None,
            },
        ),
        minio_upload(),
    ]
}

fn history() -> Row {
    Row {
        name: "tier-history",
        what: "ConsumerPerformance: cold history of 1 KB records from a folder store, Kafka with LocalTieredStorage"
            .to_owned(),
        is_quick: false,
        contenders: BROKERS,
        figures: vec![
            Figure::new("throughput", "MB/s").kafka(Target::AtLeast(2.0)),
            Figure::new("broker CPU", "s/GiB").kafka(Target::AtMost(0.25)),
            Figure::new("peak memory", "MiB").kafka(Target::AtMost(0.125)),
        ],
        run: Box::new(|session| {
            let mut options = session.settings.server.clone();
            options.properties.push_str("log.retention.check.interval.ms=500\n");
            options.properties.push_str("remote.log.manager.task.interval.ms=500\n");
            let store = session.settings.server.folder.join("kafka-tier");
            crate::contender::remove(&store)?;
            options.kafka_properties = kafka_tier(&store);
            session.start_fresh_with(&options)?;
            let bytes = session.settings.pick(768 << 20, 2 << 30);
            // A smaller one first, so that no JVM is measured cold.
            let (_, warm_end) = tier(session, WARM_UP_TOPIC, WARM_UP_BYTES)?;
            let (_, end) = tier(session, TOPIC, bytes)?;
            let bootstrap = session.bootstrap()?;
            java::consume_all(&bootstrap, WARM_UP_TOPIC, warm_end)?;
            let measured = session.measure(|| java::consume_all(&bootstrap, TOPIC, end))?;
            let consumed = &measured.value;
            let result = vec![
                consumed.mib_per_second * f64::from(1 << 20) / 1e6,
                measured.cpu_per_gib((consumed.mib * f64::from(1 << 20)) as u64),
                measured.peak_mib(),
            ];
            session.discard();
            crate::contender::remove(&store)?;
            Ok(result)
        }),
    }
}

fn kafka_tier(store: &Path) -> String {
    format!(
        "remote.log.storage.system.enable=true\n\
         remote.log.storage.manager.class.name=org.apache.kafka.server.log.remote.storage.LocalTieredStorage\n\
         remote.log.storage.manager.impl.prefix=rsm.config.\n\
         rsm.config.dir={}\n\
         remote.log.metadata.manager.listener.name=PLAINTEXT\n\
         remote.log.metadata.manager.impl.prefix=rlmm.config.\n\
         rlmm.config.remote.log.metadata.topic.replication.factor=1\n",
        store.display()
    )
}

/// Fills a tiered topic and waits until only the active segment is local. Tells its id and where that segment begins.
fn tier(session: &mut Session<'_>, topic: &str, bytes: u64) -> anyhow::Result<(TopicId, i64)> {
    let id = session.cluster()?.create_topic(topic, 1, TIERED)?;
    session.fill(id, 1, bytes)?;
    let folder = session.server()?.data().join(format!("{topic}-0"));
    let end = wait_until_tiered(&folder)?;
    Ok((id, end))
}

fn wait_until_tiered(folder: &Path) -> anyhow::Result<i64> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut bases: Vec<i64> = std::fs::read_dir(folder)?
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                name.strip_suffix(".log")?.parse().ok()
            })
            .collect();
        bases.sort_unstable();
        if let [active] = bases[..]
            && active > 0
        {
            return Ok(active);
        }
        ensure!(
            Instant::now() < deadline,
            "{} segments are local",
            bases.len()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A MinIO with a public bucket, and a broker that tiers to it.
fn with_minio(
    session: &mut Session<'_>,
    endpoint: impl FnOnce(&Minio) -> String,
) -> anyhow::Result<Minio> {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    minio.boto3(&format!(
        "s3.put_bucket_policy(Bucket='{BUCKET}', Policy=json.dumps({{'Version': '2012-10-17', 'Statement': [{{\
         'Effect': 'Allow', 'Principal': {{'AWS': ['*']}}, 'Action': ['s3:GetObject', 's3:PutObject'],\
         'Resource': ['arn:aws:s3:::{BUCKET}/*']}}]}}))"
    ));
    let key = |name: &str| {
        let variables = minio.environment();
        let found = variables.into_iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value).unwrap_or_default()
    };
    let mut options = session.settings.server.clone();
    options.strandline_properties.push_str(&format!(
        "\nlog.retention.check.interval.ms=200\n\
         remote.log.manager.task.interval.ms=200\n\
         remote.storage.url=s3://{BUCKET}/strandline\n\
         remote.storage.s3.endpoint={}\n\
         remote.storage.s3.access.key.id={}\n\
         remote.storage.s3.secret.access.key={}\n",
        endpoint(&minio),
        key("AWS_ACCESS_KEY_ID"),
        key("AWS_SECRET_ACCESS_KEY")
    ));
    session.start_fresh_with(&options)?;
    Ok(minio)
}

/// Keys and sizes of the segment objects.
fn objects(minio: &Minio) -> anyhow::Result<Vec<(String, u64)>> {
    let listed = minio.boto3(&format!(
        "pages = s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}')\n\
         for o in (o for p in pages for o in p.get('Contents', []) if o['Key'].endswith('.strand')):\n\
         \x20   print(o['Key'], o['Size'])"
    ));
    let line = |line: &str| -> Option<(String, u64)> {
        let (key, bytes) = line.split_once(' ')?;
        Some((key.to_owned(), bytes.parse().ok()?))
    };
    listed
        .lines()
        .map(|text| line(text).with_context(|| text.to_owned()))
        .collect()
}

fn minio_read(name: &'static str, what: &str, faults: Faults) -> Row {
    Row {
        name,
        what: format!(
            "cold history of 1 KB records from {what}, one consumer; wanted: 80 % of {PARALLEL_GETS} parallel ranged GETs"
        ),
        is_quick: false,
        contenders: &[Contender::Strandline],
        figures: vec![
            Figure::new("throughput", "MB/s"),
            Figure::new("parallel GETs", "MB/s"),
            Figure::new("share of it", "%"),
            Figure::new("broker CPU", "s/GiB"),
        ],
        run: Box::new(move |session| {
            let mut proxy = None;
            let minio = with_minio(session, |minio| {
                let started = FaultProxy::start(minio.port(), faults);
                // Without a delay nothing is between.
                let endpoint = match faults.delay.is_zero() {
                    true => minio.endpoint(),
                    false => started.endpoint(),
                };
                proxy = Some(started);
                endpoint
            })?;
            let bytes = session.settings.pick(768 << 20, 2 << 30);
            let (id, end) = tier(session, TOPIC, bytes)?;
            let port = session.port()?;
            let read = Load {
                fetches: vec![Fetch::new(id, &[(0, 0, Some(end))], 1)],
                ..Load::default()
            };
            let measured = session.measure(|| run_loads(port, vec![read]))?;
            let outcome = &measured.value;
            let ours = outcome.per_second(outcome.fetched_bytes) / 1e6;
            let port = match (&proxy, faults.delay.is_zero()) {
                (Some(proxy), false) => proxy.port(),
                _ => minio.port(),
            };
            let plain = parallel_gets(port, &objects(&minio)?)? / 1e6;
            let cpu = measured.cpu_per_gib(outcome.fetched_bytes);
            session.discard();
            Ok(vec![ours, plain, 100.0 * ours / plain, cpu])
        }),
    }
}

/// Bytes per second of ranged GETs of all objects.
fn parallel_gets(port: u16, objects: &[(String, u64)]) -> anyhow::Result<f64> {
    let mut ranges: Vec<(&str, u64, u64)> = Vec::new();
    for (key, bytes) in objects {
        for start in (0..*bytes).step_by(RANGE_BYTES as usize) {
            ranges.push((key, start, (start + RANGE_BYTES).min(*bytes)));
        }
    }
    let total: u64 = ranges.iter().map(|(_, start, end)| end - start).sum();
    ranges.reverse();
    let left = Mutex::new(ranges);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL_GETS)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    let mut connection = None;
                    let mut buffer = vec![0; RANGE_BYTES as usize];
                    loop {
                        let next = left.lock().expect("nobody panics with it").pop();
                        let Some((key, start, end)) = next else {
                            return Ok(());
                        };
                        let wanted = (end - start) as usize;
                        while get(port, &mut connection, key, start, &mut buffer[..wanted]).is_err()
                        {
                            connection = None;
                            ensure!(begun.elapsed() < DEADLINE, "{key} cannot be read");
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.join().expect("it does not panic")?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    Ok(total as f64 / begun.elapsed().as_secs_f64())
}

type Connection = Option<(BufReader<TcpStream>, TcpStream)>;

fn connect(
    port: u16,
    connection: &mut Connection,
) -> anyhow::Result<&mut (BufReader<TcpStream>, TcpStream)> {
    Ok(match connection {
        Some(connection) => connection,
        None => {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            connection.insert((
                BufReader::with_capacity(64 << 10, stream.try_clone()?),
                stream,
            ))
        }
    })
}

fn get(
    port: u16,
    connection: &mut Connection,
    key: &str,
    start: u64,
    body: &mut [u8],
) -> anyhow::Result<()> {
    let (from, to) = connect(port, connection)?;
    let last = start + body.len() as u64 - 1;
    write!(
        to,
        "GET /{BUCKET}/{key} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nRange: bytes={start}-{last}\r\n\r\n"
    )?;
    let (status, length) = answer(from)?;
    ensure!(
        status == 206 && length == body.len() as u64,
        "{status}, {length} bytes"
    );
    from.read_exact(body)?;
    Ok(())
}

/// Reads an answer's head: status and length of the body.
fn answer(from: &mut impl BufRead) -> anyhow::Result<(u16, u64)> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("no status")?.parse()?;
    let mut length = 0;
    loop {
        line.clear();
        from.read_line(&mut line)?;
        if line.trim().is_empty() {
            return Ok((status, length));
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
}

fn minio_upload() -> Row {
    Row {
        name: "tier-minio-upload",
        what: "upload of sealed 100 MiB segments to MinIO; wanted: 80 % of a plain PUT of the same bytes, 1.3 x its CPU"
            .to_owned(),
        is_quick: false,
        contenders: &[Contender::Strandline],
        figures: vec![
            Figure::new("throughput", "MB/s"),
            Figure::new("plain PUT", "MB/s"),
            Figure::new("share of it", "%"),
            Figure::new("broker CPU", "s/GiB"),
            Figure::new("plain PUT's CPU", "s/GiB"),
        ],
        run: Box::new(|session| {
            let minio = with_minio(session, Minio::endpoint)?;
            let bytes = session.settings.pick(512 << 20, 1 << 30);
            let mut configs = TIERED.to_vec();
            configs.push(("remote.log.copy.disable", "true"));
            let id = session.cluster()?.create_topic(TOPIC, 1, &configs)?;
            session.fill(id, 1, bytes)?;
            let folder = session.server()?.data().join(format!("{TOPIC}-0"));
            let segments = sealed(&folder)?;
            // One after the other, as one partition's segments go up.
            let total: u64 = segments.iter().map(|(_, bytes)| bytes).sum();
            let cpu_before = cpu_seconds(std::process::id());
            let begun = Instant::now();
            for (place, (path, bytes)) in segments.iter().enumerate() {
                put(minio.port(), &format!("plain/{place}"), path, *bytes)?;
            }
            let plain_seconds = begun.elapsed().as_secs_f64();
            let plain_cpu = cpu_seconds(std::process::id()) - cpu_before;
            let cluster = Cluster::new(session.server()?.port())?;
            let begun = Instant::now();
            let measured = session.measure(|| {
                cluster.alter_topic(TOPIC, "remote.log.copy.disable", "false")?;
                wait_until_tiered(&folder)
            })?;
            let seconds = begun.elapsed().as_secs_f64();
            session.discard();
            let rate = |seconds: f64| total as f64 / seconds / 1e6;
            let gib = total as f64 / f64::from(1 << 30);
            Ok(vec![
                rate(seconds),
                rate(plain_seconds),
                100.0 * plain_seconds / seconds,
                measured.cpu_per_gib(total),
                plain_cpu / gib,
            ])
        }),
    }
}

/// The sealed segments' files with their sizes.
fn sealed(folder: &Path) -> anyhow::Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "log") {
            let bytes = path.metadata()?.len();
            files.push((path, bytes));
        }
    }
    files.sort();
    files.pop();
    ensure!(!files.is_empty(), "nothing is sealed");
    Ok(files)
}

fn put(port: u16, key: &str, path: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut connection = None;
    let (from, to) = connect(port, &mut connection)?;
    write!(
        to,
        "PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {bytes}\r\n\r\n"
    )?;
    let mut file = std::fs::File::open(path)?;
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut left = bytes;
    while left > 0 {
        let take = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        file.read_exact(&mut buffer[..take])?;
        to.write_all(&buffer[..take])?;
        left -= take as u64;
    }
    let (status, _) = answer(from)?;
    ensure!(status == 200, "a PUT was answered with {status}");
    Ok(())
}
