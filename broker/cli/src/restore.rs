//! `strandline restore`: a working node out of an empty machine and a bucket.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::HumanBytes;
use strandline_server::{clock, ids, runtime};
use strandline_tiering::IdSource;
use strandline_tiering::restore_plan::RestorePlan;

use crate::bucket::{BucketArguments, table};

/// Restore a node from its object store
///
/// Makes data folders that a broker can be started with: topics with their ids and configs, committed group offsets, and
/// logs that go on where the store ends. Records are not copied: they are read through on demand, so the time does not
/// grow with the data. Topics that were not tiered come back empty.
///
/// The restored cluster is a new incarnation of the old one: from then on the old one can no longer write to the store.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArguments {
    #[command(flatten)]
    bucket: BucketArguments,
    /// The folder for the data; it must be empty. Unset: what the configuration says, which is ./strandline-data
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Only say what would come back, and what would not
    #[arg(long)]
    dry_run: bool,
    /// How long the manifests may take to be claimed
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    patience: u64,
}

const EXAMPLES: &str = "\
Examples:
  strandline restore --from s3://bucket/prefix --dry-run      a drill: what would come back, and what is missing
  strandline restore --from s3://bucket/prefix --data ./data
  strandline start -o log.dirs=./data -o remote.storage.url=s3://bucket/prefix";

pub fn run(arguments: &RestoreArguments) -> anyhow::Result<()> {
    // Nobody is to reach the broker before it is whole.
    let mut overrides = vec![
        "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
        "advertised.listeners=".to_owned(),
        "http.listener=".to_owned(),
    ];
    if let Some(data) = &arguments.data {
        overrides.push(format!("log.dirs={}", data.display()));
    }
    let config = arguments.bucket.broker_config(&overrides)?;
    let (_, reader) = arguments.bucket.open()?;
    runtime(&config)?.block_on(async {
        let mut promoted = Vec::new();
        if !arguments.dry_run {
            let ids = IdSource::from_seed(ids::new_seed());
            let tails = reader.tails().await?;
            promoted = tails
                .promote(&reader, &ids, clock::now_ms())
                .await
                .context("the tails of unsealed segments")?;
        }
        let mut plan = RestorePlan::read(&reader)
            .await
            .context("cannot tell what the store would bring back")?;
        plan.tails.extend(promoted);
        if !arguments.dry_run {
            let patience = Duration::from_secs(arguments.patience);
            strandline_server::restore::restore(config, &plan, patience, |_| {}).await?;
        }
        arguments
            .bucket
            .print(&plan, || text(&plan, arguments.dry_run))
    })
}

fn text(plan: &RestorePlan, dry_run: bool) -> String {
    let mut rows = Vec::new();
    for topic in &plan.topics {
        for partition in &topic.partitions {
            rows.push(vec![
                format!("{}-{}", topic.name, partition.partition),
                partition.start.to_string(),
                partition.end.to_string(),
                HumanBytes(partition.bytes).to_string(),
            ]);
        }
    }
    let mut text = table(&["partition", "start", "end", "bytes"], &rows);
    let verb = if dry_run { "would be" } else { "is" };
    // Writing to a String does not fail.
    let _ = writeln!(
        text,
        "\ncluster {} {verb} restored as incarnation {}: {} topics, {} groups",
        plan.cluster_id,
        plan.incarnation,
        plan.topics.len(),
        plan.groups.len()
    );
    for tail in &plan.tails {
        let _ = writeln!(
            text,
            "of unsealed segments: {}-{} from {} to {}",
            tail.topic, tail.partition, tail.from, tail.to
        );
    }
    for clamped in &plan.clamped {
        let _ = writeln!(
            text,
            "clamped: group {} of {}-{} from {} to {}",
            clamped.group, clamped.topic, clamped.partition, clamped.from, clamped.to
        );
    }
    for missing in &plan.missing {
        let _ = writeln!(text, "missing: {missing}");
    }
    text
}
