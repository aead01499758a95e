//! `strandline`: the one binary. It parses the command line and hands over; what it does is in the other packages.

mod bucket;
mod config_reference;
mod demo;
mod export;
mod logging;
mod restore;
mod start;
mod tier;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::Level;

/// A tiered-storage broker that speaks the Kafka protocol.
///
/// Hot segments stay on local disk; sealed segments move to an object store (S3, MinIO or a folder) and are read back
/// from there; what is sealed can be exported as Parquet. Stock Kafka clients work unchanged.
#[derive(Debug, Parser)]
#[command(name = "strandline", version, max_term_width = 100, after_help = EXAMPLES)]
struct Arguments {
    #[command(flatten)]
    logging: logging::LoggingArguments,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  strandline start                                   a broker on 127.0.0.1:9092, data in ./strandline-data
  strandline start --config server.properties        with Kafka's configuration file
  strandline start -o remote.storage.url=s3://bucket/prefix -o remote.storage.s3.endpoint=http://127.0.0.1:9000
  strandline demo                                    the whole way, from produce to Parquet, in one go
  strandline export flights --to ./parquet           sealed records of a topic as Parquet, from the store alone
  strandline tier verify --from s3://bucket/prefix   whether the store has everything that was tiered
  strandline restore --from s3://bucket/prefix       a working node out of the store alone
  strandline config                                  every configuration, with type, default and doc";

#[derive(Debug, Subcommand)]
enum Command {
    Start(start::StartArguments),
    Demo(demo::DemoArguments),
    Export(export::ExportArguments),
    Restore(restore::RestoreArguments),
    Tier(tier::TierArguments),
    Config(config_reference::ConfigArguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The demo's own account is what is to be read.
    let log_level = match arguments.command {
        Command::Demo(_) | Command::Tier(_) | Command::Restore(_) => Level::WARN,
        _ => Level::INFO,
    };
    arguments.logging.install(log_level);
    let done = match arguments.command {
        Command::Start(arguments) => start::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Restore(arguments) => restore::run(&arguments),
        Command::Tier(arguments) => tier::run(&arguments),
        Command::Config(arguments) => config_reference::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("strandline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
