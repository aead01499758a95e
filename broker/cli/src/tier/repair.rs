//! `strandline tier repair`: removes what no manifest names. What is damaged or missing is told; nothing is guessed.

use std::collections::BTreeMap;

use clap::Args;
use indicatif::HumanBytes;
use strandline_server::{clock, ids};
use strandline_tiering::IdSource;
use strandline_tiering::manifest::{ManifestStore, PageCache};
use strandline_tiering::store::Purpose;
use strandline_tiering::uploader::sweep;

use crate::bucket::{BucketArguments, block_on, table};

/// Remove objects that no manifest names
///
/// First each partition's collection floor is raised, so that no upload that is still under way can name them any more;
/// then they are deleted. Young objects and objects that are not ours stay. A running broker does the same by itself
/// every remote.log.sweep.interval.ms.
#[derive(Debug, Args)]
pub struct RepairArguments {
    /// Only this topic
    topic: Option<String>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    /// How old by the store's clock an object must be
    #[arg(long, default_value_t = 86_400_000, value_name = "MS")]
    older_than_ms: i64,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &RepairArguments) -> anyhow::Result<()> {
    let (store, reader) = arguments.bucket.open()?;
    let store = store.with_purpose(Purpose::Sweep);
    let ids = IdSource::from_seed(ids::new_seed());
    let old_before_ms = clock::now_ms().saturating_sub(arguments.older_than_ms);
    block_on(async {
        let mut garbage: BTreeMap<String, u64> = BTreeMap::new();
        let mut unknown = Vec::new();
        for topic in super::topics(&reader, arguments.topic.as_deref()).await? {
            for partition in 0..topic.partitions {
                let key = topic.partition_key(partition);
                let manifests = ManifestStore::new(&store, key, ids.clone(), PageCache::default());
                let mut after = None;
                loop {
                    let Some(manifest) = manifests.load().await? else {
                        break;
                    };
                    let fence = (!arguments.dry_run).then_some(manifest.fence);
                    let swept =
                        sweep::sweep(&store, &manifests, fence, old_before_ms, after.as_deref())
                            .await?;
                    for object in swept.garbage {
                        if !arguments.dry_run {
                            store.delete(&object.key).await?;
                        }
                        garbage.insert(object.key, object.bytes);
                    }
                    unknown.extend(swept.unknown);
                    after = swept.next;
                    if after.is_none() {
                        break;
                    }
                }
            }
        }
        let report = serde_json::json!({
            "dry_run": arguments.dry_run,
            "garbage": garbage,
            "unknown": unknown,
        });
        arguments.bucket.print(&report, || {
            let rows: Vec<Vec<String>> = garbage
                .iter()
                .map(|(key, bytes)| vec![HumanBytes(*bytes).to_string(), key.clone()])
                .collect();
            let mut text = table(&["bytes", "garbage"], &rows);
            for key in &unknown {
                text.push_str(&format!("not ours, left alone: {key}\n"));
            }
            let verb = if arguments.dry_run {
                "would be removed"
            } else {
                "removed"
            };
            text.push_str(&format!("{} objects {verb}\n", garbage.len()));
            text
        })
    })
}
