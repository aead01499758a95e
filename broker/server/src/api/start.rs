//! Puts the handlers' world together and takes it apart.

use std::sync::Arc;

use prometheus::Registry;
use strandline_core::group::GroupConfig;
use strandline_core::metadata::{
    BrokerEndpoint, BrokerStarted, Command, CommandOutcome, RegisterBroker,
};
use strandline_log::LogManager;
use strandline_metadata::MetadataQuorum;
use strandline_tiering::Tier;
use tokio::runtime::Handle;

use super::{ApiMetrics, Apis, FetchSessions};
use crate::background::{Background, Upkeep};
use crate::cleaner_driver::CleanerDriver;
use crate::cold_reads::ColdReads;
use crate::config::BrokerConfig;
use crate::flusher::Flusher;
use crate::group_driver::GroupDriver;
use crate::ids;
use crate::metadata_driver::MetadataDriver;
use crate::outage_guard::OutageGuard;
use crate::producer_ids::ProducerIds;
use crate::replica_manager::ReplicaManager;
use crate::scrubber::Scrubber;
use crate::threads::Threads;
use crate::tier_driver::RemoteReads;

/// Cold reads at a time: enough to keep a disk's queue filled, few enough to leave it to appends.
const COLD_READS_MAX: usize = 16;

/// What the APIs stand on.
pub struct ApisParts {
    pub config: Arc<BrokerConfig>,
    /// Started, and the cluster initialised.
    pub quorum: Arc<MetadataQuorum>,
    /// Opened; its logs are not loaded yet.
    pub logs: Arc<LogManager>,
    /// Made; whether it is started before or after does not matter.
    pub tier: Arc<Tier>,
    /// Where clients reach this broker: one endpoint per listener, with the ports that are bound.
    pub endpoints: Vec<BrokerEndpoint>,
    pub registry: Registry,
}

impl Apis {
    /// 1. Loads the logs. 2. Registers this broker, which raises the epochs of what it leads. 3. Hosts and leads what
    ///    the image says. 4. Starts the background work. When it returns, requests can be handled.
    pub async fn start(parts: ApisParts) -> anyhow::Result<Arc<Self>> {
        let ApisParts {
            config,
            quorum,
            logs,
            tier,
            endpoints,
            registry,
        } = parts;
        let runtime = Handle::current();
        let (upkeep, sealed) = Upkeep::new();
        let replicas = Arc::new(ReplicaManager::new(
            Arc::clone(&config),
            logs,
            upkeep.clone(),
            &registry,
        )?);
        let metadata = MetadataDriver::new(
            Arc::clone(&config),
            Arc::clone(&quorum),
            Arc::clone(&replicas),
            Arc::clone(&tier),
        );
        let loader = Arc::clone(&metadata);
        tokio::task::spawn_blocking(move || loader.load_logs()).await??;
        register(&config, &quorum, endpoints).await?;

        let groups = GroupDriver::new(GroupConfig::from_values(&config.values())?, runtime.clone());
        metadata.set_groups(Arc::clone(&groups));
        let updates = quorum.subscribe();
        runtime.spawn(Arc::clone(&metadata).run(updates));
        metadata.caught_up().await;

        let threads = Threads::new(&registry)?;
        let background = Background::start(&config, &replicas, &tier, upkeep, sealed, &runtime);
        let unflushed_max = config.i64("log.flush.unflushed.bytes.max");
        let flusher = Flusher::start(
            replicas.logs(),
            u64::try_from(unflushed_max).unwrap_or(u64::MAX),
            &threads,
            &registry,
        )?;
        let flusher = Arc::new(flusher);
        let scrub_budget = config.i64("log.scrub.bytes.per.second");
        let scrubber = Arc::new(Scrubber::start(
            replicas.logs(),
            u64::try_from(scrub_budget).unwrap_or(0),
            &threads,
            &registry,
        )?);
        let cleaner = CleanerDriver::start(&config.values(), replicas.logs(), &threads, &registry)?;
        let outage = OutageGuard::start(replicas.logs(), &tier, &registry)?;
        let slots_max = config.usize("max.incremental.fetch.session.cache.slots");
        Ok(Arc::new(Self {
            sessions: FetchSessions::new(slots_max, &registry)?,
            cold_reads: ColdReads::new(COLD_READS_MAX, &registry)?,
            remote_reads: RemoteReads::new(config.i64("remote.fetch.patience.ms")),
            metrics: ApiMetrics::register(&registry)?,
            outage,
            producer_ids: ProducerIds::default(),
            background,
            threads,
            flusher,
            scrubber,
            cleaner,
            fetch_bytes_max: config.usize("fetch.max.bytes"),
            config,
            metadata,
            replicas,
            groups,
        }))
    }

    /// After the listeners have stopped taking requests: ends the coordinators and the background work, and writes what
    /// is queued. The logs, the tier and the quorum are the caller's to close, in this order.
    pub async fn shutdown(&self) {
        self.groups.shutdown();
        self.background.shutdown().await;
        self.cleaner.shutdown().await;
        self.outage.shutdown();
        let replicas = Arc::clone(&self.replicas);
        let flusher = Arc::clone(&self.flusher);
        let scrubber = Arc::clone(&self.scrubber);
        let stopped = tokio::task::spawn_blocking(move || {
            replicas.stop_appends();
            flusher.shutdown();
            scrubber.shutdown();
        });
        if stopped.await.is_err() {
            tracing::error!("stopping the append threads failed by a bug");
        }
    }
}

/// Both commands in one entry of the metadata log: one fsync.
async fn register(
    config: &BrokerConfig,
    quorum: &MetadataQuorum,
    endpoints: Vec<BrokerEndpoint>,
) -> anyhow::Result<()> {
    let incarnation_id = ids::new_uuid();
    let rack = Some(config.str("broker.rack"))
        .filter(|rack| !rack.is_empty())
        .map(Arc::from);
    let outcomes = quorum
        .propose_all(vec![
            Command::RegisterBroker(RegisterBroker {
                broker_id: config.node_id,
                incarnation_id,
                endpoints,
                rack,
            }),
            Command::BrokerStarted(BrokerStarted {
                broker_id: config.node_id,
                incarnation_id,
            }),
        ])
        .await?;
    for outcome in outcomes {
        match outcome {
            CommandOutcome::Refused(error) => {
                anyhow::bail!("the registration of this broker was refused: {error}")
            }
            CommandOutcome::BrokerStarted { partitions_led } => {
                tracing::info!(broker = config.node_id, partitions_led, "registered");
            }
            _ => {}
        }
    }
    Ok(())
}
