//! kcat, with what its text formats can carry: text without line ends, one set of headers per call.

use std::process::Command;
use std::time::Duration;

use strandline_tests::{TestHeader, TestRecord, run_to_end};

const DEADLINE: Duration = Duration::from_secs(120);
/// Between key and value on a line.
const DELIMITER: &str = "|";

/// Sends the records, which must be of one partition and share their headers. Empty keys and values become null.
pub fn produce(bootstrap: &str, topic: &str, codec: &str, records: &[TestRecord]) {
    let mut lines = Vec::new();
    for record in records {
        lines.extend_from_slice(record.key.as_deref().unwrap_or_default());
        lines.extend_from_slice(DELIMITER.as_bytes());
        lines.extend_from_slice(record.value.as_deref().unwrap_or_default());
        lines.push(b'\n');
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), lines).expect("a temporary file can be written");
    let mut command = Command::new("kcat");
    command
        .args(["-P", "-b", bootstrap, "-t", topic, "-z", codec])
        .args(["-p", &records[0].partition.to_string()])
        .args(["-K", DELIMITER, "-Z"])
        .args(["-X", "acks=all", "-X", "message.max.bytes=8388608"]);
    for TestHeader(name, value) in &records[0].headers {
        let value = value.as_deref().expect("kcat's headers have values");
        let value = std::str::from_utf8(value).expect("kcat's headers are text");
        command.args(["-H", &format!("{name}={value}")]);
    }
    command.arg("-l").arg(file.path());
    run_to_end(&mut command, DEADLINE).expect_success("kcat -P");
}

/// A record as kcat prints it: headers are one text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KcatRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<u8>,
}

/// How kcat prints headers.
pub fn headers_text(headers: &[TestHeader]) -> Vec<u8> {
    let mut text = Vec::new();
    for TestHeader(name, value) in headers {
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        text.extend_from_slice(value.as_deref().unwrap_or(b"NULL"));
    }
    text
}

/// Reads all partitions from the beginning to the end.
pub fn consume(bootstrap: &str, topic: &str) -> Vec<KcatRecord> {
    let mut command = Command::new("kcat");
    command
        .args(["-C", "-b", bootstrap, "-t", topic, "-o", "beginning"])
        .args(["-e", "-q", "-f", "%p %o %T %K %S %k%s%h\n"])
        .args(["-X", "check.crcs=true"]);
    let finished = run_to_end(&mut command, DEADLINE).expect_success("kcat -C");
    parse(&finished.stdout_bytes)
}

fn parse(mut text: &[u8]) -> Vec<KcatRecord> {
    let mut records = Vec::new();
    while !text.is_empty() {
        let mut numbers = [0i64; 5];
        for number in &mut numbers {
            let end = text.iter().position(|byte| *byte == b' ').expect("a space");
            let digits = std::str::from_utf8(&text[..end]).expect("digits");
            *number = digits.parse().expect("a number");
            text = &text[end + 1..];
        }
        let mut take = |length: i64| {
            // -1 is null.
            let (taken, rest) = text.split_at(usize::try_from(length).ok()?);
            text = rest;
            Some(taken.to_vec())
        };
        let (key, value) = (take(numbers[3]), take(numbers[4]));
        let end = text
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line's end");
        records.push(KcatRecord {
            partition: numbers[0] as i32,
            offset: numbers[1],
            timestamp: numbers[2],
            key,
            value,
            headers: text[..end].to_vec(),
        });
        text = &text[end + 1..];
    }
    records
}
