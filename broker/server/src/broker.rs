//! One broker: everything put together, started, and taken down in order.
//!
//! Start: 1. the listeners' ports, so that a port that is taken stops the start before anything is touched; 2. the
//! folders, locked and checked; 3. the tier's settings, whose store is not waited for; 4. the metadata quorum; 5. the
//! logs, recovered, and the APIs over them; 6. clients are served.
//!
//! Shutdown goes the other way: no new requests, answers to those in flight, the coordinators and background work, the
//! tier, the logs with their clean-shutdown mark, the quorum.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use prometheus::Registry;
use rustix::fs::FlockOperation;
use strandline_core::metadata::{
    BrokerEndpoint, Command, CommandOutcome, InitCluster, SecurityProtocol,
};
use strandline_log::checkpoint::MetaProperties;
use strandline_log::{LogManager, LogManagerConfig, uuid_to_base64};
use strandline_metadata::{MetadataQuorum, QuorumConfig};
use strandline_tiering::{Tier, TierConfig};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{Apis, ApisParts};
use crate::clock;
use crate::cluster_state::ClusterStateWriter;
use crate::config::{BrokerConfig, Listener};
use crate::http::{self, Health, HealthReport, HttpLimits, HttpState};
use crate::ids;
use crate::net::{
    self, ConnectionContext, ConnectionLimits, ConnectionMaxima, ConnectionQuotas, MemoryBudget,
    NetworkMetrics, NetworkThreads, RequestMetrics, SocketOptions,
};
use crate::supervisor::Supervisor;
use crate::threads::Threads;

/// Request memory when queued.max.request.bytes is -1.
const REQUEST_MEMORY_BYTES: usize = 128 << 20;
/// Idle request buffers that are kept for reuse.
const POOLED_BYTES_MAX: usize = 16 << 20;
/// How long requests in flight may take to be answered at a shutdown: writes take milliseconds, and who waits for new
/// records or members comes back to another broker.
const DRAIN_PATIENCE: Duration = Duration::from_secs(1);
/// Scrapers come more often than this, or connect anew.
const HTTP_IDLE: Duration = Duration::from_secs(120);
const TASKS_PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors of sealed segments and indexes that stay open, as a share of what the process may open.
const LOG_FILES_SHARE: u64 = 4;
/// Clients' connections may take this share of them, in eighths: an append that finds no descriptor would be a failed one.
const CONNECTIONS_EIGHTHS: u64 = 5;

/// A running broker.
pub struct Broker {
    stopping: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    addresses: Vec<(String, SocketAddr)>,
    http_address: Option<SocketAddr>,
    supervisor: Arc<Supervisor>,
    pub(crate) apis: Arc<Apis>,
    state_writer: Arc<ClusterStateWriter>,
    tier: Arc<Tier>,
    logs: Arc<LogManager>,
    quorum: Arc<MetadataQuorum>,
    health: Arc<BrokerHealth>,
    _metadata_lock: Option<File>,
}

impl Broker {
    /// Starts a broker; when this returns, clients are served.
    pub async fn start(config: BrokerConfig) -> anyhow::Result<Broker> {
        let begun = clock::now();
        let config = Arc::new(config);
        let registry = Registry::new();
        let open_files_max = raise_open_files_limit();
        let per_ip_overrides =
            net::parse_overrides(config.str("max.connections.per.ip.overrides"))?;
        let sockets = bind_listeners(&config)?;
        let http = bind_http(&config).await?;

        let Folders {
            logs,
            cluster_id,
            metadata_lock,
        } = {
            let config = Arc::clone(&config);
            tokio::task::spawn_blocking(move || open_folders(&config, open_files_max)).await??
        };
        let logs = Arc::new(logs);
        let tier_config = TierConfig::from_map(&config.values(), first_log_dir(&config))?;
        let tier = Tier::new(tier_config, &cluster_id, &registry, ids::new_seed())
            .context("remote.storage.url or another remote.storage setting")?;
        let keeper = Arc::clone(&logs);
        tier.keep_log_starts_with(move || {
            let kept = keeper.checkpoint_log_start_offsets();
            kept.map_err(|error| error.to_string())
        });
        let quorum = Arc::new(start_quorum(&config, &cluster_id).await?);
        let endpoints = sockets
            .iter()
            .map(|(listener, _, bound)| endpoint(listener, *bound))
            .collect();
        let apis = Apis::start(ApisParts {
            config: Arc::clone(&config),
            quorum: Arc::clone(&quorum),
            logs: Arc::clone(&logs),
            tier: Arc::clone(&tier),
            endpoints,
            registry: registry.clone(),
        })
        .await?;
        tier.start(Handle::current());

        let supervisor = Arc::new(Supervisor::new(&registry)?);
        let state_writer = Arc::new(ClusterStateWriter::new(
            Arc::clone(&apis),
            Arc::clone(&tier),
        ));
        let writer = Arc::clone(&state_writer);
        supervisor.spawn("cluster state", move |stop| Arc::clone(&writer).run(stop));
        let health = Arc::new(BrokerHealth {
            ready: AtomicBool::new(false),
            supervisor: Arc::clone(&supervisor),
            threads: apis.threads.clone(),
            tier: Arc::clone(&tier),
            logs: Arc::clone(&logs),
            apis: Arc::clone(&apis),
        });
        let (stopping, stopped) = net::stop_signal();
        let addresses: Vec<_> = sockets
            .iter()
            .map(|(listener, _, bound)| (listener.name.clone(), *bound))
            .collect();
        let maxima = ConnectionMaxima {
            connections: config.usize("max.connections"),
            connections_per_ip: config.usize("max.connections.per.ip"),
            per_ip_overrides,
            by_open_files: usize::try_from(open_files_max / 8 * CONNECTIONS_EIGHTHS)
                .unwrap_or(usize::MAX),
        };
        let listeners = serve_listeners(&config, sockets, maxima, &apis, &registry, &stopped)?;
        let http_address = http.as_ref().map(|(_, bound)| *bound);
        if let Some((socket, _)) = http {
            serve_http(&config, socket, registry, &health, &supervisor);
        }
        health.ready.store(true, Ordering::Release);
        for (listener, address) in &addresses {
            tracing::info!(listener, %address, "listening");
        }
        tracing::info!(
            node = config.node_id,
            cluster = cluster_id,
            partitions = logs.logs().len(),
            took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "started"
        );
        Ok(Broker {
            stopping,
            listeners,
            addresses,
            http_address,
            supervisor,
            apis,
            state_writer,
            tier,
            logs,
            quorum,
            health,
            _metadata_lock: metadata_lock,
        })
    }

    /// The listeners by name, with the ports that they got.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Stops cleanly: what was acknowledged is on disk when this returns.
    pub async fn shutdown(self) {
        let begun = clock::now();
        self.health.ready.store(false, Ordering::Release);
        self.stopping.send_replace(true);
        for listener in self.listeners {
            if listener.await.is_err() {
                tracing::error!("a listener's task had died; this is a bug");
            }
        }
        self.state_writer.write_last().await;
        self.apis.shutdown().await;
        upload_the_rest(&self.tier).await;
        self.tier.shutdown().await;
        let logs = Arc::clone(&self.logs);
        match tokio::task::spawn_blocking(move || logs.shutdown_clean()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the logs were not closed cleanly"),
            Err(error) => tracing::error!(%error, "closing the logs failed by a bug"),
        }
        self.quorum.shutdown().await;
        self.supervisor.stop(TASKS_PATIENCE).await;
        tracing::info!(
            took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            "stopped"
        );
    }
}

/// remote.log.upload.on.shutdown
async fn upload_the_rest(tier: &Tier) {
    let config = tier.config();
    if !config.upload_on_shutdown {
        return;
    }
    let patience_ms = u64::try_from(config.upload_on_shutdown_ms).unwrap_or(0);
    match tier.upload_all(Duration::from_millis(patience_ms)).await {
        0 => tracing::info!("everything that is committed is in the object store"),
        left => tracing::warn!(
            partitions = left,
            "records of these partitions are on local disk alone: the time for the last uploads is over"
        ),
    }
}

/// As many as num.network.threads allows and the machine has processors.
fn network_threads(config: &BrokerConfig) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    config.usize("num.network.threads").clamp(1, processors)
}

/// The runtime of everything but the sockets.
pub fn runtime(config: &BrokerConfig) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(network_threads(config))
        .max_blocking_threads(64)
        .thread_name("strandline")
        .enable_all()
        .build()
}

/// The machine's name when it resolves, else `localhost`.
pub fn hostname() -> String {
    use std::net::ToSocketAddrs;
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy().into_owned();
    match (name.as_str(), 0).to_socket_addrs() {
        Ok(_) => name,
        Err(_) => "localhost".to_owned(),
    }
}

/// Lifts the soft limit of open files to the hard one, and says what it is.
fn raise_open_files_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let mut limit = before;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    tracing::info!(
        limit,
        before = before.current.unwrap_or(limit),
        "descriptors that may be open at a time"
    );
    limit
}

type BoundListener = (Listener, TcpListener, SocketAddr);

fn bind_listeners(config: &BrokerConfig) -> anyhow::Result<Vec<BoundListener>> {
    let buffer_bytes = |name: &str| usize::try_from(config.i32(name)).ok();
    let options = SocketOptions {
        backlog: config.i32("socket.listen.backlog.size"),
        receive_buffer_bytes: buffer_bytes("socket.receive.buffer.bytes"),
        send_buffer_bytes: buffer_bytes("socket.send.buffer.bytes"),
    };
    config
        .listeners
        .iter()
        .map(|listener| {
            let (socket, bound) = net::bind(listener, options)?;
            Ok((listener.clone(), socket, bound))
        })
        .collect()
}

async fn bind_http(config: &BrokerConfig) -> anyhow::Result<Option<(TcpListener, SocketAddr)>> {
    let address = config.str("http.listener");
    if address.is_empty() {
        return Ok(None);
    }
    let bound = http::bind(address).await.with_context(|| {
        format!(
            "http.listener: cannot listen on {address} (set another address, or leave it empty)"
        )
    })?;
    Ok(Some(bound))
}

fn first_log_dir(config: &BrokerConfig) -> &Path {
    config
        .log_dirs
        .first()
        .map_or(Path::new("."), PathBuf::as_path)
}

struct Folders {
    logs: LogManager,
    cluster_id: String,
    metadata_lock: Option<File>,
}

/// Locks the folders and checks whose they are. A fresh node draws its cluster's id here.
fn open_folders(config: &BrokerConfig, open_files_max: u64) -> anyhow::Result<Folders> {
    // A folder that cannot be read is the log manager's to judge.
    let known = config
        .log_dirs
        .iter()
        .find_map(|dir| MetaProperties::read(dir).ok().flatten())
        .map(|meta| meta.cluster_id);
    let cluster_id = known.unwrap_or_else(|| uuid_to_base64(&ids::new_uuid()));
    let logs = LogManager::open(LogManagerConfig {
        dirs: config.log_dirs.clone(),
        node_id: config.node_id,
        cluster_id: cluster_id.clone(),
        recovery_threads: config.usize("num.recovery.threads.per.data.dir").max(1),
        producer_id_expiration_ms: config.i64("producer.id.expiration.ms"),
        open_files_max: usize::try_from(open_files_max / LOG_FILES_SHARE).unwrap_or(usize::MAX),
        new_directory_id: ids::new_uuid,
    })?;
    let metadata_dir = &config.metadata_log_dir;
    let metadata_lock = match config.log_dirs.contains(metadata_dir) {
        true => None,
        false => Some(lock_dir(metadata_dir)?),
    };
    Ok(Folders {
        logs,
        cluster_id,
        metadata_lock,
    })
}

/// The log folders' locks do not cover a metadata.log.dir outside of them.
fn lock_dir(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| anyhow!("another process uses {}", dir.display()))?;
    Ok(file)
}

async fn start_quorum(config: &BrokerConfig, cluster_id: &str) -> anyhow::Result<MetadataQuorum> {
    let mut quorum_config = QuorumConfig::new(&config.metadata_log_dir, config.node_id);
    quorum_config.snapshot_bytes_max =
        config.usize("metadata.log.max.record.bytes.between.snapshots") as u64;
    let quorum = MetadataQuorum::start(quorum_config).await?;
    let image = quorum.image();
    if !image.is_initialized() {
        let init = InitCluster {
            cluster_id: cluster_id.into(),
            incarnation: 1,
            features: Default::default(),
        };
        if let CommandOutcome::Refused(error) = quorum.propose(Command::InitCluster(init)).await? {
            bail!("the cluster was not initialised: {error}");
        }
    } else if *image.cluster_id != *cluster_id {
        bail!(
            "{} belongs to cluster {}, the log folders to cluster {cluster_id}: one of them was moved here from elsewhere",
            config.metadata_log_dir.display(),
            image.cluster_id
        );
    }
    Ok(quorum)
}

fn endpoint(listener: &Listener, bound: SocketAddr) -> BrokerEndpoint {
    // A port that the system chose is known only now.
    let port = match listener.advertised_port {
        0 => bound.port(),
        port => port,
    };
    BrokerEndpoint {
        listener: listener.name.as_str().into(),
        host: listener.advertised_host.as_str().into(),
        port,
        security_protocol: SecurityProtocol::Plaintext,
    }
}

fn serve_listeners(
    config: &BrokerConfig,
    sockets: Vec<BoundListener>,
    maxima: ConnectionMaxima,
    apis: &Arc<Apis>,
    registry: &Registry,
    stopping: &watch::Receiver<bool>,
) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let ms = |name: &str| {
        u64::try_from(config.i64(name))
            .ok()
            .map(Duration::from_millis)
    };
    let budget_bytes = match config.i64("queued.max.request.bytes") {
        -1 => REQUEST_MEMORY_BYTES,
        bytes => usize::try_from(bytes).unwrap_or(0),
    };
    let limits = ConnectionLimits {
        frame_bytes_max: config.usize("socket.request.max.bytes"),
        in_flight_max: config.usize("max.in.flight.requests.per.connection"),
        request_memory_bytes_max: budget_bytes.max(1 << 20),
        idle: ms("connections.max.idle.ms"),
        request_read: ms("request.read.timeout.ms").unwrap_or_default(),
        send: ms("socket.send.timeout.ms").unwrap_or_default(),
        drain: DRAIN_PATIENCE,
    };
    let budget = Arc::new(MemoryBudget::new(budget_bytes, POOLED_BYTES_MAX));
    let metrics = Arc::new(NetworkMetrics::new(registry)?);
    let requests = RequestMetrics::register(registry)?;
    net::register_budget(&budget, registry)?;
    let quotas = Arc::new(ConnectionQuotas::new(maxima));
    let threads = Arc::new(NetworkThreads::start(network_threads(config))?);
    let serving = sockets.into_iter().map(|(listener, socket, _)| {
        let context = ConnectionContext {
            listener: listener.name.as_str().into(),
            apis: Arc::clone(apis),
            budget: Arc::clone(&budget),
            metrics: Arc::clone(&metrics),
            requests: requests.clone(),
            limits,
            runtime: Handle::current(),
            stopping: stopping.clone(),
        };
        let (quotas, threads) = (Arc::clone(&quotas), Arc::clone(&threads));
        tokio::spawn(net::serve(socket, Arc::new(context), quotas, threads))
    });
    Ok(serving.collect())
}

fn serve_http(
    config: &BrokerConfig,
    socket: TcpListener,
    registry: Registry,
    health: &Arc<BrokerHealth>,
    supervisor: &Supervisor,
) {
    let limits = HttpLimits {
        connections_max: config.usize("http.max.connections"),
        idle: HTTP_IDLE,
    };
    let state = HttpState {
        registry,
        health: Arc::clone(health) as Arc<dyn Health>,
    };
    let socket = Arc::new(socket);
    supervisor.spawn("http", move |stop| {
        let (socket, state) = (Arc::clone(&socket), state.clone());
        async move {
            if let Err(error) = http::serve(socket, limits, state, stop).await {
                tracing::error!(%error, "the HTTP listener ended");
            }
        }
    });
}

/// What /healthz and /readyz are made of.
struct BrokerHealth {
    ready: AtomicBool,
    supervisor: Arc<Supervisor>,
    threads: Threads,
    tier: Arc<Tier>,
    logs: Arc<LogManager>,
    apis: Arc<Apis>,
}

impl Health for BrokerHealth {
    fn tier(&self) -> String {
        self.tier.report_json()
    }

    fn report(&self) -> HealthReport {
        let mut report = HealthReport {
            ready: self.ready.load(Ordering::Acquire),
            ..HealthReport::default()
        };
        for task in self.supervisor.down() {
            report
                .problems
                .push(format!("the task {task} died and is started again shortly"));
        }
        for thread in self.threads.down() {
            report.problems.push(format!(
                "the thread {thread} died and is started again shortly"
            ));
        }
        for dir in self.logs.unusable_dirs() {
            report.problems.push(format!(
                "the log folder {} could not be used at the start; its partitions are not served",
                dir.display()
            ));
        }
        for dir in self.logs.dirs() {
            if self.logs.is_offline(&dir) {
                report.problems.push(format!(
                    "the log folder {} is offline after a failed write; its partitions are not served",
                    dir.display()
                ));
            }
        }
        report.problems.extend(self.apis.outage.problems());
        let tier = self.tier.health();
        if let Some(error) = tier.store_error {
            report.problems.push(format!(
                "the object store cannot be used for tiering: {error}"
            ));
        }
        let now_ms = clock::now_ms();
        for partition in tier.troubled {
            let status = partition.status;
            report.problems.push(format!(
                "the upload of {} is {}, {} s behind by {} segments of {} bytes: {}",
                partition.tp,
                status.state.as_str(),
                status.lag_ms(now_ms) / 1_000,
                status.lag_segments,
                status.lag_bytes,
                status.last_error.as_deref().unwrap_or("no error is known")
            ));
        }
        if tier.workers_restarted > 0 {
            report.notes.push(format!(
                "tasks of the tier that died and were started again: {}; each is a bug",
                tier.workers_restarted
            ));
        }
        if tier.enabled {
            report.notes.push(format!(
                "tiered partitions led: {}; not uploaded yet: {} segments, {} bytes, the oldest for {} s",
                tier.partitions,
                tier.lag_segments,
                tier.lag_bytes,
                tier.lag_ms_max / 1_000
            ));
        }
        report
    }
}
