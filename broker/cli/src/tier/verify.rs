//! `strandline tier verify`: whether the store has everything that the manifests name.

use anyhow::bail;
use clap::Args;
use strandline_tiering::inspect::Problem;

use crate::bucket::{BucketArguments, block_on, table};

/// Check that every object is there and whole
///
/// Asks for the end of each object, which holds the checksums of the rest; with --deep reads and checks every byte. Ends
/// with status 1 when something is wrong.
#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// Only this topic
    topic: Option<String>,
    /// Read every byte
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let (_, reader) = arguments.bucket.open()?;
    let problems = block_on(async {
        let mut problems = Vec::new();
        for topic in super::topics(&reader, arguments.topic.as_deref()).await? {
            if topic.deleted_ms.is_some() {
                continue;
            }
            for partition in 0..topic.partitions {
                problems.extend(reader.verify(&topic, partition, arguments.deep).await);
            }
        }
        Ok(problems)
    })?;
    arguments.bucket.print(&problems, || text(&problems))?;
    if !problems.is_empty() {
        bail!("{} problems were found", problems.len());
    }
    Ok(())
}

fn text(problems: &[Problem]) -> String {
    if problems.is_empty() {
        return "everything that the manifests name is there\n".to_owned();
    }
    let rows: Vec<Vec<String>> = problems
        .iter()
        .map(|problem| {
            vec![
                format!("{}-{}", problem.topic, problem.partition),
                problem.cause.clone(),
                problem.consequence.clone(),
            ]
        })
        .collect();
    table(&["partition", "cause", "consequence"], &rows)
}
