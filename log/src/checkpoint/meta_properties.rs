//! `meta.properties`: whose folder this is. Java properties: version=1, cluster.id, node.id, directory.id.
//!
//! A folder of another cluster or node must not be served; comparing is the caller's job.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::atomic_file::write_atomically;
use super::error::StateFileError;
use crate::types::{uuid_from_base64, uuid_to_base64};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: uuid::Uuid,
}

impl MetaProperties {
    pub const NAME: &'static str = "meta.properties";

    /// Reads `dir/meta.properties`; `None` when there is no file.
    pub fn read(dir: &Path) -> Result<Option<Self>, StateFileError> {
        let path = dir.join(Self::NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StateFileError::io(&path)(e)),
        };
        let properties = parse_properties(&text);
        let get = |name: &str| {
            properties
                .get(name)
                .ok_or_else(|| StateFileError::malformed(&path, format!("{name} is missing")))
        };
        let wrong = |name: &str, value: &str| {
            StateFileError::malformed(&path, format!("{name} is \"{value}\""))
        };
        let version = get("version")?;
        if version != "1" {
            return Err(wrong("version", version));
        }
        let node_id = get("node.id")?;
        let directory_id = get("directory.id")?;
        Ok(Some(Self {
            cluster_id: get("cluster.id")?.clone(),
            node_id: node_id.parse().map_err(|_| wrong("node.id", node_id))?,
            directory_id: uuid_from_base64(directory_id)
                .ok_or_else(|| wrong("directory.id", directory_id))?,
        }))
    }

    /// Replaces `dir/meta.properties`; on return it is on disk.
    pub fn write(&self, dir: &Path) -> Result<(), StateFileError> {
        let text = format!(
            "#\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
            escape(&self.cluster_id),
            uuid_to_base64(&self.directory_id),
            self.node_id
        );
        write_atomically(&dir.join(Self::NAME), text.as_bytes(), true)
    }
}

/// What Java's Properties.store writes and load reads, but for continued lines and \u escapes.
fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let mut properties = BTreeMap::new();
    for line in text.lines().map(str::trim_start) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut parts = [String::new(), String::new()];
        let mut part = 0;
        let mut chars = line.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => parts[part].extend(chars.next().map(|c| match c {
                    't' => '\t',
                    'n' => '\n',
                    'r' => '\r',
                    'f' => '\u{c}',
                    c => c,
                })),
                '=' | ':' if part == 0 => part = 1,
                c => parts[part].push(c),
            }
        }
        let [key, value] = parts;
        properties.insert(key.trim_end().to_owned(), value.trim().to_owned());
    }
    properties
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\\' | '=' | ':' | '#' | '!' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text
}
