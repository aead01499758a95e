//! Kafka's CheckpointFile: a version line, a count line, and as many lines of entries.

use std::fmt::Write;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::atomic_file::write_atomically;
use super::error::StateFileError;

const VERSION: &str = "0";

/// Reads a checkpoint; a missing file has no entries. `parse` gets the words of one line.
pub(crate) fn parse_checkpoint<T>(
    path: &Path,
    parse: impl Fn(&[&str]) -> Option<T>,
) -> Result<Vec<T>, StateFileError> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes)
            .map_err(|_| StateFileError::malformed(path, "it is not UTF-8"))?,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(StateFileError::io(path)(e)),
    };
    let mut lines = text.lines();
    let version = lines.next().unwrap_or_default().trim();
    if version != VERSION {
        let reason = format!("version \"{version}\", expected {VERSION}");
        return Err(StateFileError::malformed(path, reason));
    }
    let count = lines.next().unwrap_or_default().trim();
    let expected: usize = count
        .parse()
        .map_err(|_| StateFileError::malformed(path, format!("count \"{count}\"")))?;
    let mut entries = Vec::new();
    for line in lines.filter(|l| !l.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let entry = parse(&words)
            .ok_or_else(|| StateFileError::malformed(path, format!("line \"{line}\"")))?;
        entries.push(entry);
    }
    if entries.len() != expected {
        let reason = format!("{} entries, it says {expected}", entries.len());
        return Err(StateFileError::malformed(path, reason));
    }
    Ok(entries)
}

/// Replaces a checkpoint. Each line comes without its line end.
pub(crate) fn write_checkpoint(
    path: &Path,
    lines: impl ExactSizeIterator<Item = String>,
    sync: bool,
) -> Result<(), StateFileError> {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(text, "{VERSION}\n{}", lines.len());
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    write_atomically(path, text.as_bytes(), sync)
}
