//! One run: source, table, claim, chunks to files, commits.

use std::sync::Arc;

use strandline_log::{Offset, uuid_to_base64};
use strandline_tiering::IdSource;
use strandline_tiering::clock::Clock;
use strandline_tiering::manifest::Manifest;

use crate::commit::{
    Commit, CommitError, CommitLog, FileEntry, FileKind, GapEntry, OffsetRange, PartitionProgress,
    Run, SourceTopic, TableFileName,
};
use crate::data_file::FinishedFile;
use crate::error::{ExportError, WriteError};
use crate::plan::{PartitionPlan, check_table, plan_partition};
use crate::request::{ExportLimits, ExportRequest, TableFormat};
use crate::schema::TableSchema;
use crate::source::{Source, SourceEvent};
use crate::summary::{ExportSummary, FileSummary, GapSummary, PartitionSummary, Progress};
use crate::table_writer::TableWriter;
use crate::target::{Target, blocking};

/// Adds what is new of a topic to its table. `ids` must be fresh per process; `on_progress` is called after every chunk.
pub async fn export(
    request: &ExportRequest,
    ids: &IdSource,
    clock: &Clock,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<ExportSummary, ExportError> {
    let table = request.table();
    if table.is_empty() || table.starts_with('.') || table.contains(['/', '\\', '\0']) {
        return Err(ExportError::InvalidTable {
            table: table.to_owned(),
        });
    }
    let source = Source::open(&request.source, &request.topic).await?;
    let spool_dir = request.limits.spool_dir.as_deref();
    let target = Target::open(&request.target, table, spool_dir).await?;
    export_into(request, source, target, ids, clock, on_progress).await
}

/// The same, with source and target opened.
pub(crate) async fn export_into(
    request: &ExportRequest,
    source: Source,
    target: Target,
    ids: &IdSource,
    clock: &Clock,
    on_progress: &mut (dyn FnMut(&Progress) + Send),
) -> Result<ExportSummary, ExportError> {
    let manifests = source.manifests().await?;
    let log = CommitLog::open(target.clone()).await?;
    let topic = SourceTopic {
        cluster_id: source.topic.cluster_id.clone(),
        topic: source.topic.topic.clone(),
        topic_id: uuid_to_base64(&source.topic.topic_id),
    };
    let format = check_table(log.last(), &topic, request.value_format, request.key_format)?;
    let mut work = Vec::new();
    for manifest in manifests {
        let progress = log
            .last()
            .and_then(|last| last.progress_of(manifest.partition.partition));
        let plan = plan_partition(&manifest, progress)?;
        if !plan.is_empty() {
            work.push((plan, manifest));
        }
    }
    let mut summary = new_summary(&source, &topic, &target, format);
    if work.is_empty() && !log.needs_sweep() {
        return Ok(summary);
    }
    let run = log.begin(topic, format, ids, clock).await?;
    summary.swept_files = run.sweep().await?;
    let schema = TableSchema::new(run.last().columns.clone(), request.limits.columns_max);
    let provenance = vec![
        ("strandline.topic", run.last().source.topic.clone()),
        ("strandline.topic.id", run.last().source.topic_id.clone()),
        (
            "strandline.cluster.id",
            run.last().source.cluster_id.clone(),
        ),
    ];
    let writer = TableWriter::new(
        &source.topic.topic,
        format,
        schema,
        request.limits.clone(),
        target.spool().clone(),
        provenance,
    );
    let progress = Progress {
        log_bytes_total: work.iter().map(|(plan, _)| plan.log_bytes).sum(),
        ..Progress::default()
    };
    let mut exporter = Exporter {
        target,
        run,
        limits: &request.limits,
        ids,
        clock,
        on_progress,
        writer: Some(writer),
        pending: Pending::default(),
        summary,
        progress,
    };
    match exporter.all(&source, &work).await {
        Ok(()) => Ok(exporter.summary),
        Err(error) => {
            exporter.clean_up(&error).await;
            Err(error)
        }
    }
}

fn new_summary(
    source: &Source,
    topic: &SourceTopic,
    target: &Target,
    format: TableFormat,
) -> ExportSummary {
    let location = target.location();
    ExportSummary {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id.clone(),
        source: source.url.clone(),
        table: location.to_owned(),
        format,
        records: 0,
        rejects: 0,
        aborted: 0,
        log_bytes: 0,
        bytes_written: 0,
        commits: 0,
        swept_files: 0,
        partitions: Vec::new(),
        files: Vec::new(),
        gaps: Vec::new(),
        query: format!(
            "SELECT * FROM read_parquet('{}/data/*/*.parquet', union_by_name = true) LIMIT 10",
            location.replace('\'', "''")
        ),
    }
}

/// What the next commit will add.
#[derive(Default)]
struct Pending {
    log_bytes: u64,
    progress: Vec<PartitionProgress>,
    ranges: Vec<OffsetRange>,
    gaps: Vec<GapEntry>,
    files: Vec<FileEntry>,
    records: u64,
    rejects: u64,
}

struct Exporter<'a> {
    target: Target,
    run: Run,
    limits: &'a ExportLimits,
    ids: &'a IdSource,
    clock: &'a Clock,
    on_progress: &'a mut (dyn FnMut(&Progress) + Send),
    /// Away while it works.
    writer: Option<TableWriter>,
    pending: Pending,
    summary: ExportSummary,
    progress: Progress,
}

impl Exporter<'_> {
    async fn all(
        &mut self,
        source: &Source,
        work: &[(PartitionPlan, Arc<Manifest>)],
    ) -> Result<(), ExportError> {
        for (plan, manifest) in work {
            self.partition(source, plan, manifest).await?;
        }
        self.commit(true).await
    }

    async fn partition(
        &mut self,
        source: &Source,
        plan: &PartitionPlan,
        manifest: &Arc<Manifest>,
    ) -> Result<(), ExportError> {
        let partition = plan.partition;
        self.progress.partition = partition;
        self.summary.partitions.push(PartitionSummary {
            partition,
            start: plan.start,
            end: plan.start,
            records: 0,
            rejects: 0,
        });
        self.write(move |writer| {
            writer.begin_partition(partition);
            Ok(())
        })
        .await?;
        let mut events = source.read(plan, Arc::clone(manifest), self.limits.chunk_bytes);
        // The range that the next commit adds of this partition.
        let mut from = plan.start;
        let mut at = plan.start;
        while at < plan.end {
            let event = events
                .recv()
                .await
                .expect("an event or an error comes until the end is reached");
            match event? {
                SourceEvent::Gap(gap) => {
                    at = gap.end;
                    self.gap(GapEntry {
                        partition,
                        start: gap.start,
                        end: gap.end,
                        cause: gap.cause.to_owned(),
                    });
                }
                SourceEvent::Chunk(chunk) => {
                    at = chunk.to;
                    let bytes = chunk.bytes.len() as u64;
                    self.write(move |writer| writer.write(&chunk)).await?;
                    self.pending.log_bytes += bytes;
                    self.summary.log_bytes += bytes;
                    self.progress.log_bytes_done += bytes;
                    (self.on_progress)(&self.progress);
                }
            }
            let full = self.pending.log_bytes >= self.limits.commit_log_bytes
                || self.pending.files.len() >= self.limits.commit_files_max;
            if full || at >= plan.end {
                self.write(TableWriter::end_files).await?;
                self.covered(plan, manifest, from..at);
                from = at;
            }
            if full && at < plan.end {
                self.commit(false).await?;
            }
        }
        Ok(())
    }

    /// Lets the writer work on a thread that may block, then puts what it finished in place.
    async fn write(
        &mut self,
        work: impl FnOnce(&mut TableWriter) -> Result<(), WriteError> + Send + 'static,
    ) -> Result<(), ExportError> {
        let mut writer = self.writer.take().expect("it comes back after every work");
        let (writer, done) = blocking(move || {
            let done = work(&mut writer);
            (writer, done)
        })
        .await;
        let writer = self.writer.insert(writer);
        let (finished, counts) = (writer.take_finished(), writer.take_counts());
        done?;
        self.pending.records += counts.records;
        self.pending.rejects += counts.rejects;
        self.summary.records += counts.records;
        self.summary.rejects += counts.rejects;
        self.summary.aborted += counts.aborted;
        self.progress.records = self.summary.records;
        self.progress.rejects = self.summary.rejects;
        if let Some(partition) = self.summary.partitions.last_mut() {
            partition.records += counts.records;
            partition.rejects += counts.rejects;
        }
        for file in finished {
            self.put(file).await?;
        }
        Ok(())
    }

    async fn put(&mut self, file: FinishedFile) -> Result<(), ExportError> {
        let kind = if file.rejects {
            FileKind::Rejects
        } else {
            FileKind::Data
        };
        let name = TableFileName {
            kind,
            partition: file.partition,
            start: file.start,
            end: file.end,
            run: self.run.claim_number(),
            random: self.ids.random(),
        };
        let path = name.to_string();
        // Before it is written: a failed upload is cleaned up too.
        self.pending.files.push(FileEntry {
            path: path.clone(),
            kind,
            partition: file.partition,
            start: file.start,
            end: file.end,
            records: file.records,
            bytes: file.bytes,
        });
        self.target.put(&path, file.spool).await?;
        self.progress.files += 1;
        self.progress.bytes_written += file.bytes;
        Ok(())
    }

    fn gap(&mut self, gap: GapEntry) {
        let GapEntry {
            partition,
            start,
            end,
            ref cause,
        } = gap;
        tracing::warn!(
            partition,
            start,
            end,
            cause,
            "these offsets are not in the store"
        );
        self.summary.gaps.push(GapSummary {
            partition,
            start,
            end,
            cause: cause.clone(),
        });
        self.pending.gaps.push(gap);
    }

    /// All offsets of a range are in ended files now, or were skipped.
    fn covered(
        &mut self,
        plan: &PartitionPlan,
        manifest: &Manifest,
        range: std::ops::Range<Offset>,
    ) {
        let (partition, end) = (plan.partition, range.end);
        self.pending.ranges.push(OffsetRange {
            partition,
            start: range.start,
            end,
        });
        self.pending.progress.push(PartitionProgress {
            partition,
            start: plan.table_start,
            end,
            incarnation: manifest.fence.incarnation,
            leader_epoch: manifest.epoch_for_offset(end - 1),
        });
        if let Some(summary) = self.summary.partitions.last_mut() {
            summary.end = end;
        }
    }

    async fn commit(&mut self, ended: bool) -> Result<(), ExportError> {
        let columns = self
            .writer
            .as_ref()
            .map(|writer| writer.schema().columns().to_vec());
        let commit = Commit {
            columns: columns.unwrap_or_default(),
            progress: self.pending.progress.clone(),
            ranges: self.pending.ranges.clone(),
            gaps: self.pending.gaps.clone(),
            files: self.pending.files.clone(),
            records: self.pending.records,
            rejects: self.pending.rejects,
            ended,
        };
        self.run.commit(commit, self.clock).await?;
        let done = std::mem::take(&mut self.pending);
        self.progress.commits += 1;
        self.summary.commits += 1;
        self.summary.bytes_written += done.files.iter().map(|file| file.bytes).sum::<u64>();
        self.summary
            .files
            .extend(done.files.into_iter().map(|file| FileSummary {
                path: file.path,
                rejects: file.kind == FileKind::Rejects,
                records: file.records,
                bytes: file.bytes,
            }));
        (self.on_progress)(&self.progress);
        Ok(())
    }

    /// Deletes what will not be committed; what it cannot delete the next run's sweep does. Not after a commit whose
    /// outcome is unknown: it may name these files.
    async fn clean_up(&mut self, error: &ExportError) {
        if let ExportError::Commit(error) = error
            && !matches!(error, CommitError::Lost { .. })
        {
            return;
        }
        for file in &self.pending.files {
            if let Err(error) = self.target.delete(&file.path).await {
                tracing::warn!(path = file.path, %error, "a file of the failed export is left for the next one to delete");
            }
        }
    }
}
