//! Waits until a topic lives in the object store alone.
//!
//! The wait ends in failure when nothing moves for a while, however long the whole takes.

use std::time::Duration;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use strandline_client::{Admin, IsolationLevel, OffsetSpec};
use strandline_server::clock;

use super::folder::DemoFolder;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const STALL_MAX: Duration = Duration::from_secs(60);

/// How far a partition has come: both are the offset after the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    /// Records below are in the store.
    tiered: i64,
    /// Records below are not on the local disk any more.
    gone: i64,
}

pub async fn wait(
    admin: &Admin,
    folder: &DemoFolder,
    topic: &str,
    ends: &[i64],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let mut before = Vec::new();
    let mut last_change = clock::now();
    loop {
        let mut moved = Vec::with_capacity(ends.len());
        for partition in (0..).take(ends.len()) {
            moved.push(look(admin, topic, partition).await?);
        }
        let only_remote: i64 = moved.iter().map(|at| at.gone.min(at.tiered)).sum();
        bar.set_position(u64::try_from(only_remote).unwrap_or(0));
        let done = moved
            .iter()
            .zip(ends)
            .all(|(at, end)| at.tiered == *end && at.gone == *end);
        // Deleted files may stay on disk a little longer than offsets tell.
        if done && folder.log_bytes(topic) == 0 {
            return Ok(());
        }
        if moved != before {
            before = moved;
            last_change = clock::now();
        } else if last_change.elapsed() > STALL_MAX {
            bail!("{}", stalled(folder, topic, &moved, ends));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn look(admin: &Admin, topic: &str, partition: i32) -> anyhow::Result<Moved> {
    let list = async |spec| {
        let listed = admin
            .list_offset(topic, partition, spec, IsolationLevel::ReadUncommitted)
            .await
            .with_context(|| format!("cannot list {spec:?} of {topic}-{partition}"))?;
        anyhow::Ok(listed.map_or(-1, |listed| listed.offset))
    };
    Ok(Moved {
        tiered: list(OffsetSpec::LatestTiered).await? + 1,
        gone: list(OffsetSpec::EarliestLocal).await?.max(0),
    })
}

fn stalled(folder: &DemoFolder, topic: &str, moved: &[Moved], ends: &[i64]) -> String {
    let mut text = format!("nothing has moved for {} s:", STALL_MAX.as_secs());
    for (partition, (at, end)) in moved.iter().zip(ends).enumerate() {
        text.push_str(&format!(
            " {topic}-{partition} is in the store below offset {}, local from {}, ends at {end};",
            at.tiered, at.gone
        ));
    }
    let local = folder.log_bytes(topic);
    text.push_str(&format!(" {local} bytes of it are on the local disk;"));
    text.push_str(" /healthz and the log say why (--log-level info)");
    text
}
