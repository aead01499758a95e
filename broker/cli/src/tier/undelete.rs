//! `strandline tier undelete`: a deleted topic comes back.

use anyhow::{bail, ensure};
use clap::Args;
use strandline_server::ids;
use strandline_tiering::IdSource;
use strandline_tiering::store::Purpose;
use strandline_tiering::undelete::{deleted_topics, undelete};

use crate::bucket::{BucketArguments, block_on};

/// Bring a deleted topic back
///
/// Works until remote.log.delete.delay.ms after the deletion, for what was in the store. A running broker, or the next that
/// starts, makes the topic again within remote.cluster.state.interval.ms: with its id, with tiering on, and with no limit on
/// what it retains, so that nothing expires before you have looked at it. Set its configs then. Committed offsets of groups
/// do not come back.
#[derive(Debug, Args)]
pub struct UndeleteArguments {
    /// The topic
    topic: String,
    /// Which one, when several of the name were deleted
    #[arg(long, value_name = "ID")]
    topic_id: Option<String>,
    /// Only say what would come back
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &UndeleteArguments) -> anyhow::Result<()> {
    let (store, reader) = arguments.bucket.open()?;
    let store = store.with_purpose(Purpose::State);
    let ids = IdSource::from_seed(ids::new_seed());
    block_on(async {
        let cluster_id = reader.cluster().await?;
        let mut found = deleted_topics(&store, &cluster_id, &ids, &arguments.topic).await?;
        if let Some(id) = &arguments.topic_id {
            found.retain(|deleted| deleted.topic_id == *id);
        }
        let known: Vec<_> = found.iter().map(|d| d.topic_id.as_str()).collect();
        ensure!(
            known.len() <= 1,
            "several topics of this name were deleted: say --topic-id, one of {}",
            known.join(", ")
        );
        let Some(deleted) = found.pop() else {
            bail!("no deleted topic {} is left in the store", arguments.topic);
        };
        if !arguments.dry_run {
            undelete(&store, &cluster_id, &ids, &deleted).await?;
        }
        arguments.bucket.print(&deleted, || {
            let verb = if arguments.dry_run {
                "would come back"
            } else {
                "comes back"
            };
            let mut text = format!("{} ({}) {verb}:\n", deleted.topic, deleted.topic_id);
            for (partition, (start, end)) in &deleted.partitions {
                text.push_str(&format!(
                    "partition {partition}: offsets {start} to {end}\n"
                ));
            }
            text
        })
    })
}
