//! Where log lines go: standard error, as text for people or as JSON for machines.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

#[derive(Debug, Args)]
pub struct LoggingArguments {
    /// What is logged: error, warn, info, debug or trace, or per module such as info,strandline_tiering=debug
    /// [default: info, for the demo warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<Targets>,
    /// How log lines look on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        value_name = "FORMAT"
    )]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl LoggingArguments {
    /// Installs the process's log. Called once, before anything logs.
    pub fn install(&self, default: Level) {
        let lines = fmt::layer().with_writer(std::io::stderr);
        let layer = match self.log_format {
            Format::Json => lines.json().flatten_event(true).boxed(),
            Format::Text => lines
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false)
                .boxed(),
        };
        // openraft tells every step of its single node at info.
        let filter = self
            .log_level
            .clone()
            .unwrap_or_else(|| Targets::new().with_default(default))
            .with_target("openraft", Level::WARN)
            // Each link of the credential chain that has none warns by itself; what follows is told by the store.
            .with_target("aws_config", Level::ERROR);
        tracing_subscriber::registry()
            .with(layer.with_filter(filter))
            .init();
    }
}
