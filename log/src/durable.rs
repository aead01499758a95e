//! Every sync of this crate goes through here: file data, whole files, and the names in a folder.
//!
//! So one place tells when bytes and names are safe. Tests watch it: the torture test builds what a power loss could
//! leave from what was synced and when, and others make a sync fail. A release build calls the kernel and no more.

use std::fs::File;
use std::io;
use std::path::Path;

/// Makes a file's bytes and its length safe, but not its name.
pub(crate) fn sync_data(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(result) = watch::asked(path) {
        return result;
    }
    let _ = path;
    file.sync_data()
}

/// Makes a file safe with all that the file system knows of it, but for its name.
pub(crate) fn sync_all(file: &File, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    if let Some(result) = watch::asked(path) {
        return result;
    }
    let _ = path;
    file.sync_all()
}

/// Makes the names in a folder safe.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    // A path of one component has the empty parent: the current folder.
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    #[cfg(test)]
    if let Some(result) = watch::asked(dir) {
        return result;
    }
    File::open(dir)?.sync_all()
}

#[cfg(test)]
pub(crate) mod watch {
    //! Watchers of the folders that tests use.

    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use parking_lot::Mutex;

    /// Gets the path that is to be synced and answers in the kernel's place.
    pub type Watcher = Arc<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

    static WATCHERS: Mutex<Vec<(PathBuf, Watcher)>> = Mutex::new(Vec::new());

    /// Watches as long as it lives.
    pub struct Watch(PathBuf);

    /// Answers all syncs below `root`, which must be canonical.
    pub fn watch(root: &Path, watcher: Watcher) -> Watch {
        WATCHERS.lock().push((root.to_owned(), watcher));
        Watch(root.to_owned())
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            WATCHERS.lock().retain(|(root, _)| *root != self.0);
        }
    }

    pub(super) fn asked(path: &Path) -> Option<io::Result<()>> {
        let watcher = WATCHERS
            .lock()
            .iter()
            .find(|(root, _)| path.starts_with(root))
            .map(|(_, watcher)| Arc::clone(watcher))?;
        Some(watcher(path))
    }
}
