//! Which part of a log its total retention gives up: a pure function over both tiers.
//!
//! retention.ms and retention.bytes count a record once, whichever tiers hold it. Whole remote segments go, oldest first;
//! a segment that is younger than its predecessors protects those behind it. What only the local tier holds is never cut
//! here: it is uploaded first.

use strandline_log::{LogConfig, Offset, TimestampMs};

/// One remote segment, as far as retention cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteSegment {
    pub end: Offset,
    pub log_bytes: u64,
    pub max_timestamp: TimestampMs,
}

/// The limits of a topic over both tiers. Negative: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalRetention {
    pub retention_ms: TimestampMs,
    pub retention_bytes: i64,
}

impl TotalRetention {
    pub fn of(config: &LogConfig) -> Self {
        if !config.cleanup_policy.delete {
            return Self {
                retention_ms: -1,
                retention_bytes: -1,
            };
        }
        Self {
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
        }
    }

    pub fn is_unlimited(&self) -> bool {
        self.retention_ms < 0 && self.retention_bytes < 0
    }
}

/// Where the log should start now; `None` when it may stay. `remote` is oldest first and may be cut short: only what is
/// given can go. `bytes_total` counts both tiers.
pub fn plan(
    remote: impl IntoIterator<Item = RemoteSegment>,
    bytes_total: u64,
    limits: &TotalRetention,
    now_ms: TimestampMs,
) -> Option<Offset> {
    let mut bytes_over = match u64::try_from(limits.retention_bytes) {
        Ok(bytes_max) => bytes_total.saturating_sub(bytes_max),
        Err(_) => 0,
    };
    let mut log_start = None;
    for segment in remote {
        let expired = limits.retention_ms >= 0
            && segment.max_timestamp >= 0
            && now_ms.saturating_sub(segment.max_timestamp) > limits.retention_ms;
        let too_much = bytes_over >= segment.log_bytes && bytes_over > 0;
        if !expired && !too_much {
            break;
        }
        bytes_over = bytes_over.saturating_sub(segment.log_bytes);
        log_start = Some(segment.end);
    }
    log_start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote() -> Vec<RemoteSegment> {
        [(100, 10), (200, 40), (300, 20), (400, 50)]
            .map(|(end, max_timestamp)| RemoteSegment {
                end,
                log_bytes: 1_000,
                max_timestamp,
            })
            .to_vec()
    }

    #[test]
    fn whole_segments_go_oldest_first() {
        let table = [
            // retention.ms, retention.bytes, total bytes, now, expected
            (-1, -1, 9_000, 1_000, None),
            (30, -1, 9_000, 40, None),
            (30, -1, 9_000, 41, Some(100)),
            // The second holds back the third, which is older.
            (30, -1, 9_000, 60, Some(100)),
            (30, -1, 9_000, 71, Some(300)),
            (30, -1, 9_000, 1_000, Some(400)),
            (-1, 5_000, 5_999, 1_000, None),
            (-1, 5_000, 6_000, 1_000, Some(100)),
            (-1, 5_000, 7_500, 1_000, Some(200)),
            (-1, 0, 4_500, 1_000, Some(400)),
            (30, 5_000, 7_000, 41, Some(200)),
        ];
        for (retention_ms, retention_bytes, bytes_total, now_ms, expected) in table {
            let limits = TotalRetention {
                retention_ms,
                retention_bytes,
            };
            assert_eq!(
                plan(remote(), bytes_total, &limits, now_ms),
                expected,
                "{limits:?} {bytes_total} {now_ms}"
            );
        }
    }

    #[test]
    fn a_segment_without_timestamps_never_expires() {
        let mut segments = remote();
        segments[0].max_timestamp = -1;
        let limits = TotalRetention {
            retention_ms: 0,
            retention_bytes: -1,
        };
        assert_eq!(plan(segments, 0, &limits, i64::MAX), None);
    }
}
