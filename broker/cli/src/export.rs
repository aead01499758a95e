//! `strandline export`: sealed records of a topic as Parquet, read from the object store alone.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Args, ValueEnum};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};
use strandline_exporter::{
    ExportRequest, ExportSource, ExportSummary, ExportTarget, KeyFormat, Progress, ValueFormat,
    export,
};
use strandline_server::config::{BrokerConfig, ConfigSources};
use strandline_server::{clock, ids};
use strandline_tiering::clock::Clock;
use strandline_tiering::{IdSource, TierConfig};

/// Of plain progress lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// Gaps and files told one by one; machines get all of them with --output json.
const LISTED_MAX: usize = 10;

/// Export a topic's sealed records as Parquet
///
/// Reads the object store alone: no broker needs to run. Only what was sealed and tiered is there; a later run adds what
/// is new since, and nothing twice. The table is the folder TOPIC below the target: data/ holds zstd Parquet, one folder
/// per partition, rejects/ the records that did not fit with offset and cause, _strandline/ the commits.
///
/// Columns are topic, partition, offset, timestamp, key, value and headers; with --value-format json the object's fields
/// take the place of value, typed by their data. Records of aborted transactions are left out.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ExportArguments {
    /// The topic
    topic: String,
    /// Where tables go: a folder, file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix
    #[arg(long, value_name = "URL")]
    to: String,
    /// The object store that the topic was tiered to: a folder, file:///folder or s3://bucket/prefix. Unset: what the
    /// configuration says, which is ./strandline-data/remote-storage with none given
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// The table's name, when it is not to be the topic's
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// How values become columns: raw for a new table, what it has for an existing one
    #[arg(long, value_enum, value_name = "FORMAT")]
    value_format: Option<Values>,
    /// How keys become a column: binary beside raw values and string beside JSON for a new table
    #[arg(long, value_enum, value_name = "FORMAT")]
    key_format: Option<Keys>,
    /// The address of the S3-compatible server to write to, when it is not AWS [env: AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    to_s3_endpoint: Option<String>,
    /// The region of the bucket to write to [env: AWS_REGION]
    #[arg(long, value_name = "REGION")]
    to_s3_region: Option<String>,
    /// The cluster, when the object store holds several
    #[arg(long, value_name = "ID")]
    cluster_id: Option<String>,
    /// The broker's server.properties, for remote.storage.*
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One configuration, as for start; may be repeated
    #[arg(short = 'o', long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// How the summary is printed
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

const EXAMPLES: &str = "\
Examples:
  strandline export flights --to ./parquet --value-format json
  strandline export flights --to s3://warehouse/kafka --from s3://bucket/prefix
  strandline export flights --to s3://warehouse/kafka --to-s3-endpoint http://127.0.0.1:9000 \\
    --config server.properties
  duckdb -c \"SELECT * FROM read_parquet('parquet/flights/data/*/*.parquet', union_by_name = true) LIMIT 10\"

Credentials for S3 come from the usual AWS chain: environment, profiles, SSO, instance roles.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Values {
    /// One binary column
    Raw,
    /// The fields of a JSON object as typed columns
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Keys {
    Binary,
    /// UTF-8 text
    String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

pub fn run(arguments: &ExportArguments) -> anyhow::Result<()> {
    let request = request(arguments)?;
    let ids = IdSource::from_seed(ids::new_seed());
    let mut meter = Meter::new(arguments.output);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let started = clock::now();
    let done = runtime.block_on(async {
        let mut on_progress = |progress: &Progress| meter.show(progress);
        export(&request, &ids, &Clock::system(), &mut on_progress).await
    });
    meter.finish();
    let summary = done.with_context(|| format!("cannot export {}", arguments.topic))?;
    let mut out = std::io::stdout().lock();
    match arguments.output {
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &summary)?;
            writeln!(out)?;
        }
        Output::Text => print(&mut out, &summary, started.elapsed())?,
    }
    Ok(())
}

fn request(arguments: &ExportArguments) -> anyhow::Result<ExportRequest> {
    let file = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Some((path.clone(), text))
        }
        None => None,
    };
    let mut overrides = arguments.overrides.clone();
    if let Some(from) = &arguments.from {
        overrides.push(format!("remote.storage.url={from}"));
    }
    let sources = ConfigSources {
        file,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        overrides,
        hostname: strandline_server::hostname(),
    };
    // Its warnings are about running a broker.
    let (config, _) = BrokerConfig::load(&sources)?;
    let data = config
        .log_dirs
        .first()
        .map_or(Path::new("."), PathBuf::as_path);
    let source = ExportSource {
        cluster_id: arguments.cluster_id.clone(),
        ..ExportSource::from_tier_config(&TierConfig::from_map(&config.values(), data)?)
    };
    let target = ExportTarget {
        url: arguments.to.clone(),
        s3_endpoint: arguments.to_s3_endpoint.clone(),
        s3_region: arguments.to_s3_region.clone(),
    };
    let mut request = ExportRequest::new(&arguments.topic, source, target);
    request.table.clone_from(&arguments.table);
    request.value_format = arguments.value_format.map(|format| match format {
        Values::Raw => ValueFormat::Raw,
        Values::Json => ValueFormat::Json,
    });
    request.key_format = arguments.key_format.map(|format| match format {
        Keys::Binary => KeyFormat::Binary,
        Keys::String => KeyFormat::String,
    });
    Ok(request)
}

/// A bar on a terminal, a line now and then elsewhere; both on standard error.
enum Meter {
    Bar(ProgressBar),
    Lines { last: Instant },
    Silent,
}

impl Meter {
    fn new(output: Output) -> Self {
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = "{bar:32} {bytes}/{total_bytes} {bytes_per_sec}  eta {eta}  {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            return Self::Bar(bar);
        }
        match output {
            Output::Text => Self::Lines { last: clock::now() },
            Output::Json => Self::Silent,
        }
    }

    fn show(&mut self, progress: &Progress) {
        let total = progress.log_bytes_total.max(progress.log_bytes_done);
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(progress.log_bytes_done);
                bar.set_message(format!(
                    "{} records, {} files",
                    HumanCount(progress.records),
                    progress.files
                ));
            }
            Self::Lines { last } if last.elapsed() >= LINE_INTERVAL => {
                *last = clock::now();
                eprintln!(
                    "exported {} of {} of the log: {} records, {} rejects, {} files with {}",
                    HumanBytes(progress.log_bytes_done),
                    HumanBytes(total),
                    progress.records,
                    progress.rejects,
                    progress.files,
                    HumanBytes(progress.bytes_written)
                );
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn print(
    out: &mut impl std::io::Write,
    summary: &ExportSummary,
    elapsed: Duration,
) -> anyhow::Result<()> {
    let table = &summary.table;
    if summary.commits == 0 {
        writeln!(
            out,
            "Nothing new of {} in {}: {table} is as it was.",
            summary.topic, summary.source
        )?;
        writeln!(
            out,
            "Records are exported once their segment was sealed and tiered."
        )?;
        return Ok(());
    }
    let seconds = elapsed.as_secs_f64().max(0.001);
    writeln!(
        out,
        "Exported {} records of {} from {} to {table} in {seconds:.1} s.",
        HumanCount(summary.records),
        summary.topic,
        summary.source,
    )?;
    writeln!(
        out,
        "  {} of log read, {} written in {} Parquet files, {} commits.",
        HumanBytes(summary.log_bytes),
        HumanBytes(summary.bytes_written),
        summary.data_files().count(),
        summary.commits
    )?;
    for partition in &summary.partitions {
        write!(
            out,
            "  partition {}: offsets {} to {}, {} records",
            partition.partition,
            partition.start,
            partition.end - 1,
            HumanCount(partition.records)
        )?;
        if partition.rejects > 0 {
            write!(out, ", {} rejects", HumanCount(partition.rejects))?;
        }
        writeln!(out)?;
    }
    if summary.aborted > 0 {
        let aborted = HumanCount(summary.aborted);
        writeln!(
            out,
            "  {aborted} records of aborted transactions are left out."
        )?;
    }
    if summary.swept_files > 0 {
        let files = summary.swept_files;
        writeln!(
            out,
            "  {files} files that an earlier run left uncommitted were deleted."
        )?;
    }
    for gap in summary.gaps.iter().take(LISTED_MAX) {
        writeln!(
            out,
            "  GAP: partition {} offsets {} to {} are not in the store: {}",
            gap.partition,
            gap.start,
            gap.end - 1,
            gap.cause
        )?;
    }
    rest(out, summary.gaps.len(), "gaps")?;
    if summary.rejects > 0 {
        writeln!(
            out,
            "  REJECTS: {} records did not fit the table. Each is here with its offset and cause:",
            HumanCount(summary.rejects)
        )?;
        for file in summary.reject_files().take(LISTED_MAX) {
            writeln!(out, "    {table}/{}", file.path)?;
        }
        rest(out, summary.reject_files().count(), "files")?;
    }
    writeln!(out, "Query it:\n  duckdb -c \"{}\"", summary.query)?;
    Ok(())
}

fn rest(out: &mut impl std::io::Write, count: usize, what: &str) -> std::io::Result<()> {
    match count.checked_sub(LISTED_MAX) {
        Some(more @ 1..) => writeln!(out, "    and {more} more {what}"),
        _ => Ok(()),
    }
}
