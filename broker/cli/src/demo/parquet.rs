//! The topic as Parquet, through the exporter, which reads the object store alone.

use anyhow::ensure;
use indicatif::ProgressBar;
use strandline_exporter::{
    ExportRequest, ExportSource, ExportSummary, ExportTarget, Progress, ValueFormat, export,
};
use strandline_server::ids;
use strandline_tiering::IdSource;
use strandline_tiering::clock::Clock;

use super::folder::DemoFolder;

pub async fn export_topic(
    folder: &DemoFolder,
    topic: &str,
    bar: &ProgressBar,
) -> anyhow::Result<ExportSummary> {
    let source = ExportSource::new(folder.store().to_string_lossy());
    let target = ExportTarget::new(folder.parquet().to_string_lossy());
    let mut request = ExportRequest::new(topic, source, target);
    request.value_format = Some(ValueFormat::Json);
    let ids = IdSource::from_seed(ids::new_seed());
    let mut on_progress = |progress: &Progress| bar.set_position(progress.records);
    Ok(export(&request, &ids, &Clock::system(), &mut on_progress).await?)
}

/// Every record is a row or a reject, and the files are there.
pub fn check(
    summary: &ExportSummary,
    folder: &DemoFolder,
    topic: &str,
    ends: &[i64],
) -> anyhow::Result<()> {
    ensure!(
        summary.gaps.is_empty(),
        "the store has gaps: {:?}",
        summary.gaps
    );
    for (partition, end) in (0..).zip(ends) {
        let exported = summary
            .partitions
            .iter()
            .find(|exported| exported.partition == partition);
        let (records, last) =
            exported.map_or((0, 0), |part| (part.records + part.rejects, part.end));
        ensure!(
            i64::try_from(records) == Ok(*end) && last == *end,
            "partition {partition}: {records} records up to offset {last} were exported, {end} were loaded"
        );
    }
    let table = folder.parquet().join(topic);
    for file in &summary.files {
        let path = table.join(&file.path);
        let bytes = std::fs::metadata(&path).map(|metadata| metadata.len());
        ensure!(
            bytes.as_ref().is_ok_and(|bytes| *bytes == file.bytes),
            "{} should have {} bytes: {bytes:?}",
            path.display(),
            file.bytes
        );
    }
    Ok(())
}
