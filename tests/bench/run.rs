//! Runs rows: round by round, contender by contender.

#![allow(clippy::disallowed_methods)] // A driver reads the clock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use strandline_tests::{strandline_binary, workspace_root};

use crate::contender::{Contender, START_DEADLINE, ServerOptions, remove};
use crate::machine::{machine, touch_memory};
use crate::options::Options;
use crate::report::Report;
use crate::rows::{Row, Target, all};
use crate::session::{Session, Settings};

pub fn list() {
    for row in all() {
        let names: Vec<&str> = row
            .contenders
            .iter()
            .map(|contender| contender.name())
            .collect();
        println!("{:<20} {}", row.name, row.what);
        println!(
            "{:<20} against {}{}",
            "",
            names.join(", "),
            if row.is_quick { "; in --quick" } else { "" }
        );
        for figure in &row.figures {
            let target = |who: &str, target: Target| match target {
                Target::None => String::new(),
                Target::AtMost(max) => format!(", at most {max:.2} x {who}"),
                Target::AtLeast(min) => format!(", at least {min:.2} x {who}"),
                Target::OwnAtMost {
                    row,
                    figure,
                    times,
                    plus,
                } => {
                    format!(", at most {times:.2} x our own {figure} of {row}, or {plus} more")
                }
            };
            println!(
                "{:<22} {} ({}){}{}",
                "",
                figure.name,
                figure.unit,
                target("Kafka", figure.against_kafka),
                target("the floor", figure.against_floor)
            );
        }
    }
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    end_children_on_signals()?;
    let rows = chosen(options)?;
    let target = workspace_root().join("target").join("bench");
    let folder = options
        .folder
        .clone()
        .unwrap_or_else(|| target.join("data"));
    let output = options
        .output
        .clone()
        .unwrap_or_else(|| target.join("report"));
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(&output)?;
    let (folder, output) = (folder.canonicalize()?, output.canonicalize()?);
    let settings = Settings {
        server: ServerOptions {
            properties: String::new(),
            strandline_binary: options.strandline.clone().unwrap_or_else(strandline_binary),
            strandline_properties: options.properties.join("\n"),
            kafka_properties: String::new(),
            heap_mib: options.heap_mib,
            folder: folder.clone(),
            start_deadline: START_DEADLINE,
        },
        quick: options.quick,
        attach: options.attach.clone(),
        output: output.clone(),
    };
    let begin = Instant::now();
    if options.touch {
        let touched_mib = touch_memory()?;
        say(begin, &format!("touched {touched_mib} MiB of free memory"));
    }
    let mut report = Report::new(machine(&folder), options);
    for round in 1..=options.rounds {
        for contender in &options.contenders {
            run_round(&settings, *contender, round, &rows, &mut report, begin);
        }
    }
    remove(&folder)?;
    report.seconds = begin.elapsed().as_secs();
    let table = report.table(&rows);
    println!("\n{table}");
    let files = report.write(&rows, &output)?;
    println!("report: {}", files.join(", "));
    println!(
        "bench: {} rows, {} failures, {} s",
        rows.len(),
        report.failures.len(),
        report.seconds
    );
    ensure!(report.failures.is_empty(), "some rows failed");
    Ok(())
}

fn chosen(options: &Options) -> anyhow::Result<Vec<Row>> {
    let mut rows = all();
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    for only in &options.only {
        ensure!(
            names.iter().any(|name| name.starts_with(only.as_str())),
            "no row is called {only}; there are {}",
            names.join(", ")
        );
    }
    if !options.only.is_empty() {
        // A whole name means one row, the beginning of names all of them.
        let is_chosen = |row: &Row| {
            options
                .only
                .iter()
                .any(|only| match names.contains(&only.as_str()) {
                    true => row.name == only,
                    false => row.name.starts_with(only.as_str()),
                })
        };
        rows.retain(is_chosen);
    } else if options.quick {
        rows.retain(|row| row.is_quick);
    }
    if rows.is_empty() || options.rounds == 0 {
        bail!("nothing to run");
    }
    Ok(rows)
}

fn run_round(
    settings: &Settings,
    contender: Contender,
    round: usize,
    rows: &[Row],
    report: &mut Report,
    begin: Instant,
) {
    let mut session = Session::new(contender, settings);
    for row in rows
        .iter()
        .filter(|row| row.contenders.contains(&contender))
    {
        session.row = row.name;
        let row_begin = Instant::now();
        // The harness panics where a test would fail.
        let result = catch_unwind(AssertUnwindSafe(|| (row.run)(&mut session)));
        let result = result.unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<String>().cloned().or_else(|| {
                panic
                    .downcast_ref::<&str>()
                    .map(|words| (*words).to_owned())
            });
            Err(anyhow::anyhow!(
                words.unwrap_or_else(|| "it panicked".to_owned())
            ))
        });
        let took = row_begin.elapsed().as_secs_f64();
        match result {
            Ok(samples) => {
                let figures: Vec<String> = row
                    .figures
                    .iter()
                    .zip(&samples)
                    .map(|(figure, sample)| {
                        format!(
                            "{} {} {}",
                            figure.name,
                            crate::report::number(*sample),
                            figure.unit
                        )
                    })
                    .collect();
                say(
                    begin,
                    &format!(
                        "round {round} {:<10} {:<18} {:>5.1} s: {}",
                        contender.name(),
                        row.name,
                        took,
                        figures.join(", ")
                    ),
                );
                report.add(row.name, contender, samples);
            }
            Err(error) => {
                let words = format!("round {round} {} {}: {error:#}", contender.name(), row.name);
                say(begin, &format!("FAILED {words}\n{}", session.last_words()));
                report.failures.push(words);
                let discarded = catch_unwind(AssertUnwindSafe(|| session.discard()));
                if discarded.is_err() {
                    session = Session::new(contender, settings);
                }
            }
        }
    }
    if session.peak_bytes_max > 0 {
        report
            .peaks
            .entry(contender)
            .or_default()
            .push(session.peak_bytes_max);
    }
}

fn say(begin: Instant, words: &str) {
    println!("[{:>4} s] {words}", begin.elapsed().as_secs());
}

/// A thread that waits for SIGINT and SIGTERM; then every child is killed and the process ends.
fn end_children_on_signals() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (mut interrupt, mut terminate) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ))
        })
        .context("signals")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        strandline_tests::kill_all();
        std::process::exit(130);
    });
    Ok(())
}
