//! A bucket with tiered segments, and tables to export it to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use bytes::Bytes;
use futures::stream;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use strandline_log::record::{BatchBuilder, BatchOptions, NewRecord};
use strandline_log::txn_index::AbortedTxn;
use strandline_log::{FileSlice, Offset, TopicId};
use strandline_tiering::clock::Clock;
use strandline_tiering::format::{PartitionKey, SegmentMeta, SegmentObjectPlan, TopicMarker};
use strandline_tiering::manifest::{Edit, ManifestStore, PageCache};
use strandline_tiering::store::{RemoteStore, S3Options, StoreMetrics};
use strandline_tiering::{Fence, IdSource};
use tempfile::TempDir;

use crate::commit::{Entry, FileKind};
use crate::source::Source;
use crate::target::Target;
use crate::{
    ExportError, ExportRequest, ExportSource, ExportSummary, ExportTarget, Progress, ValueFormat,
};

pub const TOPIC: &str = "flights";
pub const CLUSTER: &str = "cluster";
const FENCE: Fence = Fence {
    incarnation: 1,
    leader_epoch: 3,
};

/// A topic's segments in a folder, and a folder for tables.
pub struct World {
    folder: TempDir,
    pub store: RemoteStore,
    pub topic_id: TopicId,
    ids: IdSource,
}

impl World {
    pub async fn new(partitions: i32) -> Self {
        let folder = tempfile::tempdir().expect("temp folder");
        let url = folder.path().join("bucket").to_string_lossy().into_owned();
        let url = url.parse().expect("a folder");
        let store = RemoteStore::open(&url, &S3Options::default(), StoreMetrics::unregistered());
        let world = Self {
            folder,
            store: store.expect("opens"),
            topic_id: TopicId::from_u128(42),
            ids: IdSource::from_seed([1; 32]),
        };
        world.mark(world.topic_id, partitions, None).await;
        world
    }

    pub async fn mark(&self, topic_id: TopicId, partitions: i32, deleted_ms: Option<i64>) {
        let marker = TopicMarker {
            topic: TOPIC.to_owned(),
            topic_id,
            partitions,
            created_ms: topic_id.as_u128() as i64,
            deleted_ms,
        };
        marker.ensure(&self.store, CLUSTER).await.expect("marks");
    }

    pub fn key(&self, partition: i32) -> PartitionKey {
        PartitionKey::new(CLUSTER, self.topic_id, partition)
    }

    fn manifests(&self, partition: i32) -> ManifestStore {
        ManifestStore::new(
            &self.store,
            self.key(partition),
            self.ids.clone(),
            PageCache::default(),
        )
    }

    pub async fn edit(&self, partition: i32, edit: Edit) {
        let manifests = self.manifests(partition);
        manifests.claim(FENCE, 0).await.expect("claims");
        manifests
            .edit(FENCE, |_| Ok(vec![edit.clone()]))
            .await
            .expect("edits");
    }

    /// Tiers batches as one segment up to `end`. They begin at the manifest's end.
    pub async fn tier(
        &self,
        partition: i32,
        batches: &[Bytes],
        end: Offset,
        aborted: &[AbortedTxn],
    ) -> PathBuf {
        let manifests = self.manifests(partition);
        let manifest = manifests.claim(FENCE, 0).await.expect("claims");
        let start = manifest.end_offset();
        let mut file = tempfile::tempfile().expect("temp file");
        let mut len = 0;
        for batch in batches {
            file.write_all(batch).expect("writes");
            len += batch.len();
        }
        let slice = FileSlice {
            file: Arc::new(file),
            position: 0,
            len,
        };
        let key = self.key(partition);
        let meta = SegmentMeta {
            chunk_bytes: 4_096,
            index_interval_bytes: 1_024,
            aborted_txns: aborted.to_vec(),
            ..SegmentMeta::new(key.clone(), start, end, FENCE)
        };
        let plan = SegmentObjectPlan::compute(vec![slice], meta).expect("sound");
        let entry = plan.entry(manifest.generation, self.ids.random());
        let body = stream::iter(plan.body().map(|part| part.map_err(std::io::Error::other)));
        let object = entry.key(&key);
        self.store
            .put_stream_if_absent(&object, body, 0)
            .await
            .expect("uploads");
        let edit = Edit::Append {
            entry,
            epochs: Vec::new(),
        };
        manifests
            .edit(FENCE, |_| Ok(vec![edit.clone()]))
            .await
            .expect("commits");
        self.folder.path().join("bucket").join(object)
    }

    /// Tiers one segment of plain batches, ten records each.
    pub async fn tier_values(&self, partition: i32, values: &[Option<&str>]) {
        let manifest = self.manifests(partition).load().await.expect("loads");
        let start = manifest.map_or(0, |manifest| manifest.end_offset());
        let mut batches = Vec::new();
        for (i, values) in values.chunks(10).enumerate() {
            let base_offset = start + i as i64 * 10;
            let options = BatchOptions {
                base_offset,
                ..BatchOptions::default()
            };
            batches.push(batch(
                options,
                values.iter().map(|value| record("k", *value)),
            ));
        }
        self.tier(partition, &batches, start + values.len() as i64, &[])
            .await;
    }

    /// Numbered records, `count` of them, behind what is there.
    pub async fn tier_numbers(&self, partition: i32, count: i64) {
        let values: Vec<_> = (0..count).map(|i| format!("{{\"n\":{i}}}")).collect();
        let values: Vec<_> = values.iter().map(|value| Some(value.as_str())).collect();
        self.tier_values(partition, &values).await;
    }

    pub fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    pub fn table(&self) -> Table {
        Table(self.lake().join(TOPIC))
    }

    pub fn request(&self) -> ExportRequest {
        ExportRequest::new(
            TOPIC,
            ExportSource::new(self.folder.path().join("bucket").to_string_lossy()),
            ExportTarget::new(self.lake().to_string_lossy()),
        )
    }

    pub fn json(&self) -> ExportRequest {
        ExportRequest {
            value_format: Some(ValueFormat::Json),
            ..self.request()
        }
    }

    pub async fn export(&self, request: &ExportRequest) -> Result<ExportSummary, ExportError> {
        self.export_with(request, &mut |_| {}).await
    }

    pub async fn export_with(
        &self,
        request: &ExportRequest,
        on_progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<ExportSummary, ExportError> {
        crate::export(request, &self.ids, &clock(), on_progress).await
    }

    pub async fn export_to(
        &self,
        target: &Target,
        request: &ExportRequest,
        on_progress: &mut (dyn FnMut(&Progress) + Send),
    ) -> Result<ExportSummary, ExportError> {
        let source = Source::open(&request.source, TOPIC)
            .await
            .expect("is there");
        crate::run::export_into(
            request,
            source,
            target.clone(),
            &self.ids,
            &clock(),
            on_progress,
        )
        .await
    }
}

pub fn clock() -> Clock {
    Clock::from_fn(|| 1_700_000_000_000)
}

pub fn record(key: &str, value: Option<&str>) -> NewRecord {
    NewRecord {
        timestamp: 1_000,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

pub fn batch(options: BatchOptions, records: impl IntoIterator<Item = NewRecord>) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for record in records {
        builder.append(record).expect("small");
    }
    builder.build()
}

/// A table in a folder, as a reader sees it.
pub struct Table(pub PathBuf);

impl Table {
    pub fn entries(&self) -> Vec<Entry> {
        let mut paths: Vec<_> = match fs::read_dir(self.0.join("_strandline/commits")) {
            Ok(listed) => listed.map(|entry| entry.expect("lists").path()).collect(),
            Err(_) => Vec::new(),
        };
        paths.sort();
        paths
            .iter()
            .map(|path| Entry::decode(&fs::read(path).expect("reads")).expect("decodes"))
            .collect()
    }

    pub fn commit_path(&self, number: u64) -> PathBuf {
        self.0
            .join(format!("_strandline/commits/{number:020}.json"))
    }

    fn committed(&self, kind: FileKind) -> Vec<PathBuf> {
        let entries = self.entries();
        let files = entries.iter().flat_map(|entry| &entry.files);
        files
            .filter(|file| file.kind == kind)
            .map(|file| self.0.join(&file.path))
            .collect()
    }

    /// All files below `data/` and `rejects/`, committed or not.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for kind in FileKind::ALL {
            collect(&self.0.join(kind.folder()), &mut found);
        }
        found.sort();
        found
    }

    /// Whether a glob sees exactly what was committed.
    pub fn is_clean(&self) -> bool {
        let mut committed: Vec<_> = FileKind::ALL
            .into_iter()
            .flat_map(|kind| self.committed(kind))
            .collect();
        committed.sort();
        committed == self.files()
    }

    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self
            .committed(FileKind::Data)
            .iter()
            .flat_map(|path| read_rows(path))
            .collect();
        rows.sort_by_key(Row::place);
        rows
    }

    /// (partition, offset, cause) of all rejects.
    pub fn rejects(&self) -> Vec<(i64, i64, String)> {
        let mut rejects = Vec::new();
        for path in self.committed(FileKind::Rejects) {
            for line in fs::read_to_string(path).expect("reads").lines() {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let number = |field: &str| line[field].as_i64().expect("a number");
                let cause = line["cause"].as_str().expect("a text").to_owned();
                rejects.push((number("partition"), number("offset"), cause));
            }
        }
        rejects.sort();
        rejects
    }

    /// Places of rows and rejects together: I8 says that none is there twice.
    pub fn places(&self) -> Vec<(i64, i64)> {
        let rows = self.rows();
        let rejects = self.rejects();
        let mut places: Vec<_> = rows
            .iter()
            .map(Row::place)
            .chain(
                rejects
                    .iter()
                    .map(|(partition, offset, _)| (*partition, *offset)),
            )
            .collect();
        places.sort_unstable();
        places
    }
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(listed) = fs::read_dir(folder) else {
        return;
    };
    for entry in listed {
        let path = entry.expect("lists").path();
        if path.is_dir() {
            collect(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// Columns by name, as texts; nulls are absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub BTreeMap<String, String>);

impl Row {
    pub fn get(&self, column: &str) -> Option<&str> {
        self.0.get(column).map(String::as_str)
    }

    pub fn place(&self) -> (i64, i64) {
        let number = |column| {
            self.get(column)
                .and_then(|text| text.parse().ok())
                .expect("is there")
        };
        (number("partition"), number("offset"))
    }
}

pub fn read_rows(path: &Path) -> Vec<Row> {
    let file = File::open(path).expect("opens");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("is Parquet");
    let mut rows = Vec::new();
    for batch in reader.build().expect("reads") {
        let batch = batch.expect("reads");
        rows.extend((0..batch.num_rows()).map(|row| Row(row_of(&batch, row))));
    }
    rows
}

fn row_of(batch: &RecordBatch, row: usize) -> BTreeMap<String, String> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    columns
        .filter_map(|(field, array)| Some((field.name().clone(), cell(array.as_ref(), row)?)))
        .collect()
}

fn cell(array: &dyn Array, row: usize) -> Option<String> {
    if array.is_null(row) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).to_string(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).to_string(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => format!("{:?}", array.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => array
            .as_primitive::<TimestampMillisecondType>()
            .value(row)
            .to_string(),
        DataType::Utf8 => array.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => format!(
            "{:?}",
            Bytes::copy_from_slice(array.as_binary::<i32>().value(row))
        ),
        DataType::Dictionary(..) => {
            let dictionary = array.as_dictionary::<Int32Type>();
            return cell(
                dictionary.values().as_ref(),
                dictionary.keys().value(row) as usize,
            );
        }
        DataType::List(_) => {
            let entries = array.as_list::<i32>().value(row);
            let entries = entries.as_struct();
            let shown: Vec<_> = (0..entries.len())
                .map(|i| {
                    let key = cell(entries.column(0).as_ref(), i).unwrap_or_default();
                    let value =
                        cell(entries.column(1).as_ref(), i).unwrap_or_else(|| "null".to_owned());
                    format!("{key}={value}")
                })
                .collect();
            shown.join(",")
        }
        other => panic!("no column has type {other}"),
    })
}
