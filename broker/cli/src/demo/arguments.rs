//! The demo's command line, and what follows from it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::input::{Input, Origin};

const SAMPLE_TOPIC: &str = "flights";
const SAMPLE_KEY: &str = "tailnum";
/// Kafka allows 249; folders get a partition number appended.
const TOPIC_CHARS_MAX: usize = 200;
const SEGMENT_BYTES_MIN: u64 = 128 << 10;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// About how many segments a partition gets, as far as the bounds allow.
const SEGMENTS_PER_PARTITION: u64 = 8;

/// Show the whole way in one go: produce, tier, read back, export
///
/// Starts a broker of its own on free ports, loads 60,000 flights from New York (or --input), waits until all of it is in
/// the object store and gone locally, reads everything back and compares it with the input record by record, and exports
/// it as Parquet. Ends with status 0 only when every check held.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// A CSV with a header, or NDJSON; plain, gzip or zstd
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The field that becomes the record's key: tailnum for the shipped flights, none for other input
    #[arg(long, value_name = "FIELD")]
    key: Option<String>,
    /// The topic: flights, or the input's name
    #[arg(long)]
    topic: Option<String>,
    /// How many partitions the topic gets
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(i32).range(1..=64))]
    partitions: i32,
    /// The demo's folder; one from an earlier demo is replaced
    #[arg(long, default_value = "strandline-demo", value_name = "FOLDER")]
    dir: PathBuf,
    /// Leave the broker up until Ctrl-C
    #[arg(long)]
    keep_running: bool,
}

impl DemoArguments {
    pub fn is_sample(&self) -> bool {
        self.input.is_none()
    }

    pub fn origin(&self) -> Origin {
        self.input.clone().map_or(Origin::Sample, Origin::File)
    }

    pub fn key(&self) -> Option<String> {
        match (&self.key, &self.input) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(_)) => None,
            (None, None) => Some(SAMPLE_KEY.to_owned()),
        }
    }

    pub fn topic(&self, origin: &Origin) -> String {
        match (&self.topic, origin) {
            (Some(topic), _) => topic.clone(),
            (None, Origin::Sample) => SAMPLE_TOPIC.to_owned(),
            (None, Origin::File(path)) => topic_for(path),
        }
    }

    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn keep_running(&self) -> bool {
        self.keep_running
    }

    /// Small enough that a small input has several segments, large enough that a large one has not millions.
    pub fn segment_bytes(&self, input: &Input) -> u64 {
        let share = u64::try_from(self.partitions).unwrap_or(1) * SEGMENTS_PER_PARTITION;
        (input.stored_bytes() / share).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

/// A topic's name from a file's: what stands before the first dot, with legal characters.
fn topic_for(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let stem = name.trim_start_matches('.').split('.').next();
    let topic: String = stem
        .unwrap_or_default()
        .chars()
        .take(TOPIC_CHARS_MAX)
        .map(|char| match char {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' => char,
            _ => '-',
        })
        .collect();
    if topic.is_empty() {
        "events".to_owned()
    } else {
        topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_named_after_files() {
        let cases = [
            ("trips.csv", "trips"),
            ("/data/Taxi 2024 (NYC).csv.gz", "Taxi-2024--NYC-"),
            (".hidden.ndjson", "hidden"),
            ("höhen.csv", "h-hen"),
            ("..", "events"),
        ];
        for (path, topic) in cases {
            assert_eq!(topic_for(Path::new(path)), topic, "{path}");
        }
    }
}
