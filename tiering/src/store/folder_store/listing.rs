//! Walks a folder in key order, a bounded batch at a time.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use object_store::path::Path;
use object_store::{ListResult, ObjectMeta, Result};

use super::files::{Files, PRIVATE_FOLDER, map_error, object_meta};

const BATCH: usize = 1_000;

/// Where a walk is: the unvisited entries of each folder from the root of the walk to here.
pub(super) struct Walk {
    files: Arc<Files>,
    start: Option<String>,
    after: Option<String>,
    folders: Vec<std::vec::IntoIter<Entry>>,
}

struct Entry {
    key: String,
    is_folder: bool,
}

impl Walk {
    pub(super) fn new(files: Arc<Files>, prefix: Option<Path>, after: Option<String>) -> Self {
        Self {
            files,
            start: Some(prefix.map(|p| p.as_ref().to_owned()).unwrap_or_default()),
            after,
            folders: Vec::new(),
        }
    }

    /// The next objects; empty at the end.
    pub(super) fn next_batch(&mut self) -> Result<Vec<ObjectMeta>> {
        if let Some(start) = self.start.take() {
            self.folders
                .push(read_folder(&self.files, &start)?.into_iter());
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            let Some(folder) = self.folders.last_mut() else {
                break;
            };
            let Some(entry) = folder.next() else {
                self.folders.pop();
                continue;
            };
            if self.is_before_start(&entry) {
                continue;
            }
            if entry.is_folder {
                self.folders
                    .push(read_folder(&self.files, &entry.key)?.into_iter());
            } else if let Some(meta) = stat(&self.files, &entry.key)? {
                batch.push(meta);
            }
        }
        Ok(batch)
    }

    /// Whether all that an entry holds was listed before.
    fn is_before_start(&self, entry: &Entry) -> bool {
        self.after.as_ref().is_some_and(|after| {
            if entry.is_folder {
                let inside = format!("{}/", entry.key);
                !after.starts_with(&inside) && inside.as_str() <= after.as_str()
            } else {
                entry.key.as_str() <= after.as_str()
            }
        })
    }
}

/// The objects and folders directly inside a folder.
pub(super) fn one_folder(files: &Files, prefix: Option<Path>) -> Result<ListResult> {
    let key = prefix.map(|p| p.as_ref().to_owned()).unwrap_or_default();
    let mut result = ListResult {
        common_prefixes: Vec::new(),
        objects: Vec::new(),
        extensions: Default::default(),
    };
    for entry in read_folder(files, &key)? {
        if entry.is_folder {
            result.common_prefixes.push(Path::parse(&entry.key)?);
        } else {
            result.objects.extend(stat(files, &entry.key)?);
        }
    }
    Ok(result)
}

/// Sorted as the keys inside sort: a folder's name counts with its slash.
fn read_folder(files: &Files, key: &str) -> Result<Vec<Entry>> {
    let location = Path::parse(key)?;
    let fail = |e| map_error(&location, e);
    let entries = match fs::read_dir(files.path(&location)) {
        Ok(entries) => entries,
        // A folder that was never made, or was removed when it became empty, lists nothing.
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(e) => return Err(fail(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        // What we did not write is not an object.
        let Some(name) = name.to_str().filter(|n| Path::parse(n).is_ok()) else {
            continue;
        };
        if key.is_empty() && name == PRIVATE_FOLDER {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(fail(e)),
        };
        let key = if key.is_empty() {
            name.to_owned()
        } else {
            format!("{key}/{name}")
        };
        found.push(Entry {
            key,
            is_folder: kind.is_dir(),
        });
    }
    found.sort_by_cached_key(|e| {
        if e.is_folder {
            format!("{}/", e.key)
        } else {
            e.key.clone()
        }
    });
    Ok(found)
}

fn stat(files: &Files, key: &str) -> Result<Option<ObjectMeta>> {
    let location = Path::parse(key)?;
    match fs::metadata(files.path(&location)) {
        Ok(metadata) => Ok(Some(object_meta(location, &metadata))),
        // Deleted while we walked.
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(map_error(&location, e)),
    }
}
