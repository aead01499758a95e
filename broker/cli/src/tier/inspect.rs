//! `strandline tier inspect`: the entries of one partition's manifest, object by object.

use anyhow::Context;
use clap::Args;

use crate::bucket::{BucketArguments, block_on, table};

/// List the objects of a partition with their offsets
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The topic
    topic: String,
    /// The partition
    #[arg(default_value_t = 0)]
    partition: i32,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &InspectArguments) -> anyhow::Result<()> {
    let (_, reader) = arguments.bucket.open()?;
    block_on(async {
        let topics = super::topics(&reader, Some(&arguments.topic)).await?;
        let topic = topics.first().context("the topic is not there")?;
        let key = topic.partition_key(arguments.partition);
        let entries = reader.entry_reports(&key).await?;
        arguments.bucket.print(&entries, || {
            let rows: Vec<Vec<String>> = entries
                .iter()
                .map(|entry| {
                    vec![
                        entry.start.to_string(),
                        entry.end.to_string(),
                        entry.bytes.to_string(),
                        entry.max_timestamp.to_string(),
                        entry.leader_epoch.to_string(),
                        entry.key.clone(),
                    ]
                })
                .collect();
            let head = ["start", "end", "bytes", "max timestamp", "epoch", "key"];
            table(&head, &rows)
        })
    })
}
