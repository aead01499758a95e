//! What of a topic is still on the broker's disk.

use std::path::Path;
use std::time::Duration;

use crate::broker::Broker;
use crate::wait::wait_until;

/// For uploads and local deletion.
const DEADLINE: Duration = Duration::from_secs(60);

/// The base offsets of the `.log` files of a partition, in order.
pub fn local_segments(data: &Path, topic: &str, partition: i32) -> Vec<i64> {
    let folder = data.join(format!("{topic}-{partition}"));
    let mut bases: Vec<i64> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".log")?.parse().ok()
        })
        .collect();
    bases.sort_unstable();
    bases
}

/// Waits until all but the active segment has left every partition; returns where each active segment begins.
pub fn wait_until_tiered(broker: &Broker, topic: &str, partitions: i32) -> Vec<i64> {
    (0..partitions)
        .map(|partition| {
            wait_until(
                "local segments are gone",
                DEADLINE,
                || match local_segments(&broker.data(), topic, partition)[..] {
                    [active] if active > 0 => Ok(active),
                    ref left => Err(format!("{topic}-{partition} has {} segments", left.len())),
                },
            )
        })
        .collect()
}
