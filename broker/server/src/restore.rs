//! Makes a working node out of an empty machine and a bucket.
//!
//! 1. The folders must be empty; they get the former cluster's id.
//! 2. The metadata quorum begins with a raised incarnation, producer ids beyond all that were used, and the topics with
//!    their ids and configs. Leader epochs begin in the incarnation's own range.
//! 3. The broker starts where nobody reaches it. It leads every partition only after it has claimed its manifest: from
//!    then on the former cluster's writers are fenced. Its logs go on at the manifests' ends.
//! 4. Group offsets are committed as the plan clamped them, and the broker is shut down cleanly.
//!
//! No records are read: history is read through on demand. What fails leaves folders that are not to be used: they are to
//! be emptied, and the restore begun anew; each raises the incarnation further.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use strandline_core::group::{ClientIdentity, GroupRequest, GroupResponse, partition_for_group};
use strandline_core::metadata::{
    BrokerStarted, Command, CommandOutcome, CreateTopics, InitCluster, NewTopic, RaiseIncarnation,
    RegisterBroker,
};
use strandline_log::{LogManager, LogManagerConfig};
use strandline_metadata::{MetadataQuorum, QuorumConfig};
use strandline_tiering::format::GroupState;
use strandline_tiering::restore_plan::RestorePlan;

use crate::api::CONSUMER_OFFSETS_TOPIC;
use crate::config::BrokerConfig;
use crate::{Broker, ids};

/// Topics per entry of the metadata log.
const TOPICS_AT_A_TIME: usize = 500;
/// Looks again at what is not led yet.
const POLL: Duration = Duration::from_millis(20);
const OFFSET_COMMIT_VERSION: i16 = 8;

/// Restores into the folders of `config`. The listeners of `config` must be such that no client comes yet. `waiting` is
/// told how many partitions are not claimed yet.
pub async fn restore(
    config: BrokerConfig,
    plan: &RestorePlan,
    patience: Duration,
    mut waiting: impl FnMut(usize),
) -> anyhow::Result<()> {
    prepare_folders(&config, plan).await?;
    make_metadata(&config, plan).await?;
    let broker = Broker::start(config).await?;
    let done = async {
        let begun = crate::clock::now();
        loop {
            let left = broker.not_led();
            waiting(left.len());
            if left.is_empty() {
                break;
            }
            if begun.elapsed() > patience {
                bail!(
                    "{} partitions were not claimed within {} s, among them {}",
                    left.len(),
                    patience.as_secs(),
                    left[0]
                );
            }
            tokio::time::sleep(POLL).await;
        }
        for group in &plan.groups {
            commit(&broker, group)
                .await
                .with_context(|| format!("the offsets of group {}", group.group))?;
        }
        Ok(())
    }
    .await;
    broker.shutdown().await;
    done
}

/// Empty folders that carry the cluster's id.
async fn prepare_folders(config: &BrokerConfig, plan: &RestorePlan) -> anyhow::Result<()> {
    let mut dirs = config.log_dirs.clone();
    dirs.push(config.metadata_log_dir.clone());
    for dir in &dirs {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("cannot read {}", dir.display())),
        };
        for entry in entries {
            let name = entry?.file_name();
            // The tier's own folders, when the store lies beside the data.
            let is_tiers = name == "remote-storage" || name == "remote-cache" || name == ".lock";
            ensure!(
                is_tiers,
                "{} is not empty ({} is there): a restore begins with empty folders",
                dir.display(),
                name.display()
            );
        }
    }
    let logs = LogManagerConfig {
        dirs: config.log_dirs.clone(),
        node_id: config.node_id,
        cluster_id: plan.cluster_id.clone(),
        recovery_threads: 1,
        producer_id_expiration_ms: config.i64("producer.id.expiration.ms"),
        open_files_max: 64,
        new_directory_id: ids::new_uuid,
    };
    tokio::task::spawn_blocking(move || LogManager::open(logs).map(drop)).await??;
    Ok(())
}

async fn make_metadata(config: &BrokerConfig, plan: &RestorePlan) -> anyhow::Result<()> {
    let quorum_config = QuorumConfig::new(&config.metadata_log_dir, config.node_id);
    let quorum = MetadataQuorum::start(quorum_config).await?;
    let done = propose(config, plan, &quorum).await;
    quorum.shutdown().await;
    done
}

async fn propose(
    config: &BrokerConfig,
    plan: &RestorePlan,
    quorum: &MetadataQuorum,
) -> anyhow::Result<()> {
    let incarnation = u32::try_from(plan.incarnation).context("the incarnation")?;
    let incarnation_id = ids::new_uuid();
    let outcomes = quorum
        .propose_all(vec![
            Command::InitCluster(InitCluster {
                cluster_id: plan.cluster_id.as_str().into(),
                incarnation: incarnation - 1,
                features: BTreeMap::new(),
            }),
            Command::RaiseIncarnation(RaiseIncarnation {
                incarnation,
                next_producer_id_min: plan.next_producer_id,
            }),
            Command::RegisterBroker(RegisterBroker {
                broker_id: config.node_id,
                incarnation_id,
                endpoints: Vec::new(),
                rack: None,
            }),
            Command::BrokerStarted(BrokerStarted {
                broker_id: config.node_id,
                incarnation_id,
            }),
        ])
        .await?;
    for outcome in outcomes {
        if let CommandOutcome::Refused(error) = outcome {
            bail!("the metadata quorum refused: {error}");
        }
    }
    for topics in plan.topics.chunks(TOPICS_AT_A_TIME) {
        let topics = topics
            .iter()
            .map(|topic| NewTopic {
                name: topic.name.as_str().into(),
                id: topic.id,
                assignments: vec![
                    vec![config.node_id];
                    usize::try_from(topic.partition_count).unwrap_or(0)
                ],
                configs: topic.configs.clone(),
            })
            .collect();
        let create = Command::CreateTopics(CreateTopics { topics });
        match quorum.propose(create).await? {
            CommandOutcome::Topics(outcomes) => {
                for outcome in outcomes {
                    if let Err(error) = outcome.result {
                        bail!("a topic was refused: {error}");
                    }
                }
            }
            CommandOutcome::Refused(error) => bail!("the topics were refused: {error}"),
            _ => {}
        }
    }
    Ok(())
}

/// Commits a group's offsets as a consumer without a group's membership does.
async fn commit(broker: &Broker, group: &GroupState) -> anyhow::Result<()> {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let apis = broker.apis();
    let image = apis.metadata.image();
    let partitions = image
        .topics
        .get(CONSUMER_OFFSETS_TOPIC)
        .map(|topic| topic.partition_count())
        .context("the topic of committed offsets is not there")?;
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for offset in &group.offsets {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(offset.partition)
            .with_committed_offset(offset.offset)
            .with_committed_leader_epoch(offset.leader_epoch)
            .with_committed_metadata(Some(text(&offset.metadata)));
        topics.entry(&offset.topic).or_default().push(partition);
    }
    let topics = topics
        .into_iter()
        .map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(partitions)
        })
        .collect();
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&group.group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(topics);
    let shard = partition_for_group(&group.group, partitions);
    loop {
        let answer = apis
            .groups
            .request(
                shard,
                ClientIdentity::default(),
                OFFSET_COMMIT_VERSION,
                GroupRequest::OffsetCommit(request.clone()),
            )
            .await;
        let Some(GroupResponse::OffsetCommit(answer)) = answer else {
            bail!("the coordinator did not answer");
        };
        let code = answer
            .topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|partition| partition.error_code)
            .find(|code| *code != 0);
        match code {
            None => return Ok(()),
            // The coordinator still loads.
            Some(14) => tokio::time::sleep(POLL).await,
            Some(code) => bail!("the coordinator answered with error {code}"),
        }
    }
}

impl Broker {
    /// Partitions that this broker should lead and does not yet.
    pub(crate) fn not_led(&self) -> Vec<String> {
        let apis = self.apis();
        let image = apis.metadata.image();
        let mut left = Vec::new();
        for topic in image.topics.iter() {
            for (number, wanted) in (0..).zip(&topic.partitions) {
                let leads = apis
                    .replicas
                    .get(&topic.name, number)
                    .is_some_and(|partition| partition.is_leader());
                if wanted.leader == apis.metadata.node_id() && !leads {
                    left.push(format!("{}-{number}", topic.name));
                }
            }
        }
        left
    }

    pub(crate) fn apis(&self) -> Arc<crate::api::Apis> {
        Arc::clone(&self.apis)
    }
}
