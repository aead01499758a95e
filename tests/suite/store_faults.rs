//! A real MinIO that is killed, damaged, slow and refusing, with the broker killed beside it: nothing acknowledged is lost,
//! nothing wrong is read, no error reaches a client.
//!
//! Each record holds its number, which must be its offset: one that is lost, doubled, swapped or damaged shows.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::sync::{Arc, Mutex, PoisonError};
use strandline_tests::{
    Broker, BrokerOptions, FaultProxy, Faults, Minio, Pattern, run_to_end, strandline_binary,
    timed, wait_until, wait_until_tiered,
};

use crate::librdkafka;

const TOPIC: &str = "numbers";
const PARTITIONS: i32 = 2;
const VALUE_BYTES: usize = 1_000;
const BUCKET: &str = "faults";
const DEADLINE: Duration = Duration::from_secs(120);

const QUICK: &[&str] = &[
    "log.retention.check.interval.ms=100",
    "remote.log.manager.task.interval.ms=100",
    "remote.log.manager.task.retry.backoff.max.ms=500",
    // As small as can be: history is read from the store, not from the cache.
    "remote.log.cache.bytes=16777216",
];

const TIERED: &[(&str, &str)] = &[
    ("remote.storage.enable", "true"),
    ("internal.segment.bytes", "262144"),
    ("local.retention.ms", "1"),
    ("retention.ms", "-1"),
    ("file.delete.delay.ms", "0"),
];

fn options(minio: &Minio, endpoint: &str, more: &[&str]) -> BrokerOptions {
    let mut options = BrokerOptions::with(QUICK);
    options.configs.extend([
        format!("remote.storage.url=s3://{BUCKET}/strandline"),
        format!("remote.storage.s3.endpoint={endpoint}"),
    ]);
    options
        .configs
        .extend(more.iter().map(|config| (*config).to_owned()));
    options.environment = minio.environment();
    options
}

fn value(number: i64) -> Vec<u8> {
    let mut value = format!("{number} ").into_bytes();
    let mut filler = Pattern::new(number as u64);
    value.extend(filler.bytes(VALUE_BYTES - value.len()));
    value
}

#[derive(Default)]
struct Account {
    acknowledged: AtomicU64,
    failure: Mutex<Option<String>>,
}

impl Account {
    fn fail(&self, what: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(what);
    }

    fn check(&self) {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failure.is_none(), "{failure:?}");
    }
}

#[derive(Clone)]
struct Deliveries(Arc<Account>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) if message.offset() == number as i64 => {
                self.0.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Ok(message) => self
                .0
                .fail(format!("record {number} is at {}", message.offset())),
            Err((error, _)) => self.0.fail(format!("record {number}: {error}")),
        }
    }
}

fn producer(bootstrap: &str, account: &Arc<Account>) -> ThreadedProducer<Deliveries> {
    librdkafka::config(bootstrap)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "300000")
        .set("retry.backoff.ms", "50")
        .set("retry.backoff.max.ms", "200")
        .set("queue.buffering.max.messages", "2000")
        .set("batch.size", "65536")
        .set("linger.ms", "2")
        .create_with_context(Deliveries(Arc::clone(account)))
        .expect("a producer")
}

fn send(producer: &ThreadedProducer<Deliveries>, partition: i32, number: i64) {
    let value = value(number);
    wait_until("there is room in the queue", DEADLINE, || {
        let record: BaseRecord<'_, (), [u8], usize> =
            BaseRecord::with_opaque_to(TOPIC, number as usize)
                .partition(partition)
                .payload(&value);
        match producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                Err("the queue is full".to_owned())
            }
            Err((error, _)) => panic!("{error}"),
        }
    });
}

/// Produces so many numbers to each partition.
fn produce(bootstrap: &str, count: i64) {
    let account = Arc::new(Account::default());
    let producer = producer(bootstrap, &account);
    for number in 0..count {
        for partition in 0..PARTITIONS {
            send(&producer, partition, number);
        }
    }
    producer.flush(DEADLINE).expect("all are acknowledged");
    account.check();
}

fn check(message: &BorrowedMessage<'_>, next: &mut BTreeMap<i32, i64>) -> Result<(), String> {
    let expected = next.entry(message.partition()).or_insert(0);
    if message.offset() != *expected {
        return Err(format!(
            "partition {}: offset {} instead of {expected}",
            message.partition(),
            message.offset()
        ));
    }
    if message.payload() != Some(&value(*expected)[..]) {
        return Err(format!(
            "partition {}, offset {expected}: wrong bytes",
            message.partition()
        ));
    }
    *expected += 1;
    Ok(())
}

/// Reads each partition from its beginning until it has `ends` many records.
fn read_all(bootstrap: &str, end: i64) {
    let consumer = librdkafka::consumer_from(bootstrap, TOPIC, Offset::Beginning);
    let mut next = BTreeMap::new();
    librdkafka::poll_until(&consumer, &format!("{end} of each"), |message| {
        check(&message, &mut next).unwrap_or_else(|wrong| panic!("{wrong}"));
        next.len() == PARTITIONS as usize && next.values().all(|next| *next >= end)
    });
}

/// Reads from the beginning, again and again, until it is told to stop. Counts whole passes over what was there.
fn read_history(bootstrap: &str, stop: &AtomicBool, passes: &AtomicUsize, account: &Account) {
    while !stop.load(Ordering::Relaxed) {
        let consumer: BaseConsumer = librdkafka::consumer_from(bootstrap, TOPIC, Offset::Beginning);
        let goal =
            (account.acknowledged.load(Ordering::Relaxed) / PARTITIONS as u64) as i64 - 2_000;
        let mut next = BTreeMap::new();
        while !stop.load(Ordering::Relaxed) {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    if let Err(wrong) = check(&message, &mut next) {
                        account.fail(wrong);
                        return;
                    }
                }
                Some(Err(error)) if librdkafka::is_passing(&error) => {}
                Some(Err(error)) => {
                    account.fail(format!("a reader of history got an error: {error}"));
                    return;
                }
                None => {}
            }
            if next.len() == PARTITIONS as usize && next.values().all(|next| *next >= goal.max(1)) {
                passes.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// The command line's own check of every byte in the bucket.
fn verify(minio: &Minio) {
    let mut command = Command::new(strandline_binary());
    command
        .args([
            "tier",
            "verify",
            "--deep",
            "--from",
            &format!("s3://{BUCKET}/strandline"),
        ])
        .args([
            "-o",
            &format!("remote.storage.s3.endpoint={}", minio.endpoint()),
        ])
        .envs(minio.environment());
    let shown = run_to_end(&mut command, DEADLINE)
        .expect_success("verify")
        .stdout;
    assert!(shown.contains("everything"), "{shown}");
}

#[test]
fn kills_of_broker_and_store_lose_nothing_and_nothing_wrong_is_read() {
    let long = std::env::var("TEST_STRANDLINE_LONG").is_ok_and(|value| value == "1");
    let rounds = if long { 30 } else { 3 };
    let mut minio = Minio::start();
    minio.create_bucket(BUCKET);
    let mut broker = Broker::start(options(&minio, &minio.endpoint(), &[]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let account = Arc::new(Account::default());
    let stop = AtomicBool::new(false);
    let passes = AtomicUsize::new(0);
    let mut random = Pattern::new(41);
    let (sent, took) = timed(|| {
        std::thread::scope(|scope| {
            let producing = scope.spawn(|| {
                let producer = producer(&bootstrap, &account);
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    for partition in 0..PARTITIONS {
                        send(&producer, partition, number);
                    }
                    number += 1;
                }
                producer.flush(DEADLINE).expect("all are acknowledged");
                number
            });
            let reading = scope.spawn(|| read_history(&bootstrap, &stop, &passes, &account));
            let progress = |records: u64| {
                let goal = account.acknowledged.load(Ordering::Relaxed) + records;
                wait_until("records are acknowledged", DEADLINE, || {
                    account.check();
                    match account.acknowledged.load(Ordering::Relaxed) {
                        now if now >= goal => Ok(()),
                        now => Err(format!("{now} of {goal}")),
                    }
                });
            };
            for round in 0..rounds {
                progress(2_000 + random.below(2_000));
                // The first three rounds do one of each.
                let kind = if round < 3 { round } else { random.below(3) };
                if kind != 1 {
                    broker.kill();
                }
                if kind != 0 {
                    minio.kill();
                }
                if kind != 1 {
                    broker.restart();
                }
                if kind != 0 {
                    progress(1_000 + random.below(1_000));
                    minio.restart();
                }
            }
            let before = passes.load(Ordering::Relaxed);
            wait_until("history is read once more", DEADLINE, || {
                account.check();
                match passes.load(Ordering::Relaxed) {
                    now if now > before + 1 => Ok(()),
                    now => Err(format!("{now} passes")),
                }
            });
            stop.store(true, Ordering::Relaxed);
            let sent = producing.join().expect("the producer does not panic");
            reading.join().expect("the reader does not panic");
            sent
        })
    });
    account.check();
    assert_eq!(
        account.acknowledged.load(Ordering::Relaxed),
        (sent * i64::from(PARTITIONS)) as u64
    );
    wait_until_tiered(&broker, TOPIC, PARTITIONS);
    read_all(&bootstrap, sent);
    verify(&minio);
    println!(
        "{rounds} kills: {} records acknowledged and read, history read {} times meanwhile, in {:.0} s",
        sent * i64::from(PARTITIONS),
        passes.load(Ordering::Relaxed),
        took.as_secs_f64()
    );
}

#[test]
fn a_slow_refusing_and_stalling_store_is_no_clients_business() {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let proxy = FaultProxy::start(
        minio.port(),
        Faults {
            delay: Duration::from_millis(50),
            refused: 100,
            stalled: 10,
            stall: Duration::from_secs(30),
            stalled_first: Some(30),
        },
    );
    let stall = ["remote.log.stall.ms=3000"];
    let broker = Broker::start(options(&minio, &proxy.endpoint(), &stall));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let count = 6_000;
    let ((), took) = timed(|| {
        produce(&bootstrap, count);
        wait_until_tiered(&broker, TOPIC, PARTITIONS);
        read_all(&bootstrap, count);
    });
    // Once more from the store alone.
    std::fs::remove_dir_all(broker.data().join("remote-cache")).expect("the cache was there");
    read_all(&bootstrap, count);
    verify(&minio);
    assert!(proxy.stalled() >= 1);
    println!(
        "through a proxy with 50 ms more: {} requests, {} of them refused, {} stalled for 30 s; {} records in {:.1} s",
        proxy.requests(),
        proxy.refused(),
        proxy.stalled(),
        count * i64::from(PARTITIONS),
        took.as_secs_f64()
    );
}

#[test]
fn a_cache_that_is_wiped_under_load_disturbs_nobody() {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let broker = Broker::start(options(&minio, &minio.endpoint(), &[]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let count = 5_000;
    produce(&bootstrap, count);
    wait_until_tiered(&broker, TOPIC, PARTITIONS);
    let cache = broker.data().join("remote-cache");
    let done = AtomicUsize::new(0);
    let mut wiped = 0;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                read_all(&bootstrap, count);
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        wait_until("all have read", DEADLINE, || {
            // Files come and go meanwhile: what cannot be removed now is next time.
            wiped += usize::from(std::fs::remove_dir_all(&cache).is_ok());
            match done.load(Ordering::Relaxed) {
                3 => Ok(()),
                done => Err(format!("{done} have")),
            }
        });
    });
    assert!(wiped > 0);
    println!("3 readers of history while the cache's folder was removed {wiped} times");
}

#[test]
fn damaged_objects_are_never_served_and_the_rest_is() {
    let minio = Minio::start();
    minio.create_bucket(BUCKET);
    let mut broker = Broker::start(options(&minio, &minio.endpoint(), &[]));
    let bootstrap = broker.bootstrap();
    librdkafka::create_topic(&bootstrap, TOPIC, PARTITIONS, TIERED);
    let count = 4_000;
    produce(&bootstrap, count);
    wait_until_tiered(&broker, TOPIC, PARTITIONS);
    broker.stop();
    std::fs::remove_dir_all(broker.data().join("remote-cache")).expect("the cache was there");
    // Of partition 0: one flipped, one cut, one deleted; with each its first offset and that of the next object.
    let shown = minio.boto3(&format!(
        "pages = s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}')\n\
         keys = sorted((k for p in pages for o in p.get('Contents', []) if '/0/segment/' in (k := o['Key'])),\n\
         \x20             key=lambda k: k.rsplit('/', 1)[1])\n\
         start = lambda i: int(keys[i].rsplit('/', 1)[1].split('-')[0])\n\
         for i, kind in ((1, 'flip'), (3, 'cut'), (5, 'gone')):\n\
         \x20   body = s3.get_object(Bucket='{BUCKET}', Key=keys[i])['Body'].read()\n\
         \x20   s3.put_object(Bucket='{BUCKET}', Key='kept/' + keys[i], Body=body)\n\
         \x20   if kind == 'flip':\n\
         \x20       half = len(body) // 2\n\
         \x20       s3.put_object(Bucket='{BUCKET}', Key=keys[i], Body=body[:half] + bytes([body[half] ^ 4]) + body[half + 1:])\n\
         \x20   elif kind == 'cut':\n\
         \x20       s3.put_object(Bucket='{BUCKET}', Key=keys[i], Body=body[:len(body) // 2])\n\
         \x20   else:\n\
         \x20       s3.delete_object(Bucket='{BUCKET}', Key=keys[i])\n\
         \x20   print(kind, start(i), start(i + 1))"
    ));
    broker.restart();
    let damaged: Vec<(String, i64, i64)> = shown
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default().to_owned();
            let mut offset = || {
                words
                    .next()
                    .and_then(|w| w.parse().ok())
                    .expect("an offset")
            };
            (kind, offset(), offset())
        })
        .collect();
    assert_eq!(damaged.len(), 3, "{shown}");
    for (kind, start, end) in &damaged {
        let consumer = assigned(&bootstrap, *start);
        for _ in 0..20 {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    panic!("{kind}: got offset {} of {start}..{end}", message.offset())
                }
                Some(Err(error)) if librdkafka::is_passing(&error) => {}
                Some(Err(error)) => panic!("{kind}: an error reached the consumer: {error}"),
                None => {}
            }
        }
        // Right behind it all is well.
        let consumer = assigned(&bootstrap, *end);
        let mut next = BTreeMap::from([(0, *end)]);
        librdkafka::poll_until(&consumer, "what lies behind", |message| {
            check(&message, &mut next).unwrap_or_else(|wrong| panic!("{kind}: {wrong}"));
            next[&0] >= end + 50
        });
    }
    minio.boto3(&format!(
        "pages = s3.get_paginator('list_objects_v2').paginate(Bucket='{BUCKET}', Prefix='kept/')\n\
         for key in [o['Key'] for p in pages for o in p['Contents']]:\n\
         \x20   s3.copy_object(Bucket='{BUCKET}', Key=key[5:], CopySource={{'Bucket': '{BUCKET}', 'Key': key}})\n\
         \x20   s3.delete_object(Bucket='{BUCKET}', Key=key)"
    ));
    read_all(&bootstrap, count);
    println!(
        "flipped, cut and deleted objects: nothing of them was served, and all once they were back: {damaged:?}"
    );
}

fn assigned(bootstrap: &str, offset: i64) -> BaseConsumer {
    let consumer = librdkafka::consumer(bootstrap, "unused");
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 0, Offset::Offset(offset))
        .expect("an offset");
    consumer.assign(&list).expect("an assignment");
    consumer
}
