//! Where the row for keyed compaction goes: bytes cleaned per CPU second, against Kafka's cleaner on the same files.

use super::Row;

pub fn rows() -> Vec<Row> {
    Vec::new()
}
