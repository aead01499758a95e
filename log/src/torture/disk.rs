//! What a disk would keep of a folder at a power loss: built from the syncs that were asked for.
//!
//! Known at any time: the bytes that each file had at its last sync, and the names that each folder had at its last
//! sync. All files are hard-linked into a second folder, so that also a removed file's last bytes are known.
//!
//! A crash decides for each name that differs from the synced folder whether the old or the new state is found, and
//! a file that was renamed is found under one of its names. Of a file it decides page by page between the synced and
//! the written bytes, and lets the unsynced part end anywhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::random::Random;
use crate::durable::watch::{Watch, watch};

/// What a disk writes at once, scaled down as the files are; but a page holds two whole index entries at least, as those
/// of 4 KiB do: that is how a lost one shows.
const LOG_PAGE: usize = 512;
const INDEX_PAGES: [usize; 3] = [48, 96, 512];

type Inode = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    inode: Inode,
    is_dir: bool,
}

type Names = BTreeMap<OsString, Entry>;

#[derive(Default)]
struct State {
    /// Bytes at the last sync.
    synced: HashMap<Inode, Vec<u8>>,
    /// Names at the last sync, by folder.
    names: HashMap<Inode, Names>,
    linked: BTreeSet<Inode>,
    /// The crash comes with this sync, which does not happen any more.
    crash_in: Option<u64>,
    random: Option<Random>,
    image: Option<PathBuf>,
}

/// One life of a folder, from one crash to the next.
pub struct Disk {
    root: PathBuf,
    links: PathBuf,
    images: PathBuf,
    state: Mutex<State>,
}

impl Disk {
    /// All that is in `root` is safe. `scratch` is for this disk alone. The second value watches while it lives.
    pub fn new(
        root: &Path,
        scratch: &Path,
        crash_in: Option<u64>,
        random: Random,
    ) -> (Arc<Self>, Watch) {
        let links = scratch.join("links");
        fs::create_dir_all(&links).expect("creates");
        let disk = Arc::new(Self {
            root: root.to_owned(),
            links,
            images: scratch.join("image"),
            state: Mutex::new(State {
                crash_in,
                random: Some(random),
                ..State::default()
            }),
        });
        {
            let mut state = disk.state.lock();
            disk.link_all(&mut state);
            let inodes: Vec<_> = state.linked.iter().copied().collect();
            for inode in inodes {
                let bytes = fs::read(disk.link(inode)).expect("reads");
                state.synced.insert(inode, bytes);
            }
            for dir in folders(root) {
                state.names.insert(inode_of(&dir), names_in(&dir));
            }
        }
        let watched = Arc::clone(&disk);
        let watch = watch(
            root,
            Arc::new(move |path| {
                watched.on_sync(path);
                Ok(())
            }),
        );
        (disk, watch)
    }

    fn link(&self, inode: Inode) -> PathBuf {
        self.links.join(inode.to_string())
    }

    /// Keeps a second name of every file.
    fn link_all(&self, state: &mut State) {
        for dir in folders(&self.root) {
            for (name, entry) in names_in(&dir) {
                if !entry.is_dir && state.linked.insert(entry.inode) {
                    fs::hard_link(dir.join(name), self.link(entry.inode)).expect("links");
                }
            }
        }
    }

    /// Between two steps: so that no file is missed that comes and goes without a sync.
    pub fn look(&self) {
        self.link_all(&mut self.state.lock());
    }

    fn on_sync(&self, path: &Path) {
        let mut state = self.state.lock();
        self.link_all(&mut state);
        if let Some(left) = state.crash_in.as_mut() {
            if *left == 0 {
                state.crash_in = None;
                self.make_image(&mut state);
            } else {
                *left -= 1;
            }
        }
        let metadata = fs::metadata(path).expect("what is synced exists");
        if metadata.is_dir() {
            state.names.insert(metadata.ino(), names_in(path));
        } else {
            let bytes = fs::read(path).expect("reads");
            state.synced.insert(metadata.ino(), bytes);
        }
    }

    /// Whether the crash has come.
    pub fn has_crashed(&self) -> bool {
        self.state.lock().image.is_some()
    }

    /// The folder as the crash has left it; if there was none yet, it comes now.
    pub fn crash(&self) -> PathBuf {
        let mut state = self.state.lock();
        self.link_all(&mut state);
        if state.image.is_none() {
            self.make_image(&mut state);
        }
        state.image.clone().expect("was made")
    }

    fn make_image(&self, state: &mut State) {
        let mut random = state.random.take().expect("one crash in a life");
        // Sometimes all of it made it to the disk (the process was killed), sometimes nothing.
        let bias = match random.below(8) {
            0 => Bias::AllNew,
            1 => Bias::AllOld,
            _ => Bias::Mixed,
        };
        self.leave_folder(state, &self.root, &self.images, bias, &mut random);
        state.image = Some(self.images.clone());
    }

    fn leave_folder(&self, state: &State, from: &Path, to: &Path, bias: Bias, random: &mut Random) {
        fs::create_dir_all(to).expect("creates");
        let now = names_in(from);
        let empty = Names::new();
        let old = state.names.get(&inode_of(from)).unwrap_or(&empty);
        let mut decided: HashMap<Inode, bool> = HashMap::new();
        let names: BTreeSet<&OsString> = old.keys().chain(now.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), now.get(name));
            let entry = if before == after {
                after
            } else {
                // A rename is one step: both names of a file tell the same story.
                let known = [before, after]
                    .into_iter()
                    .flatten()
                    .find_map(|e| decided.get(&e.inode));
                let takes_new = known.copied().unwrap_or_else(|| bias.takes_new(random));
                for entry in [before, after].into_iter().flatten() {
                    decided.insert(entry.inode, takes_new);
                }
                if takes_new { after } else { before }
            };
            let Some(entry) = entry else { continue };
            if entry.is_dir {
                let dir = folders(&self.root)
                    .into_iter()
                    .find(|dir| inode_of(dir) == entry.inode);
                if let Some(dir) = dir {
                    self.leave_folder(state, &dir, &to.join(name), bias, random);
                }
            } else {
                let is_index = name.to_string_lossy().contains("index");
                let page = if is_index {
                    INDEX_PAGES[random.below(3) as usize]
                } else {
                    LOG_PAGE
                };
                let bytes = self.leave_file(state, entry.inode, page, bias, random);
                fs::write(to.join(name), bytes).expect("writes");
            }
        }
    }

    fn leave_file(
        &self,
        state: &State,
        inode: Inode,
        page_len: usize,
        bias: Bias,
        random: &mut Random,
    ) -> Vec<u8> {
        let new = fs::read(self.link(inode)).expect("reads");
        let old = state.synced.get(&inode).map_or(&[][..], Vec::as_slice);
        match bias {
            Bias::AllNew => return new,
            Bias::AllOld => return old.to_vec(),
            Bias::Mixed => {}
        }
        let len = match random.below(4) {
            0 => new.len(),
            1 => old.len(),
            _ if new.len() >= old.len() => {
                random.between(old.len() as u64, new.len() as u64) as usize
            }
            _ => old.len(),
        };
        let all_new = random.one_in(3);
        let mut left = vec![0; len];
        for start in (0..len).step_by(page_len) {
            let end = (start + page_len).min(len);
            let page = &mut left[start..end];
            let source = if all_new || random.one_in(2) {
                &new[..]
            } else {
                old
            };
            let part = source.get(start..end.min(source.len())).unwrap_or(&[]);
            page[..part.len()].copy_from_slice(part);
            // What lies behind the synced bytes may be anything that the disk held before.
            if start >= old.len() && random.one_in(12) {
                page.iter_mut().for_each(|byte| *byte = random.next() as u8);
            }
        }
        left
    }
}

#[derive(Clone, Copy)]
enum Bias {
    AllNew,
    AllOld,
    Mixed,
}

impl Bias {
    fn takes_new(self, random: &mut Random) -> bool {
        match self {
            Self::AllNew => true,
            Self::AllOld => false,
            Self::Mixed => random.one_in(2),
        }
    }
}

fn inode_of(path: &Path) -> Inode {
    fs::metadata(path).expect("exists").ino()
}

fn names_in(dir: &Path) -> Names {
    let mut names = Names::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let entry = entry.expect("lists");
        let is_dir = entry.file_type().expect("has a type").is_dir();
        let inode = std::os::unix::fs::DirEntryExt::ino(&entry);
        names.insert(entry.file_name(), Entry { inode, is_dir });
    }
    names
}

/// The folder and those in it.
fn folders(root: &Path) -> Vec<PathBuf> {
    let mut all = vec![root.to_owned()];
    for (name, entry) in names_in(root) {
        if entry.is_dir {
            all.push(root.join(name));
        }
    }
    all
}
