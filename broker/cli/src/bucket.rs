//! How commands that work on the object store alone are told which one, and how they print.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use strandline_server::config::{BrokerConfig, ConfigSources};
use strandline_tiering::store::{RemoteStore, StoreMetrics};
use strandline_tiering::{BucketReader, TierConfig};

#[derive(Debug, Args)]
pub struct BucketArguments {
    /// The object store: a folder, file:///folder or s3://bucket/prefix. Unset: what the configuration says, which is
    /// ./strandline-data/remote-storage with none given
    #[arg(long, value_name = "URL")]
    pub from: Option<String>,
    /// The cluster, when the object store holds several
    #[arg(long, value_name = "ID")]
    pub cluster_id: Option<String>,
    /// The broker's server.properties, for remote.storage.*
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One configuration, as for start; may be repeated
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

impl BucketArguments {
    /// The configuration, with the store that was named and these overrides.
    pub fn broker_config(&self, overrides: &[String]) -> anyhow::Result<BrokerConfig> {
        let file = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Some((path.clone(), text))
            }
            None => None,
        };
        let mut all = self.overrides.clone();
        if let Some(from) = &self.from {
            all.push(format!("remote.storage.url={from}"));
        }
        all.extend_from_slice(overrides);
        let sources = ConfigSources {
            file,
            environment: std::env::vars_os()
                .filter_map(|(name, value)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                })
                .collect(),
            overrides: all,
            hostname: strandline_server::hostname(),
        };
        let (config, warnings) = BrokerConfig::load(&sources)?;
        for warning in warnings {
            tracing::debug!("{warning}");
        }
        Ok(config)
    }

    pub fn tier_config(&self) -> anyhow::Result<TierConfig> {
        let config = self.broker_config(&[])?;
        let data = config.log_dirs.first().cloned().unwrap_or_default();
        Ok(TierConfig::from_map(&config.values(), &data)?)
    }

    pub fn open(&self) -> anyhow::Result<(RemoteStore, BucketReader)> {
        let store = self
            .tier_config()?
            .open_store(StoreMetrics::unregistered())?;
        let reader = BucketReader::new(store.clone(), self.cluster_id.clone());
        Ok((store, reader))
    }

    /// As JSON, or as the rows of a table.
    pub fn print(
        &self,
        json: &impl serde::Serialize,
        text: impl Fn() -> String,
    ) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match self.output {
            Output::Json => {
                serde_json::to_writer_pretty(&mut out, json)?;
                writeln!(out)?;
            }
            Output::Text => write!(out, "{}", text())?,
        }
        Ok(())
    }
}

/// Columns as wide as their widest cell; numbers to the right.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_number = |column: usize| {
        !rows.is_empty()
            && rows
                .iter()
                .all(|row| row[column].is_empty() || row[column].parse::<f64>().is_ok())
    };
    let mut text = String::new();
    let mut line = |cells: &[&str]| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let width = widths[column];
            let cell = if is_number(column) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
            line.push_str(&cell);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(head);
    for row in rows {
        let cells: Vec<&str> = row.iter().map(String::as_str).collect();
        line(&cells);
    }
    text
}

/// A runtime for a command that talks to the store.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_to_the_right() {
        let rows = [
            vec!["flights".to_owned(), "7".to_owned()],
            vec!["a".to_owned(), "1234".to_owned()],
        ];
        assert_eq!(
            table(&["topic", "bytes"], &rows),
            "topic    bytes\nflights      7\na         1234\n"
        );
    }
}
