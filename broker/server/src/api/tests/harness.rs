//! A broker without listeners, in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, FetchResponse, ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::{Decodable, HeaderVersion};
use prometheus::Registry;
use strandline_core::metadata::{BrokerEndpoint, Command, InitCluster, SecurityProtocol};
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};
use strandline_log::{LogManager, LogManagerConfig};
use strandline_metadata::{MetadataQuorum, QuorumConfig};
use strandline_tiering::{Tier, TierConfig};
use strandline_wire::{Api, Request, decode_response};

use crate::api::text::{text, topic_name};
use crate::api::{Apis, ApisParts, Handled, RequestContext, ResponseBody, ResponsePart};
use crate::config::{BrokerConfig, ConfigSources};
use crate::{clock, ids};

pub const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

pub struct Node {
    pub apis: Arc<Apis>,
    logs: Arc<LogManager>,
    quorum: Arc<MetadataQuorum>,
    tier: Arc<Tier>,
    correlation: AtomicI32,
}

impl Node {
    pub async fn start(dir: &Path, overrides: &[&str]) -> Self {
        let mut all = vec![
            format!("log.dirs={}", dir.display()),
            "log.initial.task.delay.ms=1".to_owned(),
            "group.initial.rebalance.delay.ms=0".to_owned(),
            "offsets.topic.num.partitions=4".to_owned(),
            "remote.log.manager.task.interval.ms=100".to_owned(),
        ];
        all.extend(overrides.iter().map(|o| (*o).to_owned()));
        let sources = ConfigSources {
            overrides: all,
            hostname: "localhost".to_owned(),
            ..ConfigSources::default()
        };
        let (config, _) = BrokerConfig::load(&sources).expect("a valid configuration");
        let config = Arc::new(config);
        let registry = Registry::new();
        let logs = Arc::new(
            LogManager::open(LogManagerConfig {
                dirs: config.log_dirs.clone(),
                node_id: config.node_id,
                cluster_id: CLUSTER_ID.to_owned(),
                recovery_threads: 1,
                producer_id_expiration_ms: 86_400_000,
                open_files_max: 64,
                new_directory_id: ids::new_uuid,
            })
            .expect("log folders"),
        );
        let quorum = MetadataQuorum::start(QuorumConfig::new(dir, config.node_id))
            .await
            .expect("a quorum");
        let quorum = Arc::new(quorum);
        if !quorum.image().is_initialized() {
            let init = Command::InitCluster(InitCluster {
                cluster_id: CLUSTER_ID.into(),
                incarnation: 1,
                features: Default::default(),
            });
            quorum.propose(init).await.expect("an initialised cluster");
        }
        let tier_config =
            TierConfig::from_map(&config.values(), dir).expect("a tier's configuration");
        let tier = Tier::new(tier_config, CLUSTER_ID, &registry, [7; 32]).expect("a tier");
        tier.start(tokio::runtime::Handle::current());
        let endpoint = BrokerEndpoint {
            listener: "PLAINTEXT".into(),
            host: "127.0.0.1".into(),
            port: 9092,
            security_protocol: SecurityProtocol::Plaintext,
        };
        let apis = Apis::start(ApisParts {
            config,
            quorum: Arc::clone(&quorum),
            logs: Arc::clone(&logs),
            tier: Arc::clone(&tier),
            endpoints: vec![endpoint],
            registry,
        })
        .await
        .expect("the APIs");
        Self {
            apis,
            logs,
            quorum,
            tier,
            correlation: AtomicI32::new(1),
        }
    }

    pub async fn stop(self) {
        self.apis.shutdown().await;
        self.tier.shutdown().await;
        self.logs.shutdown_clean().expect("a clean shutdown");
        self.quorum.shutdown().await;
        // The folders stay locked while anything holds the logs: the next start must find them free.
        let logs = Arc::downgrade(&self.logs);
        drop(self);
        eventually("all have let go of the logs", || logs.strong_count() == 0).await;
    }

    pub fn context(&self, version: i16) -> RequestContext {
        RequestContext {
            listener: "PLAINTEXT".into(),
            client_id: "test".into(),
            client_host: "127.0.0.1".into(),
            connection_id: 1,
            api_version: version,
            correlation_id: self.correlation.fetch_add(1, Ordering::Relaxed),
            received: clock::now(),
        }
    }

    /// Sends a request and returns the answer's frame, whole.
    pub async fn frame(&self, version: i16, request: Request) -> Option<Bytes> {
        let handled = self.apis.handle(self.context(version), request);
        frame_of(body(handled).await)
    }

    pub async fn ask<R: Decodable + HeaderVersion>(
        &self,
        version: i16,
        request: impl Into<Request>,
    ) -> R {
        let request = request.into();
        let api = request.api();
        let frame = self.frame(version, request).await.expect("an answer");
        decode(api, version, frame)
    }

    pub async fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) {
        let configs = configs
            .iter()
            .map(|(name, value)| {
                CreatableTopicConfig::default()
                    .with_name(text(*name))
                    .with_value(Some(text(*value)))
            })
            .collect();
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(-1)
            .with_configs(configs);
        let response: CreateTopicsResponse = self
            .ask(
                7,
                CreateTopicsRequest::default()
                    .with_topics(vec![topic])
                    .with_timeout_ms(10_000),
            )
            .await;
        assert_eq!(
            response.topics[0].error_code, 0,
            "{:?}",
            response.topics[0].error_message
        );
    }

    pub async fn produce(
        &self,
        topic: &str,
        partition: i32,
        batch: Bytes,
        acks: i16,
    ) -> PartitionProduceResponse {
        let response: ProduceResponse = self
            .ask(9, produce_request(topic, partition, batch, acks))
            .await;
        response.responses[0].partition_responses[0].clone()
    }
}

pub async fn body(handled: Handled) -> ResponseBody {
    match handled {
        Handled::Ready(body) => body,
        Handled::Pending(answer) => answer.await.body,
        Handled::Stalled { admitted, answer } => {
            admitted.await;
            answer.await.body
        }
    }
}

pub fn frame_of(body: ResponseBody) -> Option<Bytes> {
    match body {
        ResponseBody::Bytes(bytes) => Some(bytes),
        ResponseBody::Fetch(frames) => {
            let mut whole = BytesMut::new();
            for part in frames.parts {
                match part {
                    ResponsePart::Bytes(bytes) => whole.extend_from_slice(&bytes),
                    ResponsePart::File(slice) => {
                        whole.extend_from_slice(&slice.read_to_bytes().expect("readable records"));
                    }
                }
            }
            Some(whole.freeze())
        }
        ResponseBody::None | ResponseBody::Close(_) => None,
    }
}

pub fn decode<R: Decodable + HeaderVersion>(api: Api, version: i16, mut frame: Bytes) -> R {
    let length = frame.get_i32();
    assert_eq!(
        usize::try_from(length),
        Ok(frame.len()),
        "the frame's length"
    );
    decode_response(api, version, frame)
        .expect("an answer that decodes")
        .1
}

pub fn decode_fetch(version: i16, frame: Bytes) -> FetchResponse {
    decode(Api::Fetch, version, frame)
}

pub fn produce_request(topic: &str, partition: i32, batch: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(batch));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![data]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(vec![topic])
}

/// A batch of these values.
pub fn batch(values: &[&str]) -> Bytes {
    batch_with(BatchOptions::default(), clock::now_ms(), values)
}

pub fn batch_with(options: BatchOptions, timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for value in values {
        builder
            .append(NewRecord {
                timestamp,
                key: None,
                value: Some(Bytes::copy_from_slice(value.as_bytes())),
                headers: Vec::new(),
            })
            .expect("a record that fits");
    }
    builder.build()
}

/// Waits for a condition that others bring about.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(clock::now() < deadline, "not in time: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
