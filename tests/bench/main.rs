//! The benchmark: Apache Kafka and Strandline in turn on this machine, with the same clients, topics and settings, and
//! the plain syscalls for the same bytes beside them. `tests/bench/run --help` says how it is used.
//!
//! Rounds alternate (A B A B); within a round a contender starts once and runs all rows. Every row is on its own: one
//! that fails is reported, its broker is thrown away, and the rest goes on. Broker CPU and memory come from /proc, for
//! the broker's process alone.

#![allow(clippy::print_stdout)]

mod cluster;
mod contender;
mod floor;
mod load;
mod machine;
mod options;
mod report;
mod rows;
mod run;
mod session;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("floor") => floor_program(&arguments[1..]),
        _ => options::parse(&arguments).and_then(|parsed| match parsed {
            options::Parsed::Help => {
                print!("{}", options::HELP);
                Ok(())
            }
            options::Parsed::List => {
                run::list();
                Ok(())
            }
            options::Parsed::Run(options) => run::run(&options),
        }),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `floor MODE FILE FILE_BYTES`: what the benchmark starts itself with.
fn floor_program(arguments: &[String]) -> anyhow::Result<()> {
    let [mode, file, file_bytes] = arguments else {
        bail!("floor takes a mode, a file and its size");
    };
    let mode = floor::FloorMode::parse(mode).context("an unknown floor program")?;
    floor::serve(mode, &PathBuf::from(file), file_bytes.parse()?)
}
