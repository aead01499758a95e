//! Replacing a small file so that a crash leaves the old one or the new one.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::error::StateFileError;
use crate::durable;

/// Writes `bytes` to `path` by way of `path.tmp`. With `sync`, file and folder are on disk on return; without, a
/// crash may lose the change or, on some file systems, leave an empty file.
pub fn write_atomically(path: &Path, bytes: &[u8], sync: bool) -> Result<(), StateFileError> {
    let mut tmp = path.as_os_str().to_owned();
    tmp.push(".tmp");
    let tmp = Path::new(&tmp);
    let mut file = File::create(tmp).map_err(StateFileError::io(tmp))?;
    file.write_all(bytes).map_err(StateFileError::io(tmp))?;
    if sync {
        durable::sync_all(&file, tmp).map_err(StateFileError::io(tmp))?;
    }
    drop(file);
    fs::rename(tmp, path).map_err(StateFileError::io(path))?;
    if sync && let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> Result<(), StateFileError> {
    durable::sync_dir(dir).map_err(StateFileError::io(dir))
}
