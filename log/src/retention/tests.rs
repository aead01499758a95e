use super::*;

const DAY: i64 = 86_400_000;
const NOW: i64 = 100 * DAY;

/// Segments of ten offsets and 100 bytes, each `days` old; the last is active.
fn segments(days: &[i64]) -> Vec<SegmentMeta> {
    days.iter()
        .enumerate()
        .map(|(i, days)| SegmentMeta {
            base_offset: i as i64 * 10,
            next_offset: i as i64 * 10 + 10,
            size_bytes: 100,
            largest_timestamp: NOW - days * DAY,
            last_modified_ms: NOW,
        })
        .collect()
}

fn config(retention_ms: i64, retention_bytes: i64) -> LogConfig {
    LogConfig {
        retention_ms,
        retention_bytes,
        ..LogConfig::default()
    }
}

fn tiered(local_ms: i64, local_bytes: i64) -> LogConfig {
    LogConfig {
        remote_storage_enable: true,
        local_retention_ms: local_ms,
        local_retention_bytes: local_bytes,
        retention_ms: -1,
        ..LogConfig::default()
    }
}

struct Case {
    name: &'static str,
    segments: Vec<SegmentMeta>,
    config: LogConfig,
    log_start: i64,
    high_watermark: i64,
    uploaded_end: Option<i64>,
    /// Log start, delete below, roll.
    expected: (Option<i64>, Option<i64>, bool),
}

impl Case {
    fn new(name: &'static str, segments: Vec<SegmentMeta>, config: LogConfig) -> Self {
        let high_watermark = segments.last().map_or(0, |s| s.next_offset);
        Self {
            name,
            segments,
            config,
            log_start: 0,
            high_watermark,
            uploaded_end: None,
            expected: (None, None, false),
        }
    }

    fn log_start(self, log_start: i64) -> Self {
        Self { log_start, ..self }
    }

    fn high_watermark(self, high_watermark: i64) -> Self {
        Self {
            high_watermark,
            ..self
        }
    }

    fn uploaded(self, end: i64) -> Self {
        Self {
            uploaded_end: Some(end),
            ..self
        }
    }

    fn nothing(self) -> Self {
        self
    }

    fn deletes(self, log_start: Option<i64>, below: i64, roll: bool) -> Self {
        Self {
            expected: (log_start, Some(below), roll),
            ..self
        }
    }
}

#[test]
fn retention_takes_whole_segments_from_the_start() {
    let mut untimed = segments(&[9, 1]);
    untimed[0].largest_timestamp = -1;
    untimed[0].last_modified_ms = NOW - 9 * DAY;
    let mut empty_active = segments(&[9, 9]);
    empty_active[1].size_bytes = 0;
    empty_active[1].next_offset = 10;
    let mut cleaned_empty = segments(&[9, 9, 1]);
    cleaned_empty[0].size_bytes = 0;
    let compact = LogConfig {
        cleanup_policy: crate::log_config::CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..config(DAY, 100)
    };
    let cases = [
        Case::new("no limits", segments(&[9, 8, 7]), config(-1, -1)).nothing(),
        Case::new("young", segments(&[2, 1, 0]), config(3 * DAY, -1)).nothing(),
        Case::new("the old ones", segments(&[9, 8, 1]), config(7 * DAY, -1)).deletes(
            Some(20),
            20,
            false,
        ),
        Case::new(
            "exactly the limit stays",
            segments(&[7, 1]),
            config(7 * DAY, -1),
        )
        .nothing(),
        Case::new(
            "an old one behind a young one waits",
            segments(&[9, 1, 9, 0]),
            config(7 * DAY, -1),
        )
        .deletes(Some(10), 10, false),
        Case::new(
            "all expired rolls the active one",
            segments(&[9, 9]),
            config(7 * DAY, -1),
        )
        .deletes(Some(20), 20, true),
        Case::new(
            "an empty active one stays",
            empty_active,
            config(7 * DAY, -1),
        )
        .deletes(Some(10), 10, false),
        Case::new(
            "a cleaned one without records holds nothing up",
            cleaned_empty.clone(),
            config(7 * DAY, -1),
        )
        .deletes(Some(20), 20, false),
        Case::new("nor by size", cleaned_empty, config(-1, 50)).deletes(Some(20), 20, false),
        Case::new(
            "without timestamps the file's age counts",
            untimed,
            config(7 * DAY, -1),
        )
        .deletes(Some(10), 10, false),
        Case::new(
            "not above the high watermark",
            segments(&[9, 9, 1]),
            config(7 * DAY, -1),
        )
        .high_watermark(15)
        .deletes(Some(10), 10, false),
        Case::new(
            "size keeps at least the limit",
            segments(&[0, 0, 0]),
            config(-1, 150),
        )
        .deletes(Some(10), 10, false),
        Case::new("size at the limit", segments(&[0, 0]), config(-1, 200)).nothing(),
        Case::new(
            "time and size count a segment once",
            segments(&[9, 0, 0]),
            config(7 * DAY, 200),
        )
        .deletes(Some(10), 10, false),
        Case::new("below the log start", segments(&[0, 0, 0]), config(-1, -1))
            .log_start(25)
            .deletes(None, 20, false),
        Case::new("compacted only", segments(&[9, 9, 9]), compact.clone()).nothing(),
        Case::new(
            "compacted, below the log start",
            segments(&[9, 9, 9]),
            compact,
        )
        .log_start(10)
        .deletes(None, 10, false),
        Case::new(
            "tiered, nothing uploaded",
            segments(&[9, 9, 1]),
            tiered(DAY, -1),
        )
        .nothing(),
        Case::new(
            "tiered, only what is uploaded",
            segments(&[9, 9, 1]),
            tiered(DAY, -1),
        )
        .uploaded(15)
        .deletes(None, 10, false),
        Case::new(
            "tiered, never the active one",
            segments(&[9, 9, 9]),
            tiered(DAY, -1),
        )
        .uploaded(30)
        .deletes(None, 20, false),
        Case::new("tiered by size", segments(&[0, 0, 0]), tiered(-1, 100))
            .uploaded(20)
            .deletes(None, 20, false),
        Case::new(
            "tiered, local limits as the total ones",
            segments(&[9, 9, 1]),
            tiered(-2, -2),
        )
        .uploaded(20)
        .nothing(),
        Case::new(
            "tiered, below the log start needs no upload",
            segments(&[0, 0, 0]),
            tiered(-1, -1),
        )
        .log_start(10)
        .deletes(None, 10, false),
    ];
    for case in cases {
        let view = LogView {
            log_start: case.log_start,
            high_watermark: case.high_watermark,
        };
        let tier = TierView {
            uploaded_end: case.uploaded_end,
        };
        let plan = plan(&case.segments, view, &case.config, &tier, NOW);
        assert_eq!(
            (plan.log_start, plan.delete_below, plan.roll_active),
            case.expected,
            "{}",
            case.name
        );
    }
}
