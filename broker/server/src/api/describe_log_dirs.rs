//! DescribeLogDirs (35), versions 1-4.
//!
//! Each log folder with its replicas' local sizes and, from version 4 on, the file system's total and usable bytes. A
//! folder that is offline says so.
//!
//! Gaps: replicas do not move between folders.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use strandline_log::LogManager;
use strandline_wire::{Api, KafkaError};

use super::Apis;
use super::text::{text, topic_name};

type Wanted = Option<HashMap<String, HashSet<i32>>>;

pub async fn handle(apis: &Apis, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let wanted: Wanted = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| {
                (
                    topic.topic.to_string(),
                    topic.partitions.into_iter().collect(),
                )
            })
            .collect()
    });
    let logs = Arc::clone(apis.replicas.logs());
    match apis.cold_reads.run(move || describe(&logs, &wanted)).await {
        Some(results) => DescribeLogDirsResponse::default().with_results(results),
        None => {
            apis.count_error(Api::DescribeLogDirs, KafkaError::UnknownServerError);
            DescribeLogDirsResponse::default()
                .with_error_code(KafkaError::UnknownServerError.code())
        }
    }
}

fn describe(logs: &LogManager, wanted: &Wanted) -> Vec<DescribeLogDirsResult> {
    let mut by_dir: HashMap<PathBuf, BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>>> =
        HashMap::new();
    for log in logs.logs() {
        let tp = log.topic_partition();
        let asked = match wanted {
            None => true,
            Some(topics) => topics
                .get(&*tp.topic)
                .is_some_and(|partitions| partitions.contains(&tp.partition)),
        };
        let Some(dir) = log.dir().parent().filter(|_| asked) else {
            continue;
        };
        by_dir
            .entry(dir.to_path_buf())
            .or_default()
            .entry(Arc::clone(&tp.topic))
            .or_default()
            .push(
                DescribeLogDirsPartition::default()
                    .with_partition_index(tp.partition)
                    .with_partition_size(i64::try_from(log.size_bytes()).unwrap_or(i64::MAX))
                    .with_offset_lag(0)
                    .with_is_future_key(false),
            );
    }
    logs.dirs()
        .into_iter()
        .map(|dir| {
            let result = DescribeLogDirsResult::default().with_log_dir(text(absolute(&dir)));
            if logs.is_offline(&dir) {
                return result.with_error_code(KafkaError::KafkaStorageError.code());
            }
            let (total, usable) = space(&dir);
            let topics = by_dir.remove(&dir).unwrap_or_default();
            result
                .with_topics(
                    topics
                        .into_iter()
                        .map(|(name, mut partitions)| {
                            partitions.sort_unstable_by_key(|partition| partition.partition_index);
                            DescribeLogDirsTopic::default()
                                .with_name(topic_name(&name))
                                .with_partitions(partitions)
                        })
                        .collect(),
                )
                .with_total_bytes(total)
                .with_usable_bytes(usable)
        })
        .collect()
}

fn absolute(dir: &Path) -> String {
    std::path::absolute(dir)
        .unwrap_or_else(|_| dir.to_path_buf())
        .to_string_lossy()
        .into_owned()
}

/// -1 each when the file system does not say.
fn space(dir: &Path) -> (i64, i64) {
    match rustix::fs::statvfs(dir) {
        Ok(stat) => {
            let bytes = |blocks: u64| {
                i64::try_from(blocks.saturating_mul(stat.f_frsize)).unwrap_or(i64::MAX)
            };
            (bytes(stat.f_blocks), bytes(stat.f_bavail))
        }
        Err(_) => (-1, -1),
    }
}
