//! `strandline start`: a broker until SIGTERM or SIGINT.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use strandline_server::config::{BrokerConfig, ConfigSources};
use strandline_server::{Broker, runtime};
use tokio::signal::unix::{SignalKind, signal};

/// Start a broker
///
/// With nothing given it listens on 127.0.0.1:9092, keeps its data in ./strandline-data with a folder inside as its
/// object store, and serves /metrics, /healthz and /readyz on 127.0.0.1:9644. Every configuration can also come from the
/// environment: STRANDLINE_LOG_DIRS (or KAFKA_LOG_DIRS) for log.dirs.
#[derive(Debug, Args)]
pub struct StartArguments {
    /// A server.properties, in Kafka's format and with Kafka's names
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration; may be repeated, and wins over the file and the environment
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub fn run(arguments: &StartArguments) -> anyhow::Result<()> {
    let file = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some((path.clone(), text))
        }
        None => None,
    };
    let sources = ConfigSources {
        file,
        environment: environment(),
        overrides: arguments.overrides.clone(),
        hostname: strandline_server::hostname(),
    };
    let (config, warnings) = BrokerConfig::load(&sources)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    runtime(&config)?.block_on(serve(config))
}

/// Variables that are not UTF-8 name no config of ours.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

async fn serve(config: BrokerConfig) -> anyhow::Result<()> {
    // Before anything is opened, so that no signal is lost meanwhile.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let broker = Broker::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
        _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
    }
    broker.shutdown().await;
    Ok(())
}
