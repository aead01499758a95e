//! The table, and the files of a report.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::contender::{Contender, PROPERTIES};
use crate::machine::Machine;
use crate::options::Options;
use crate::rows::{Row, Target};

/// Samples by contender, for one figure.
type Samples = BTreeMap<Contender, Vec<f64>>;

pub struct Report {
    machine: Machine,
    command: String,
    rounds: usize,
    heap_mib: u32,
    properties: Vec<String>,
    /// By row: each contender's rounds, each with a sample for every figure.
    samples: BTreeMap<&'static str, BTreeMap<Contender, Vec<Vec<f64>>>>,
    /// The largest peak of each round.
    pub peaks: BTreeMap<Contender, Vec<u64>>,
    pub failures: Vec<String>,
    pub seconds: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Summary {
    median: f64,
    min: f64,
    max: f64,
}

fn summary(samples: &[f64]) -> Option<Summary> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    };
    Some(Summary { median, min, max })
}

/// Three digits that count.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

impl Summary {
    fn text(self) -> String {
        format!(
            "{} ({}-{})",
            number(self.median),
            number(self.min),
            number(self.max)
        )
    }
}

struct Line {
    cells: [String; 8],
    json: serde_json::Value,
}

const HEAD: [&str; 8] = [
    "work",
    "figure",
    "Kafka",
    "Strandline",
    "to Kafka",
    "floor",
    "to floor",
    "target",
];

/// What a reader must know to trust or repeat the figures.
const HOW: &str = "
## How it was measured

- Contenders run in turn, never together: Kafka, Strandline, the floor, then the next round. In a round each broker starts
  once on an empty folder, is warmed up with large and small requests (so that Kafka's code is compiled), and runs every
  row; starting, idling, restarting and the smallest heap have brokers of their own.
- Both brokers have the same settings (below) and the same topics. Clients run on the same machine and take their share of
  its processors, so CPU for the work judges, and throughput is that of broker and client together.
- Broker CPU is user and system time of the broker's process alone, from /proc. Peak memory is its
  resident high-water mark, reset before each row; \"all rows\" is the largest of a round.
- Our load replays pre-built batches without producer ids over raw connections (Produce 13, Fetch 17 in sessions). A paced
  load is open-loop: latency counts from when a request was due, so a stall is not omitted. \"java\" rows are Kafka's own
  tools. GiB count before compression.
- The floor is a single-threaded program that does with the same requests only what the bytes need: recv, CRC-32C, write;
  sendfile; fdatasync for all that has come meanwhile.
- Free memory is touched first, the disk is synced before each measured part, and a row's files are dropped after it.
- Kafka opens every record of a compressed batch. Strandline checks such a batch's header and CRC, and opens it only where
  the topic asks for it (records.validate.deep, or compaction): the \"deep\" rows show it with that work.
";

impl Report {
    pub fn new(machine: Machine, options: &Options) -> Report {
        Report {
            machine,
            command: options.command.clone(),
            rounds: options.rounds,
            heap_mib: options.heap_mib,
            properties: options.properties.clone(),
            samples: BTreeMap::new(),
            peaks: BTreeMap::new(),
            failures: Vec::new(),
            seconds: 0,
        }
    }

    pub fn add(&mut self, row: &'static str, contender: Contender, samples: Vec<f64>) {
        let by_contender = self.samples.entry(row).or_default();
        by_contender.entry(contender).or_default().push(samples);
    }

    fn samples_of(&self, row: &str, figure: usize) -> Samples {
        let by_contender = self.samples.get(row).into_iter().flatten();
        by_contender
            .map(|(contender, rounds)| {
                let samples = rounds.iter().filter_map(|round| round.get(figure).copied());
                (*contender, samples.collect())
            })
            .collect()
    }

    /// Our own median of another figure.
    fn own_median(&self, rows: &[Row], row: &str, figure: &str) -> Option<f64> {
        let found = rows.iter().find(|candidate| candidate.name == row)?;
        let at = found
            .figures
            .iter()
            .position(|candidate| candidate.name == figure)?;
        let samples = self.samples_of(row, at);
        Some(summary(samples.get(&Contender::Strandline)?)?.median)
    }

    fn lines(&self, rows: &[Row]) -> Vec<Line> {
        let mut lines = Vec::new();
        for row in rows {
            for (at, figure) in row.figures.iter().enumerate() {
                let label = format!("{}, {}", figure.name, figure.unit);
                let samples = self.samples_of(row.name, at);
                let targets = [
                    (Contender::Kafka, figure.against_kafka),
                    (Contender::Floor, figure.against_floor),
                ];
                lines.push(self.line(rows, row.name, &label, &samples, targets));
            }
        }
        let peaks: Samples = self
            .peaks
            .iter()
            .filter(|(contender, _)| **contender != Contender::Floor)
            .map(|(contender, peaks)| {
                let mib = peaks.iter().map(|bytes| *bytes as f64 / f64::from(1 << 20));
                (*contender, mib.collect())
            })
            .collect();
        let targets = [
            (Contender::Kafka, Target::AtMost(0.1)),
            (Contender::Floor, Target::None),
        ];
        lines.push(self.line(rows, "all rows", "peak memory, MiB", &peaks, targets));
        lines
    }

    fn line(
        &self,
        rows: &[Row],
        row: &str,
        label: &str,
        samples: &Samples,
        targets: [(Contender, Target); 2],
    ) -> Line {
        let of = |contender| samples.get(&contender).and_then(|samples| summary(samples));
        let ours = of(Contender::Strandline);
        let ratio = |contender| match (ours, of(contender)) {
            (Some(ours), Some(other)) if other.median > 0.0 => Some(ours.median / other.median),
            _ => None,
        };
        let mut verdicts = Vec::new();
        let mut judged = Vec::new();
        for (contender, target) in targets {
            let (wanted, is_reached) = match target {
                Target::None => continue,
                Target::AtMost(max) => (
                    format!("<= {max:.2} {}", contender.name()),
                    ratio(contender).map(|ratio| ratio <= max),
                ),
                Target::AtLeast(min) => (
                    format!(">= {min:.2} {}", contender.name()),
                    ratio(contender).map(|ratio| ratio >= min),
                ),
                Target::OwnAtMost {
                    row,
                    figure,
                    times,
                    plus,
                } => {
                    let own = self.own_median(rows, row, figure);
                    let reached = ours
                        .zip(own)
                        .map(|(ours, own)| ours.median <= (own * times).max(own + plus));
                    (format!("<= {times} own {row}, or +{plus}"), reached)
                }
            };
            if let Some(is_reached) = is_reached {
                let verdict = if is_reached { "reached" } else { "NOT reached" };
                verdicts.push(format!("{wanted}: {verdict}"));
                judged.push(json!({"target": wanted, "reached": is_reached}));
            }
        }
        let text = |summary: Option<Summary>| summary.map_or_else(|| "-".to_owned(), Summary::text);
        let ratio_text = |contender| {
            ratio(contender).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
        };
        let by_name: BTreeMap<&str, &Vec<f64>> = samples
            .iter()
            .map(|(contender, samples)| (contender.name(), samples))
            .collect();
        Line {
            cells: [
                row.to_owned(),
                label.to_owned(),
                text(of(Contender::Kafka)),
                text(ours),
                ratio_text(Contender::Kafka),
                text(of(Contender::Floor)),
                ratio_text(Contender::Floor),
                verdicts.join("; "),
            ],
            json: json!({
                "row": row,
                "figure": label,
                "samples": by_name,
                "kafka": of(Contender::Kafka),
                "strandline": ours,
                "floor": of(Contender::Floor),
                "to_kafka": ratio(Contender::Kafka),
                "to_floor": ratio(Contender::Floor),
                "targets": judged,
            }),
        }
    }

    /// A Markdown table that is also aligned for the eye.
    pub fn table(&self, rows: &[Row]) -> String {
        let lines = self.lines(rows);
        let mut widths = HEAD.map(str::len);
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(&line.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let format_line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("| {} |\n", padded.join(" | "))
        };
        let mut text = format_line(&HEAD.map(str::to_owned));
        text.push_str(&format_line(&widths.map(|width| "-".repeat(width))));
        let mut last = "";
        for line in &lines {
            let mut cells = line.cells.clone();
            // A row's name once.
            if cells[0] == last {
                cells[0].clear();
            } else {
                last = &line.cells[0];
            }
            text.push_str(&format_line(&cells));
        }
        text
    }

    fn markdown(&self, rows: &[Row]) -> String {
        let machine = &self.machine;
        let mut text = format!(
            "# Benchmark report\n\n\
             {}, commit {}, {} s, {} rounds, alternating. Command: `{}`\n\n\
             Machine: {} ({} processors), {} MiB, {}, {}. Apache Kafka {} with a heap of {} MiB and G1 ({}); {}.\n\n\
             Medians with (smallest-largest) of all rounds. \"to Kafka\" and \"to floor\" divide Strandline's median by theirs.\n\n{}",
            machine.date,
            machine.commit,
            self.seconds,
            self.rounds,
            self.command,
            machine.processor,
            machine.processors,
            machine.memory_mib,
            machine.kernel,
            machine.file_system,
            machine.kafka,
            self.heap_mib,
            machine.java,
            machine.rust,
            self.table(rows)
        );
        text.push_str(HOW);
        text.push_str("\n## Rows\n\n");
        for row in rows {
            text.push_str(&format!("- `{}`: {}\n", row.name, row.what));
        }
        text.push_str(&format!(
            "\n## Settings of both brokers\n\n```properties\n{PROPERTIES}```\n"
        ));
        if !self.properties.is_empty() {
            text.push_str(&format!(
                "\nStrandline had also: {}\n",
                self.properties.join(", ")
            ));
        }
        if !self.failures.is_empty() {
            text.push_str("\n## Failures\n\n");
            for failure in &self.failures {
                text.push_str(&format!(
                    "- {}\n",
                    failure.lines().next().unwrap_or_default()
                ));
            }
        }
        text
    }

    /// Writes report.md and report.json; returns their paths.
    pub fn write(&self, rows: &[Row], folder: &Path) -> anyhow::Result<Vec<String>> {
        let lines: Vec<serde_json::Value> =
            self.lines(rows).into_iter().map(|line| line.json).collect();
        let whole = json!({
            "machine": self.machine,
            "command": self.command,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "kafka_heap_mib": self.heap_mib,
            "properties": PROPERTIES,
            "strandline_properties": self.properties,
            "lines": lines,
            "failures": self.failures,
        });
        let files = [
            (folder.join("report.md"), self.markdown(rows)),
            (
                folder.join("report.json"),
                serde_json::to_string_pretty(&whole)?,
            ),
        ];
        let mut written = Vec::new();
        for (path, text) in files {
            std::fs::write(&path, text)?;
            written.push(path.display().to_string());
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_and_the_mean_of_two() {
        for (samples, median) in [
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0], 2.5),
            (vec![7.0], 7.0),
        ] {
            assert_eq!(summary(&samples).expect("there are samples").median, median);
        }
        assert!(summary(&[]).is_none());
    }
}
