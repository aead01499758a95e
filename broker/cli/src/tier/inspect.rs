//! `strandline tier inspect`: the entries of one partition's manifest, or what one object says of itself.

use anyhow::Context;
use clap::Args;
use strandline_tiering::store::StoreMetrics;

use crate::bucket::{BucketArguments, block_on, table};

/// List the objects of a partition with their offsets, or decode one object
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The topic; or the URL of a segment object, a manifest root or a manifest page
    #[arg(value_name = "TOPIC|URL")]
    what: String,
    /// The partition
    #[arg(default_value_t = 0)]
    partition: i32,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &InspectArguments) -> anyhow::Result<()> {
    if let Some((store, key)) = object_url(&arguments.what) {
        return object(arguments, store, key);
    }
    let (_, reader) = arguments.bucket.open()?;
    block_on(async {
        let topics = super::topics(&reader, Some(&arguments.what)).await?;
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

/// Splits an object's URL into that of its store and its key.
fn object_url(url: &str) -> Option<(&str, &str)> {
    let is_object = url.ends_with(".strand") || url.contains("/manifest/");
    if !is_object {
        return None;
    }
    // spread/cluster/topic id/partition/{segment,manifest}/name; a retired root lies one deeper.
    let depth = if url.contains("/manifest/retired/") {
        7
    } else {
        6
    };
    let (at, _) = url.rmatch_indices('/').nth(depth - 1)?;
    Some((&url[..at], &url[at + 1..]))
}

fn object(arguments: &InspectArguments, store: &str, key: &str) -> anyhow::Result<()> {
    let mut tier = arguments.bucket.tier_config()?;
    store.clone_into(&mut tier.url);
    let store = tier.open_store(StoreMetrics::unregistered())?;
    let report = block_on(async { Ok(strandline_tiering::inspect::object(&store, key).await?) })?;
    arguments.bucket.print(&report, || {
        let mut text = String::new();
        for (name, value) in report.as_object().into_iter().flatten() {
            match value {
                serde_json::Value::Array(items) => {
                    text.push_str(&format!("{name}:\n"));
                    for item in items {
                        text.push_str(&format!("  {item}\n"));
                    }
                }
                serde_json::Value::String(value) => text.push_str(&format!("{name}: {value}\n")),
                value => text.push_str(&format!("{name}: {value}\n")),
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::object_url;

    #[test]
    fn an_objects_url_names_its_store() {
        let below = "12ab/cluster/topic/0";
        for (url, store, key) in [
            (
                "s3://b/p/12ab/cluster/topic/0/segment/1-2.strand",
                "s3://b/p",
                "segment/1-2.strand",
            ),
            (
                "/data/12ab/cluster/topic/0/manifest/root",
                "/data",
                "manifest/root",
            ),
            (
                "s3://b/12ab/cluster/topic/0/manifest/retired/1-2",
                "s3://b",
                "manifest/retired/1-2",
            ),
        ] {
            let key = format!("{below}/{key}");
            assert_eq!(object_url(url), Some((store, &*key)));
        }
        assert_eq!(object_url("orders"), None);
        assert_eq!(object_url("manifest.root"), None);
    }
}
