//! /metrics after real work: a page that a scraper takes, with figures that fit what was done.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    CreateTopicsRequest, DeleteTopicsRequest, FetchRequest, HeartbeatRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicName,
};
use strandline_tests::{Broker, BrokerOptions, Exposition, http_get, now_ms, wait_until};

use crate::librdkafka::create_topic;
use crate::raw::{
    DEADLINE, FETCH_VERSION, PRODUCE_VERSION, RawClient, batch, fetch_request, name,
    produce_request,
};

const TOPIC: &str = "seen";
const PRODUCES: usize = 200;
const VALUE: &[u8] = &[7; 8 << 10];
const SEGMENT_BYTES: u64 = 1 << 20;
const BUDGET_BYTES: u64 = 64 << 20;
const LONG_POLL: Duration = Duration::from_millis(300);

fn scrape(broker: &Broker) -> Exposition {
    let (status, page) = http_get(broker.http_port(), "/metrics").expect("/metrics answers");
    assert_eq!(status, 200);
    Exposition::parse(&page).unwrap_or_else(|error| panic!("{error}\n{page}"))
}

/// A part of the requests' time: its sum in seconds and its count.
fn time(page: &Exposition, part: &str, api: &str) -> (f64, f64) {
    let name = format!("strandline_request_{part}_time_seconds");
    let of = |suffix: &str| {
        page.find(&format!("{name}_{suffix}"), &[("api", api)])
            .unwrap_or_else(|| panic!("{name}_{suffix} of {api}"))
    };
    (of("sum"), of("count"))
}

/// Files of the topic's logs and their bytes.
fn log_files(broker: &Broker) -> BTreeMap<std::path::PathBuf, u64> {
    let folders = std::fs::read_dir(broker.data()).expect("the log folder");
    folders
        .flatten()
        .filter(|folder| folder.file_name().to_string_lossy().starts_with(TOPIC))
        .flat_map(|folder| std::fs::read_dir(folder.path()).expect("a partition's folder"))
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|end| end == "log"))
        .map(|file| (file.path(), file.metadata().expect("a file").len()))
        .collect()
}

/// Writes everything back and drops it from the page cache.
fn evict(broker: &Broker) {
    for path in log_files(broker).keys() {
        let file = File::open(path).expect("a log file");
        file.sync_all().expect("it can be synced");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice is taken");
    }
}

fn read_everything(client: &mut RawClient, partition: i32, end: i64) -> u64 {
    let (mut offset, mut bytes) = (0, 0);
    while offset < end {
        let request = fetch_request(TOPIC, [(partition, offset)], 1000, 1 << 20);
        let answer = client.ask::<FetchRequest>(FETCH_VERSION, &request);
        let records = answer.responses[0].partitions[0]
            .records
            .clone()
            .unwrap_or_default();
        bytes += records.len() as u64;
        let whole = strandline_log::record::batches_of(records).map_while(Result::ok);
        let last = whole.last().expect("a whole batch at least");
        offset = last.header.next_offset();
    }
    bytes
}

#[test]
fn the_metrics_fit_the_work() {
    let broker = Broker::start(BrokerOptions::with(&[
        &format!("queued.max.request.bytes={BUDGET_BYTES}"),
        "auto.create.topics.enable=false",
    ]));
    let before = scrape(&broker);
    let segment_bytes = SEGMENT_BYTES.to_string();
    create_topic(
        &broker.bootstrap(),
        TOPIC,
        2,
        &[("segment.bytes", &segment_bytes)],
    );
    let mut client = RawClient::connect(broker.port());
    let mut produced = 0;
    for number in 0..PRODUCES {
        let batch = batch(now_ms(), [VALUE, VALUE]);
        produced += batch.len() as u64;
        let request = produce_request(TOPIC, (number % 2) as i32, -1, batch);
        let answer = client.ask::<ProduceRequest>(PRODUCE_VERSION, &request);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
    }
    let end = PRODUCES as i64;
    let read = read_everything(&mut client, 0, end) + read_everything(&mut client, 1, end);
    assert!(read >= produced, "{read} of {produced} bytes");

    // A poll that finds nothing, topics that do not exist, a broken batch.
    let poll = fetch_request(TOPIC, [(0, end)], LONG_POLL.as_millis() as i32, 1 << 20);
    client.ask::<FetchRequest>(FETCH_VERSION, &poll);
    let unknown = fetch_request("nobody", [(0, 0)], 0, 1 << 20);
    client.ask::<FetchRequest>(FETCH_VERSION, &unknown);
    let mut broken = batch(now_ms(), [VALUE]).to_vec();
    *broken.last_mut().expect("bytes") ^= 1;
    client.ask::<ProduceRequest>(
        PRODUCE_VERSION,
        &produce_request(TOPIC, 0, 1, broken.into()),
    );

    let page = scrape(&broker);
    for (name, family) in &page.0 {
        assert!(family.help.len() > 10, "{name} has no help");
        let has_unit = |unit: &str, word: &str| !name.contains(unit) || family.help.contains(word);
        assert!(has_unit("_bytes", "ytes"), "{name}: {}", family.help);
        assert!(has_unit("_seconds", "econds"), "{name}: {}", family.help);
    }

    // Requests: counted once, and the parts make up the whole.
    let requests = |api| page.sum("strandline_requests_total", &[("api", api)]);
    assert_eq!(requests("Produce"), (PRODUCES + 1) as f64);
    for api in ["Produce", "Fetch", "CreateTopics", "ApiVersions"] {
        let mut parts = 0.0;
        for part in ["queue", "local", "remote", "send"] {
            let (sum, count) = time(&page, part, api);
            assert_eq!(count, requests(api), "{part} of {api}");
            parts += sum;
        }
        let (total, _) = time(&page, "total", api);
        assert!(
            (parts - total).abs() < 1e-6 * total.max(1.0),
            "{api}: {parts} {total}"
        );
        assert!(total > 0.0 && total < 60.0, "{api}: {total}");
    }
    let (polled, _) = time(&page, "remote", "Fetch");
    assert!(
        polled >= LONG_POLL.as_secs_f64() * 0.95,
        "a poll waited {polled} s"
    );
    let (worked, _) = time(&page, "local", "Fetch");
    assert!(
        worked < LONG_POLL.as_secs_f64() * 10.0,
        "{worked} s of work"
    );

    // Bytes and logs.
    let topic = [("topic", TOPIC)];
    assert_eq!(
        page.sum("strandline_topic_bytes_in_total", &topic),
        produced as f64
    );
    assert_eq!(
        page.sum("strandline_topic_messages_in_total", &topic),
        2.0 * PRODUCES as f64
    );
    assert_eq!(
        page.sum("strandline_topic_bytes_out_total", &topic),
        read as f64
    );
    let files = log_files(&broker);
    assert_eq!(
        page.sum("strandline_log_size_bytes", &topic),
        files.values().sum::<u64>() as f64
    );
    assert_eq!(
        page.sum("strandline_log_segments", &topic),
        files.len() as f64
    );
    assert!(files.len() >= 4, "{files:?}");
    let grown = |name: &str| page.sum(name, &[]) - before.sum(name, &[]);
    assert!(grown("strandline_network_received_bytes_total") >= produced as f64);
    assert!(grown("strandline_network_sent_bytes_total") >= read as f64);

    // Connections, memory, errors.
    assert!(page.sum("strandline_network_connections", &[]) >= 1.0);
    let limit = page.sum("strandline_request_memory_limit_bytes", &[]);
    assert_eq!(limit, BUDGET_BYTES as f64);
    assert!(page.sum("strandline_request_memory_used_bytes", &[]) <= limit);
    let errors = |api, error| {
        page.sum(
            "strandline_request_errors_total",
            &[("api", api), ("error", error)],
        )
    };
    assert_eq!(errors("Fetch", "UNKNOWN_TOPIC_OR_PARTITION"), 1.0);
    assert_eq!(errors("Produce", "CORRUPT_MESSAGE"), 1.0);

    // What was evicted is missed, and what was missed is read again.
    let misses = |page: &Exposition| page.sum("strandline_fetch_page_cache_misses_total", &[]);
    assert_eq!(misses(&page), 0.0, "all of it was in memory");
    wait_until("evicted pages are missed", DEADLINE, || {
        evict(&broker);
        assert_eq!(read_everything(&mut client, 0, end), read / 2);
        match misses(&scrape(&broker)) {
            0.0 => Err("the pages are still there".to_owned()),
            _ => Ok(()),
        }
    });
    assert!(scrape(&broker).sum("strandline_fetch_cold_bytes_total", &[]) > 0.0);
}

#[test]
fn a_thousand_topics_have_series_of_their_own_and_the_rest_share_one() {
    let broker = Broker::start(BrokerOptions::default());
    let names: Vec<String> = (0..1100).map(|number| format!("many-{number}")).collect();
    crate::strandline::block_on(async {
        let admin = crate::strandline::admin(&broker.bootstrap());
        for name in &names {
            let topic = strandline_client::NewTopic::new(name.as_str(), 1);
            admin.create_topic(&topic).await.expect("a topic");
        }
    });
    let series = |page: &Exposition, family: &str| {
        page.0.get(family).map_or(0, |family| family.samples.len())
    };
    let page = scrape(&broker);
    for family in [
        "strandline_log_size_bytes",
        "strandline_topic_bytes_in_total",
    ] {
        assert_eq!(series(&page, family), 1001, "{family}");
    }
    let others = [("topic", "(others)")];
    assert_eq!(page.sum("strandline_log_segments", &others), 100.0);
    let mut client = RawClient::connect(broker.port());
    let late = names.last().expect("names");
    let records = batch(now_ms(), [VALUE]);
    let bytes = records.len() as f64;
    client.ask::<ProduceRequest>(PRODUCE_VERSION, &produce_request(late, 0, 1, records));
    let page = scrape(&broker);
    assert_eq!(page.sum("strandline_topic_bytes_in_total", &others), bytes);
    assert_eq!(page.sum("strandline_log_size_bytes", &others), bytes);
}

/// Every API counts the errors of its answers under Kafka's names for them.
#[test]
fn errors_are_counted_by_api_and_code() {
    let broker = Broker::start(BrokerOptions::with(&["auto.create.topics.enable=false"]));
    create_topic(&broker.bootstrap(), "there", 1, &[]);
    let mut client = RawClient::connect(broker.port());
    let topic = |text: &str| TopicName(name(text));

    let metadata = MetadataRequest::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic("nowhere"))),
        ]))
        .with_allow_auto_topic_creation(false);
    let answer = client.ask::<MetadataRequest>(9, &metadata);
    assert_eq!(answer.topics[0].error_code, 3);

    let partition = |index| {
        ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(-1)
    };
    let list = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(topic("there"))
                .with_partitions(vec![partition(7), partition(8)]),
        ]);
    let answer = client.ask::<ListOffsetsRequest>(7, &list);
    assert_eq!(answer.topics[0].partitions[0].error_code, 3);

    let heartbeat = HeartbeatRequest::default()
        .with_group_id(name("nobody").into())
        .with_generation_id(1)
        .with_member_id(name("a-member"));
    let answer = client.ask::<HeartbeatRequest>(4, &heartbeat);
    assert_eq!(answer.error_code, 16);

    let create = CreateTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![
            CreatableTopic::default()
                .with_name(topic("there"))
                .with_num_partitions(1)
                .with_replication_factor(1),
        ]);
    let answer = client.ask::<CreateTopicsRequest>(5, &create);
    assert_eq!(answer.topics[0].error_code, 36);

    let delete = DeleteTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topic_names(vec![topic("nowhere")]);
    let answer = client.ask::<DeleteTopicsRequest>(5, &delete);
    assert_eq!(answer.responses[0].error_code, 3);

    let page = scrape(&broker);
    for (api, error, count) in [
        ("Metadata", "UNKNOWN_TOPIC_OR_PARTITION", 1.0),
        ("ListOffsets", "UNKNOWN_TOPIC_OR_PARTITION", 2.0),
        ("Heartbeat", "NOT_COORDINATOR", 1.0),
        ("CreateTopics", "TOPIC_ALREADY_EXISTS", 1.0),
        ("DeleteTopics", "UNKNOWN_TOPIC_OR_PARTITION", 1.0),
        ("Produce", "UNKNOWN_TOPIC_OR_PARTITION", 0.0),
    ] {
        let labels = [("api", api), ("error", error)];
        let counted = page.sum("strandline_request_errors_total", &labels);
        assert_eq!(counted, count, "{api} {error}");
    }
}
