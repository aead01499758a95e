//! Reads and extends a table's commit log, and deletes what crashed runs left.

use std::collections::HashSet;

use futures::{StreamExt, TryStreamExt, stream};
use strandline_tiering::IdSource;
use strandline_tiering::clock::Clock;

use super::{
    Entry, EntryError, EntryKind, FileEntry, FileKind, GapEntry, OffsetRange, PartitionProgress,
    RunState, SourceTopic, TableFileName,
};
use crate::request::TableFormat;
use crate::schema::Column;
use crate::target::{Target, TargetError};

const FOLDER: &str = "_strandline/commits/";
const SUFFIX: &str = ".json";
/// Requests under way at the same time.
const CONCURRENT: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("{path} of the table is damaged: {cause}")]
    Damaged { path: String, cause: EntryError },
    #[error(
        "{path} of the table is missing: someone deleted a commit; restore it, or export into another table"
    )]
    Missing { path: String },
    #[error(
        "{table} holds files of an export but no commits: move it away, or export into another table"
    )]
    NoCommits { table: String },
    #[error(
        "another export has written to {table} in the meantime (run {run}); nothing of this one was added since its last commit. Run one export of a table at a time"
    )]
    Lost { table: String, run: u64 },
}

fn path_of(number: u64) -> String {
    format!("{FOLDER}{number:020}{SUFFIX}")
}

/// The log of a table as it was found.
#[derive(Debug)]
pub struct CommitLog {
    target: Target,
    last: Option<Entry>,
}

impl CommitLog {
    pub async fn open(target: Target) -> Result<Self, CommitError> {
        let listed = target.list(FOLDER).await?;
        let mut numbers: Vec<u64> = listed
            .iter()
            .filter_map(|file| {
                file.path
                    .strip_prefix(FOLDER)?
                    .strip_suffix(SUFFIX)?
                    .parse()
                    .ok()
            })
            .collect();
        numbers.sort_unstable();
        // Files that only a missing entry names would look like leavings of a crash.
        for (number, expected) in numbers.iter().zip(1..) {
            if *number != expected {
                let path = path_of(expected);
                return Err(CommitError::Missing { path });
            }
        }
        let last = match numbers.last() {
            Some(number) => Some(read(&target, *number).await?),
            None => None,
        };
        Ok(Self { target, last })
    }

    /// Format, columns and progress of the table; `None` for a new one.
    pub fn last(&self) -> Option<&Entry> {
        self.last.as_ref()
    }

    /// Whether an earlier run may have left files that no entry names.
    pub fn needs_sweep(&self) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.state != RunState::Ended)
    }

    /// Claims the table for a new run: no earlier one can commit any more.
    pub async fn begin(
        self,
        source: SourceTopic,
        format: TableFormat,
        ids: &IdSource,
        clock: &Clock,
    ) -> Result<Run, CommitError> {
        if self.last.is_none() {
            self.target.probe(ids.random()).await?;
            for kind in FileKind::ALL {
                let files = self.target.list(kind.folder()).await?;
                if files
                    .iter()
                    .any(|file| file.path.parse::<TableFileName>().is_ok())
                {
                    let table = self.target.location().to_owned();
                    return Err(CommitError::NoCommits { table });
                }
            }
        }
        let number = self.last.as_ref().map_or(1, |last| last.number + 1);
        let nonce = format!("{:016x}{:016x}", ids.random(), ids.random());
        let mut claim = Entry::claim(number, nonce, clock.now_ms(), source, format);
        let needs_sweep = self.needs_sweep();
        // A lock proves that the run before is dead; without one it may still be writing a file.
        let took_over = !self.target.is_locked()
            && self
                .last
                .as_ref()
                .is_some_and(|last| last.state == RunState::Running);
        if let Some(last) = self.last {
            claim.columns = last.columns;
            claim.progress = last.progress;
        }
        let run = Run {
            target: self.target,
            last: claim,
            needs_sweep,
            took_over,
        };
        run.create(&run.last).await?;
        Ok(run)
    }
}

/// What one commit adds.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Of the whole table.
    pub columns: Vec<Column>,
    /// Replaces what the table had of these partitions.
    pub progress: Vec<PartitionProgress>,
    pub ranges: Vec<OffsetRange>,
    pub gaps: Vec<GapEntry>,
    pub files: Vec<FileEntry>,
    pub records: u64,
    pub rejects: u64,
    /// Whether this is the run's last commit.
    pub ended: bool,
}

/// A run that holds the claim, until another takes it over.
#[derive(Debug)]
pub struct Run {
    target: Target,
    last: Entry,
    needs_sweep: bool,
    took_over: bool,
}

impl Run {
    /// The number of its claim; in the names of its files.
    pub fn claim_number(&self) -> u64 {
        self.last.run
    }

    /// The newest entry: this run's.
    pub fn last(&self) -> &Entry {
        &self.last
    }

    /// Deletes files of earlier runs that no entry names; they can no longer be committed. Says how many.
    pub async fn sweep(&self) -> Result<u64, CommitError> {
        if !self.needs_sweep {
            return Ok(0);
        }
        let entries: Vec<Entry> = stream::iter(1..self.claim_number())
            .map(|number| read(&self.target, number))
            .buffer_unordered(CONCURRENT)
            .try_collect()
            .await?;
        let named: HashSet<&str> = entries
            .iter()
            .flat_map(|entry| entry.files.iter().map(|file| file.path.as_str()))
            .collect();
        let mut stray = Vec::new();
        for kind in FileKind::ALL {
            for file in self.target.list(kind.folder()).await? {
                let Ok(name) = file.path.parse::<TableFileName>() else {
                    continue;
                };
                if name.run < self.claim_number() && !named.contains(file.path.as_str()) {
                    stray.push(file.path);
                }
            }
        }
        for path in &stray {
            tracing::info!(path, "deleting a file that a run left uncommitted");
            self.target.delete(path).await?;
        }
        Ok(stray.len() as u64)
    }

    /// Adds to the table: all of it or nothing.
    pub async fn commit(&mut self, commit: Commit, clock: &Clock) -> Result<(), CommitError> {
        let mut progress = self.last.progress.clone();
        for new in commit.progress {
            match progress.iter_mut().find(|p| p.partition == new.partition) {
                Some(there) => *there = new,
                None => progress.push(new),
            }
        }
        progress.sort_by_key(|p| p.partition);
        let state = match (commit.ended, self.took_over) {
            (false, _) => RunState::Running,
            (true, true) => RunState::Settling,
            (true, false) => RunState::Ended,
        };
        let entry = Entry {
            number: self.last.number + 1,
            kind: EntryKind::Commit,
            state,
            created_ms: clock.now_ms(),
            columns: commit.columns,
            progress,
            ranges: commit.ranges,
            gaps: commit.gaps,
            files: commit.files,
            records: commit.records,
            rejects: commit.rejects,
            ..self.last.clone()
        };
        self.create(&entry).await?;
        self.last = entry;
        Ok(())
    }

    /// Creates an entry. When the answer was lost, what is there decides whose it is.
    async fn create(&self, entry: &Entry) -> Result<(), CommitError> {
        let path = path_of(entry.number);
        let Err(error) = self.target.create_new(&path, entry.encode()).await else {
            return Ok(());
        };
        match read(&self.target, entry.number).await {
            Ok(there) if there.nonce == entry.nonce => Ok(()),
            Ok(there) => Err(CommitError::Lost {
                table: self.target.location().to_owned(),
                run: there.run,
            }),
            // It may yet appear.
            Err(_) => Err(error.into()),
        }
    }
}

async fn read(target: &Target, number: u64) -> Result<Entry, CommitError> {
    let path = path_of(number);
    let bytes = target.read(&path).await?;
    Entry::decode(&bytes).map_err(|cause| CommitError::Damaged { path, cause })
}
