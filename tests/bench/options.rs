//! The command line.

use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::contender::Contender;

pub const HELP: &str = "\
Measures Strandline against Apache Kafka and against the plain syscalls, in turn on this machine.

  tests/bench/run                    every row, three rounds (under 30 minutes)
  tests/bench/run --quick            the main rows, three rounds, smaller (under 4 minutes)
  tests/bench/run --only ROW         only this row, or all whose names begin so; may be given again
  tests/bench/run --list             the rows and their targets

  --rounds N                         how often each contender runs (3)
  --contenders A,B                   some of kafka, strandline, floor (all)
  --strandline BINARY                another build of Strandline than target/release/strandline
  --property KEY=VALUE               a further line of Strandline's server.properties; may be given again
  --heap MIB                         Kafka's heap (1024)
  --folder FOLDER                    where brokers keep data while they run (target/bench/data)
  --output FOLDER                    where report.md and report.json are written (target/bench/report)
  --attach COMMAND                   runs beside each measured part; {pid}, {row} and {contender} are replaced, and it
                                     gets SIGINT at the end. Its working folder is the output folder
  --no-touch                         do not touch free memory first

To see where Strandline's time goes in one row:

  tests/bench/run --only produce-1k --contenders strandline --rounds 1 \\
    --attach 'perf record -g -o {row}.perf -p {pid}'

Broker CPU and memory are those of the broker's process alone, from /proc. Latency counts from when a request was due.
";

#[derive(Clone, Debug)]
pub struct Options {
    pub quick: bool,
    pub only: Vec<String>,
    pub rounds: usize,
    pub contenders: Vec<Contender>,
    pub strandline: Option<PathBuf>,
    pub properties: Vec<String>,
    pub heap_mib: u32,
    pub folder: Option<PathBuf>,
    pub output: Option<PathBuf>,
    pub attach: Option<String>,
    pub touch: bool,
    /// As given, for the report.
    pub command: String,
}

pub enum Parsed {
    Help,
    List,
    Run(Box<Options>),
}

pub fn parse(arguments: &[String]) -> anyhow::Result<Parsed> {
    let mut options = Options {
        quick: false,
        only: Vec::new(),
        rounds: 3,
        contenders: Contender::ALL.to_vec(),
        strandline: None,
        properties: Vec::new(),
        heap_mib: 1024,
        folder: None,
        output: None,
        attach: None,
        touch: true,
        command: format!("tests/bench/run {}", arguments.join(" ")),
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || {
            rest.next()
                .with_context(|| format!("{argument} takes a value"))
                .cloned()
        };
        match argument.as_str() {
            "-h" | "--help" => return Ok(Parsed::Help),
            "--list" => return Ok(Parsed::List),
            "--quick" => options.quick = true,
            "--no-touch" => options.touch = false,
            "--only" => options.only.push(value()?),
            "--rounds" => options.rounds = value()?.parse().context("--rounds takes a number")?,
            "--contenders" => {
                options.contenders = value()?
                    .split(',')
                    .map(|name| {
                        Contender::ALL
                            .into_iter()
                            .find(|contender| contender.name() == name)
                            .with_context(|| format!("no contender is called {name}"))
                    })
                    .collect::<anyhow::Result<_>>()?;
            }
            "--strandline" => options.strandline = Some(PathBuf::from(value()?)),
            "--property" => options.properties.push(value()?),
            "--heap" => options.heap_mib = value()?.parse().context("--heap takes MiB")?,
            "--folder" => options.folder = Some(PathBuf::from(value()?)),
            "--output" => options.output = Some(PathBuf::from(value()?)),
            "--attach" => options.attach = Some(value()?),
            other => bail!("unknown option {other}; --help names all"),
        }
    }
    Ok(Parsed::Run(Box::new(options)))
}
