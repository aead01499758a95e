//! What a run reads of each partition: a pure function of manifest and table.

use strandline_log::{LeaderEpoch, Offset};
use strandline_tiering::manifest::Manifest;

use crate::commit::{Entry, PartitionProgress, SourceTopic};
use crate::request::{KeyFormat, TableFormat, ValueFormat};

/// Why topic and table do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the table holds topic {there}, not {topic}; export into another table")]
    OtherTopic { there: String, topic: String },
    #[error(
        "topic {topic} was deleted and created again: the table holds the one with id {there}, the store now has {topic_id}. \
         Offsets of both would mean different records; export the new one into a table of its own"
    )]
    OtherTopicId {
        topic: String,
        there: String,
        topic_id: String,
    },
    #[error(
        "the table has {what} format {there}; asked for was {asked}. A table keeps its format: export into another table"
    )]
    OtherFormat {
        what: &'static str,
        there: &'static str,
        asked: &'static str,
    },
    #[error(
        "partition {partition} ends at {end} in the object store, but the table already has offsets up to {exported}: \
         the store was rolled back, or it is another one"
    )]
    Rewound {
        partition: i32,
        end: Offset,
        exported: Offset,
    },
    #[error(
        "partition {partition} has another history than the table: offset {offset} was written in leader epoch {exported}, \
         the object store now says {found}"
    )]
    Diverged {
        partition: i32,
        offset: Offset,
        exported: LeaderEpoch,
        found: LeaderEpoch,
    },
}

/// What is to be read of a partition. Nothing when `start` is at `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    pub partition: i32,
    /// Where the table's offsets of this partition begin, also those of earlier runs.
    pub table_start: Offset,
    /// Where this run goes on.
    pub start: Offset,
    /// Where there is something to read; behind `start` when retention was faster than the export.
    pub read_from: Offset,
    /// Exclusive.
    pub end: Offset,
    /// Of the log, about.
    pub log_bytes: u64,
}

impl PartitionPlan {
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

/// Checks that a table may take this topic in this format; its own format counts where none was asked for.
pub fn check_table(
    last: Option<&Entry>,
    source: &SourceTopic,
    value: Option<ValueFormat>,
    key: Option<KeyFormat>,
) -> Result<TableFormat, PlanError> {
    let Some(last) = last else {
        return Ok(TableFormat::new(value, key));
    };
    if last.source.topic != source.topic {
        return Err(PlanError::OtherTopic {
            there: last.source.topic.clone(),
            topic: source.topic.clone(),
        });
    }
    if last.source.topic_id != source.topic_id {
        return Err(PlanError::OtherTopicId {
            topic: source.topic.clone(),
            there: last.source.topic_id.clone(),
            topic_id: source.topic_id.clone(),
        });
    }
    let value_name = |format| match format {
        ValueFormat::Raw => "raw",
        ValueFormat::Json => "json",
    };
    let key_name = |format| match format {
        KeyFormat::Binary => "binary",
        KeyFormat::String => "string",
    };
    let TableFormat {
        value: value_there,
        key: key_there,
    } = last.format;
    if let Some(asked) = value.filter(|asked| *asked != value_there) {
        return Err(PlanError::OtherFormat {
            what: "value",
            there: value_name(value_there),
            asked: value_name(asked),
        });
    }
    if let Some(asked) = key.filter(|asked| *asked != key_there) {
        return Err(PlanError::OtherFormat {
            what: "key",
            there: key_name(key_there),
            asked: key_name(asked),
        });
    }
    Ok(last.format)
}

/// From the table's end, or the log start for a new partition, to the manifest's end.
pub fn plan_partition(
    manifest: &Manifest,
    progress: Option<&PartitionProgress>,
) -> Result<PartitionPlan, PlanError> {
    let partition = manifest.partition.partition;
    let end = manifest.end_offset();
    let start = progress.map_or(manifest.start_offset(), |p| p.end);
    if let Some(progress) = progress {
        if end < progress.end {
            return Err(PlanError::Rewound {
                partition,
                end,
                exported: progress.end,
            });
        }
        // The lineage is cut at the log start: there is nothing to compare with below it.
        let offset = progress.end - 1;
        if let (Some(exported), Some(found)) =
            (progress.leader_epoch, manifest.epoch_for_offset(offset))
            && exported != found
            && offset >= manifest.start_offset()
        {
            return Err(PlanError::Diverged {
                partition,
                offset,
                exported,
                found,
            });
        }
    }
    let read_from = start.max(manifest.start_offset());
    Ok(PartitionPlan {
        partition,
        table_start: progress.map_or(start, |p| p.start),
        start,
        read_from,
        end,
        log_bytes: log_bytes_from(manifest, read_from),
    })
}

fn log_bytes_from(manifest: &Manifest, from: Offset) -> u64 {
    let pages = manifest.pages.iter().filter(|page| page.end > from);
    let entries = manifest.entries.iter().filter(|entry| entry.end > from);
    pages
        .map(|page| page.live_bytes)
        .chain(entries.map(|entry| entry.log_bytes))
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use strandline_log::TopicId;
    use strandline_log::leader_epoch::EpochEntry;
    use strandline_tiering::Fence;
    use strandline_tiering::format::PartitionKey;

    fn manifest(log_start: Offset, end: Offset) -> Manifest {
        let key = PartitionKey::new("cluster", TopicId::from_u128(1), 7);
        let mut manifest = Manifest::new(key, Fence::new(1, 2), log_start, [0; 16]);
        manifest.end = end;
        manifest.epochs = [(1, 0), (2, 50)]
            .map(|(epoch, start_offset)| EpochEntry {
                epoch,
                start_offset,
            })
            .to_vec();
        manifest
    }

    fn progress(end: Offset, leader_epoch: Option<LeaderEpoch>) -> PartitionProgress {
        PartitionProgress {
            partition: 7,
            start: 3,
            end,
            incarnation: 1,
            leader_epoch,
        }
    }

    #[test]
    fn a_run_goes_from_the_tables_end_to_the_manifests() {
        for (log_start, end, at, expected) in [
            // log start, manifest end, table end -> table start, start, read from, end
            (5, 100, None, (5, 5, 5, 100)),
            (5, 100, Some(progress(20, Some(1))), (3, 20, 20, 100)),
            (5, 100, Some(progress(100, Some(2))), (3, 100, 100, 100)),
            (30, 100, Some(progress(20, Some(1))), (3, 20, 30, 100)),
            (0, 0, None, (0, 0, 0, 0)),
            // An epoch of which nothing is known on one side.
            (5, 100, Some(progress(60, None)), (3, 60, 60, 100)),
        ] {
            let plan = plan_partition(&manifest(log_start, end), at.as_ref()).expect("plans");
            let found = (plan.table_start, plan.start, plan.read_from, plan.end);
            assert_eq!(found, expected);
            assert_eq!(plan.is_empty(), expected.1 == expected.3);
        }
    }

    #[test]
    fn a_store_that_was_rolled_back_or_has_another_history_is_refused() {
        let rewound = plan_partition(&manifest(0, 100), Some(&progress(101, Some(2))));
        assert!(matches!(
            rewound,
            Err(PlanError::Rewound {
                end: 100,
                exported: 101,
                ..
            })
        ));
        let diverged = plan_partition(&manifest(0, 100), Some(&progress(60, Some(1))));
        assert!(matches!(
            diverged,
            Err(PlanError::Diverged {
                offset: 59,
                exported: 1,
                found: 2,
                ..
            })
        ));
    }

    #[test]
    fn a_table_keeps_its_topic_and_format() {
        let source = |topic: &str, topic_id: &str| SourceTopic {
            cluster_id: "cluster".to_owned(),
            topic: topic.to_owned(),
            topic_id: topic_id.to_owned(),
        };
        let format = TableFormat::new(Some(ValueFormat::Json), None);
        assert_eq!(format.key, KeyFormat::String);
        let last = Entry::claim(1, String::new(), 0, source("a", "1"), format);
        let check =
            |topic, id, value, key| check_table(Some(&last), &source(topic, id), value, key);
        assert_eq!(check("a", "1", None, None), Ok(format));
        assert_eq!(
            check("a", "1", Some(ValueFormat::Json), Some(KeyFormat::String)),
            Ok(format)
        );
        assert!(matches!(
            check("b", "1", None, None),
            Err(PlanError::OtherTopic { .. })
        ));
        assert!(matches!(
            check("a", "2", None, None),
            Err(PlanError::OtherTopicId { .. })
        ));
        let raw = check("a", "1", Some(ValueFormat::Raw), None);
        assert!(matches!(
            raw,
            Err(PlanError::OtherFormat { what: "value", .. })
        ));
        let binary = check("a", "1", None, Some(KeyFormat::Binary));
        assert!(matches!(
            binary,
            Err(PlanError::OtherFormat { what: "key", .. })
        ));
        let new = check_table(None, &source("a", "1"), None, None).expect("new");
        assert_eq!(
            new,
            TableFormat {
                value: ValueFormat::Raw,
                key: KeyFormat::Binary
            }
        );
    }
}
