//! The demo's broker: defaults, and intervals that let a demo see in seconds what a day shows elsewhere.

use anyhow::{Context, bail};
use strandline_server::Broker;
use strandline_server::config::{BrokerConfig, ConfigSources};

use super::folder::DemoFolder;

/// Looked at often, so that a demo need not wait.
const QUICK: &str = "\
remote.log.manager.task.interval.ms=500
remote.log.manager.task.retry.backoff.max.ms=2000
log.retention.check.interval.ms=500
";

/// On free ports. A `server.properties` beside the data starts the same broker on the usual ones.
pub fn config(folder: &DemoFolder) -> anyhow::Result<BrokerConfig> {
    let path = folder.properties();
    let text = properties(folder)?;
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    let sources = ConfigSources {
        file: Some((path, text)),
        overrides: vec![
            "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
            "http.listener=127.0.0.1:0".to_owned(),
        ],
        ..ConfigSources::default()
    };
    let (config, warnings) = BrokerConfig::load(&sources)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn properties(folder: &DemoFolder) -> anyhow::Result<String> {
    let text = |path: &std::path::Path| match path.to_str() {
        Some(text) if !text.contains([',', '\\', '\n']) => Ok(text.to_owned()),
        _ => bail!(
            "{} cannot be written into a server.properties: choose another folder with --dir",
            path.display()
        ),
    };
    let (data, store) = (folder.absolute_data(), folder.absolute_store());
    Ok(format!(
        "# The broker of strandline demo, for strandline start.\nlog.dirs={}\nremote.storage.url={}\n{QUICK}",
        text(&data)?,
        text(&store)?
    ))
}

/// Where clients connect.
pub fn bootstrap(broker: &Broker) -> anyhow::Result<String> {
    match broker.addresses().first() {
        Some((_, address)) => Ok(address.to_string()),
        None => bail!("the broker has no listener"),
    }
}
