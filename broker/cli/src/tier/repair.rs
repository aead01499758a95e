//! `strandline tier repair`: removes what no manifest names, and gives up what is lost when told so.

use std::collections::BTreeMap;

use clap::Args;
use indicatif::HumanBytes;
use strandline_server::{clock, ids};
use strandline_tiering::IdSource;
use strandline_tiering::manifest::{ManifestStore, ManifestStoreError, PageCache};
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
    /// Give up what is lost: objects that are missing or damaged become gaps, and consumers go on behind them
    #[arg(long)]
    accept_loss: bool,
    /// With --accept-loss: read every byte, not only the objects' ends
    #[arg(long)]
    deep: bool,
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
        let (mut losses, mut rebuilt) = (Vec::new(), Vec::new());
        for topic in super::topics(&reader, arguments.topic.as_deref()).await? {
            for partition in 0..topic.partitions {
                let key = topic.partition_key(partition);
                let manifests = ManifestStore::new(&store, key, ids.clone(), PageCache::default());
                if let Some(made) = rebuild(&manifests, arguments.dry_run).await? {
                    rebuilt.push(format!("{}-{partition}: {made}", topic.topic));
                    if arguments.dry_run {
                        continue;
                    }
                }
                if arguments.accept_loss && topic.deleted_ms.is_none() {
                    let (deep, dry_run) = (arguments.deep, arguments.dry_run);
                    let found = reader.accept_losses(&store, &manifests, &topic, deep, dry_run);
                    losses.extend(found.await?);
                }
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
            "rebuilt": rebuilt,
            "losses": losses,
            "garbage": garbage,
            "unknown": unknown,
        });
        arguments.bucket.print(&report, || {
            let rows: Vec<Vec<String>> = garbage
                .iter()
                .map(|(key, bytes)| vec![HumanBytes(*bytes).to_string(), key.clone()])
                .collect();
            let mut text = table(&["bytes", "garbage"], &rows);
            for made in &rebuilt {
                text.push_str(made);
                text.push('\n');
            }
            for loss in &losses {
                text.push_str(&format!(
                    "{}-{}: offsets {} to {} {}: {}\n",
                    loss.topic,
                    loss.partition,
                    loss.start,
                    loss.end,
                    if arguments.dry_run {
                        "would be given up"
                    } else {
                        "are given up"
                    },
                    loss.cause
                ));
            }
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

/// A root that is missing although there are objects, or that is damaged, is made again.
async fn rebuild(manifests: &ManifestStore, dry_run: bool) -> anyhow::Result<Option<String>> {
    let (damaged, why) = match manifests.load().await {
        Ok(Some(_)) => return Ok(None),
        Ok(None) => (None, "is missing".to_owned()),
        Err(ManifestStoreError::Damaged { cause, .. }) => (
            manifests.root_version().await?,
            format!("is damaged: {cause}"),
        ),
        Err(error) => return Err(error.into()),
    };
    let Some(made) = manifests.plan_rebuild(None, None).await? else {
        return Ok(None);
    };
    if !dry_run {
        manifests.create(&made, damaged.as_ref()).await?;
    }
    Ok(Some(format!(
        "its root {why}; it {} made again, with offsets {} to {} in {} objects",
        if dry_run { "would be" } else { "was" },
        made.start_offset(),
        made.end_offset(),
        made.entry_count()
    )))
}
