//! `strandline tier status`: topics and partitions in the store, from their manifests.

use clap::Args;
use indicatif::HumanBytes;

use crate::bucket::{BucketArguments, block_on, table};

/// Show what of each partition is in the store
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Only this topic
    topic: Option<String>,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let (_, reader) = arguments.bucket.open()?;
    block_on(async {
        let mut reports = Vec::new();
        for topic in super::topics(&reader, arguments.topic.as_deref()).await? {
            reports.extend(reader.report(&topic).await?);
        }
        arguments.bucket.print(&reports, || {
            let rows: Vec<Vec<String>> = reports
                .iter()
                .map(|report| {
                    vec![
                        format!("{}-{}", report.topic, report.partition),
                        report.start.to_string(),
                        report.end.to_string(),
                        report.objects.to_string(),
                        HumanBytes(report.bytes).to_string(),
                        report.gaps.len().to_string(),
                        if report.deleted { "deleted" } else { "live" }.to_owned(),
                    ]
                })
                .collect();
            let head = [
                "partition",
                "start",
                "end",
                "objects",
                "bytes",
                "gaps",
                "state",
            ];
            table(&head, &rows)
        })
    })
}
