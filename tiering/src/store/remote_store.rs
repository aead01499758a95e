//! The object store as the tier sees it: create-if-absent, compare-and-swap, ranges, listings.
//!
//! Always holds: keys are relative to the URL's prefix; every request is counted; a body in flight takes at most
//! `part_bytes * PARTS_IN_FLIGHT_MAX` of memory.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, Fuse, FuturesUnordered};
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, UpdateVersion,
};

use super::request_budget::RequestBudgets;
use super::s3_put::{PutObject, PutTarget, S3Put};
use super::{
    FolderStore, ObjectSettings, Purpose, RequestClass, S3Options, StoreError, StoreMetrics,
    StoreUrl,
};

/// Parts of one upload that are sent at the same time.
const PARTS_IN_FLIGHT_MAX: usize = 2;
/// S3 refuses smaller parts, but for the last.
pub const PART_BYTES_MIN: usize = 5 << 20;
/// What [`RemoteStore::get`] reads at most: manifests and markers, never log bytes.
pub const GET_BYTES_MAX: u64 = 64 << 20;

/// What a compare-and-swap compares: an ETag or a content hash. Opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    e_tag: Option<String>,
    version: Option<String>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    pub bytes: u64,
    pub last_modified_ms: i64,
}

/// A handle on an object store. Clones share everything.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    store: Arc<dyn ObjectStore>,
    prefix: Arc<str>,
    purpose: Purpose,
    metrics: StoreMetrics,
    /// Where large objects go up in one request.
    put: Option<Arc<S3Put>>,
    budgets: RequestBudgets,
    /// Empty but for S3.
    settings: Arc<ObjectSettings>,
}

impl RemoteStore {
    /// Opens what a URL names. Touches neither disk nor network.
    pub fn open(url: &StoreUrl, s3: &S3Options, metrics: StoreMetrics) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Folder(path) => Ok(Self::from_object_store(
                Arc::new(FolderStore::new(path.clone())),
                "",
                metrics,
            )),
            StoreUrl::S3 { bucket, prefix } => {
                let (client, put) = super::s3::build(bucket, s3)?;
                let mut store = Self::from_object_store(Arc::new(client), prefix, metrics);
                store.put = Some(Arc::new(put));
                store.settings = Arc::new(s3.objects.clone());
                Ok(store)
            }
        }
    }

    /// Wraps any store whose `PutMode::Create` and `PutMode::Update` are honest: tests and simulations.
    pub fn from_object_store(
        store: Arc<dyn ObjectStore>,
        prefix: &str,
        metrics: StoreMetrics,
    ) -> Self {
        Self {
            store,
            prefix: prefix.into(),
            purpose: Purpose::Manifest,
            metrics,
            put: None,
            budgets: RequestBudgets::default(),
            settings: Arc::default(),
        }
    }

    /// The same store, its requests counted under another purpose.
    pub fn with_purpose(&self, purpose: Purpose) -> Self {
        Self {
            purpose,
            ..self.clone()
        }
    }

    /// The same store, with so many requests per second for each purpose at most.
    pub fn with_budgets(self, budgets: RequestBudgets) -> Self {
        Self { budgets, ..self }
    }

    /// A setting of the bucket, as XML; `None` where there is no bucket, or no such setting.
    pub async fn bucket_setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        match &self.put {
            Some(put) => put.bucket_setting(name).await,
            None => Ok(None),
        }
    }

    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Creates an object; [`StoreError::Precondition`] when the key exists.
    pub async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<Version, StoreError> {
        self.put(key, body.into(), PutMode::Create).await
    }

    /// Replaces an object if it still is that version; [`StoreError::Precondition`] when it is not, or is gone.
    pub async fn put_if_match(
        &self,
        key: &str,
        body: Bytes,
        version: &Version,
    ) -> Result<Version, StoreError> {
        let expected = UpdateVersion {
            e_tag: version.e_tag.clone(),
            version: version.version.clone(),
        };
        self.put(key, body.into(), PutMode::Update(expected)).await
    }

    /// Creates an object whose length and checksum are known from streams in bounded memory; `body` makes its bytes anew
    /// for each try. One billed request where the store takes it so, else as
    /// [`put_stream_if_absent`](Self::put_stream_if_absent).
    pub async fn put_object_if_absent<S, F>(
        &self,
        key: &str,
        object: PutObject,
        body: F,
        part_bytes: usize,
    ) -> Result<(), StoreError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static,
        F: Fn() -> S,
    {
        let path = self.path(key)?;
        let one_part = object.length < part_bytes.max(PART_BYTES_MIN) as u64;
        match &self.put {
            Some(put) if !one_part && super::s3_put::is_fit(path.as_ref(), object.length) => {
                let sent = |error: Option<&StoreError>| {
                    self.metrics.request(key, RequestClass::Put, self.purpose);
                    match error {
                        Some(error) => self.metrics.error(RequestClass::Put, error),
                        None => {
                            self.metrics
                                .bytes(key, RequestClass::Put, self.purpose, object.length)
                        }
                    }
                };
                self.budgets.admit(self.purpose).await;
                let headers = self.settings.headers(self.purpose)?;
                let target = PutTarget {
                    key,
                    path: path.as_ref(),
                    headers: &headers,
                };
                put.put(target, object, body, sent).await
            }
            _ => self
                .put_stream_if_absent(key, body(), part_bytes)
                .await
                .map(drop),
        }
    }

    /// Creates an object from a stream in bounded memory: one PUT when it fits one part, else a multipart upload.
    ///
    /// Keys must be fresh (see `format::object_key`): S3's multipart completion is checked against an existing
    /// object once, before the first part, and not atomically. What a failure leaves is an unreferenced upload.
    /// Returns the object's length.
    pub async fn put_stream_if_absent<S>(
        &self,
        key: &str,
        body: S,
        part_bytes: usize,
    ) -> Result<u64, StoreError>
    where
        S: Stream<Item = Result<Bytes, std::io::Error>> + Send,
    {
        self.budgets.admit(self.purpose).await;
        let part_bytes = part_bytes.max(PART_BYTES_MIN);
        let mut parts = Parts::new(body, part_bytes);
        let first = parts.next_part(key).await?;
        if first.content_length() < part_bytes {
            let length = first.content_length() as u64;
            self.put(key, first, PutMode::Create).await?;
            return Ok(length);
        }
        match self.head(key).await {
            Err(StoreError::NotFound { .. }) => {}
            Ok(_) => {
                return Err(StoreError::Precondition {
                    key: key.to_owned(),
                });
            }
            Err(e) => return Err(e),
        }
        let path = self.path(key)?;
        let mut upload = self.counted(
            key,
            RequestClass::Put,
            self.store
                .put_multipart_opts(
                    &path,
                    PutMultipartOptions {
                        tags: self.settings.tags(self.purpose),
                        attributes: self.settings.attributes(self.purpose),
                        ..PutMultipartOptions::default()
                    },
                )
                .await,
        )?;
        let sent = async {
            let mut length = 0u64;
            let mut in_flight = FuturesUnordered::new();
            let mut part = first;
            while part.content_length() > 0 {
                let bytes = part.content_length() as u64;
                length += bytes;
                let sending = upload.put_part(part);
                in_flight.push(async move {
                    self.counted(key, RequestClass::Part, sending.await)
                        .inspect(|()| {
                            self.metrics
                                .bytes(key, RequestClass::Part, self.purpose, bytes);
                        })
                });
                if in_flight.len() >= PARTS_IN_FLIGHT_MAX {
                    in_flight.next().await.transpose()?;
                }
                part = parts.next_part(key).await?;
            }
            while in_flight.next().await.transpose()?.is_some() {}
            Ok(length)
        }
        .await;
        match sent {
            Ok(length) => {
                let done = upload.complete().await;
                self.counted(key, RequestClass::Put, done)?;
                Ok(length)
            }
            Err(e) => {
                // Parts of an upload that never completes cost money until somebody aborts it.
                if let Err(abort) = upload.abort().await {
                    tracing::warn!(key, error = %abort, "could not abort a multipart upload");
                }
                Err(e)
            }
        }
    }

    /// A whole small object and its version.
    pub async fn get(&self, key: &str) -> Result<(Bytes, Version), StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(key)?;
        let result = async {
            let got = self.store.get_opts(&path, GetOptions::default()).await?;
            if got.meta.size > GET_BYTES_MAX {
                return Ok(Err(got.meta.size));
            }
            let version = Version {
                e_tag: got.meta.e_tag.clone(),
                version: got.meta.version.clone(),
            };
            Ok(Ok((got.bytes().await?, version)))
        }
        .await;
        let (bytes, version) = self
            .counted(key, RequestClass::Get, result)?
            .map_err(|size| StoreError::Invalid {
                what: format!("{key} has {size} bytes, at most {GET_BYTES_MAX} are read at once"),
            })?;
        self.metrics
            .bytes(key, RequestClass::Get, self.purpose, bytes.len() as u64);
        Ok((bytes, version))
    }

    /// Exactly the bytes of a range; [`StoreError::Short`] when the object ends earlier.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.budgets.admit(self.purpose).await;
        if range.start >= range.end {
            return Ok(Bytes::new());
        }
        let wanted = range.end - range.start;
        let path = self.path(key)?;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let result = async { self.store.get_opts(&path, options).await?.bytes().await }.await;
        let bytes = self
            .counted(key, RequestClass::Get, result)
            .map_err(|e| match e {
                StoreError::Short { key, got, .. } => StoreError::Short { key, wanted, got },
                e => e,
            })?;
        self.metrics
            .bytes(key, RequestClass::Get, self.purpose, bytes.len() as u64);
        if bytes.len() as u64 != wanted {
            return Err(StoreError::Short {
                key: key.to_owned(),
                wanted,
                got: bytes.len() as u64,
            });
        }
        Ok(bytes)
    }

    /// The last `bytes_max` bytes of an object, or all of it when it is shorter, and its whole length.
    pub async fn get_suffix(&self, key: &str, bytes_max: u64) -> Result<(Bytes, u64), StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(key)?;
        let options = GetOptions {
            range: Some(GetRange::Suffix(bytes_max)),
            ..GetOptions::default()
        };
        let result = async {
            let got = self.store.get_opts(&path, options).await?;
            let size = got.meta.size;
            Ok((got.bytes().await?, size))
        }
        .await;
        let (bytes, size) = self.counted(key, RequestClass::Get, result)?;
        self.metrics
            .bytes(key, RequestClass::Get, self.purpose, bytes.len() as u64);
        Ok((bytes, size))
    }

    pub async fn head(&self, key: &str) -> Result<ObjectInfo, StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(key)?;
        let result = self.store.head(&path).await;
        let meta = self.counted(key, RequestClass::Head, result)?;
        Ok(self.info(meta))
    }

    /// All objects below a folder, in key order, after `start_after` if given. A listing is counted as one request;
    /// the store may send more pages.
    pub fn list(
        &self,
        folder: &str,
        start_after: Option<&str>,
    ) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let (path, after) = match (
            self.path(folder),
            start_after.map(|k| self.path(k)).transpose(),
        ) {
            (Ok(path), Ok(after)) => (path, after),
            (Err(e), _) | (_, Err(e)) => {
                return futures::stream::once(async { Err(e) }).boxed();
            }
        };
        self.metrics
            .request(folder, RequestClass::List, self.purpose);
        let listing = match &after {
            Some(after) => self.store.list_with_offset(Some(&path), after),
            None => self.store.list(Some(&path)),
        };
        let this = self.clone();
        let folder = folder.to_owned();
        listing
            .map(move |item| {
                item.map(|meta| this.info(meta)).map_err(|e| {
                    let e = StoreError::from_object_store(&folder, e);
                    this.metrics.error(RequestClass::List, &e);
                    e
                })
            })
            .boxed()
    }

    /// The keys of all objects below a folder that holds few.
    pub async fn list_keys(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.list(folder, None).map(|item| item.map(|o| o.key));
        objects.try_collect().await
    }

    /// The names of the folders directly inside a folder.
    pub async fn list_folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(folder)?;
        let result = self.store.list_with_delimiter(Some(&path)).await;
        let listing = self.counted(folder, RequestClass::List, result)?;
        Ok(listing
            .common_prefixes
            .iter()
            .filter_map(|p| p.filename().map(str::to_owned))
            .collect())
    }

    /// Deletes an object. One that is already gone is fine.
    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(key)?;
        let result = match self.store.delete(&path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        };
        self.counted(key, RequestClass::Delete, result)
    }

    async fn put(&self, key: &str, body: PutPayload, mode: PutMode) -> Result<Version, StoreError> {
        self.budgets.admit(self.purpose).await;
        let path = self.path(key)?;
        let length = body.content_length() as u64;
        let result = self
            .store
            .put_opts(
                &path,
                body,
                PutOptions {
                    tags: self.settings.tags(self.purpose),
                    attributes: self.settings.attributes(self.purpose),
                    ..PutOptions::from(mode)
                },
            )
            .await;
        let put = self
            .counted(key, RequestClass::Put, result)
            .map_err(|e| match e {
                // Nothing can be absent when it is written, other than the place to write it to.
                StoreError::NotFound { key } => StoreError::Invalid {
                    what: format!("{key} cannot be written: its bucket does not exist"),
                },
                e => e,
            })?;
        self.metrics
            .bytes(key, RequestClass::Put, self.purpose, length);
        Ok(Version {
            e_tag: put.e_tag,
            version: put.version,
        })
    }

    fn counted<T>(
        &self,
        key: &str,
        class: RequestClass,
        result: object_store::Result<T>,
    ) -> Result<T, StoreError> {
        self.metrics.request(key, class, self.purpose);
        result.map_err(|e| {
            let e = StoreError::from_object_store(key, e);
            self.metrics.error(class, &e);
            e
        })
    }

    fn path(&self, key: &str) -> Result<Path, StoreError> {
        let key = key.trim_end_matches('/');
        let full = match (self.prefix.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (false, true) => self.prefix.to_string(),
            (false, false) => format!("{}/{key}", self.prefix),
        };
        Path::parse(full).map_err(|e| StoreError::Invalid {
            what: format!("\"{key}\" is no object key: {e}"),
        })
    }

    fn info(&self, meta: ObjectMeta) -> ObjectInfo {
        let full = meta.location.as_ref();
        let key = full
            .strip_prefix(&*self.prefix)
            .map_or(full, |rest| rest.trim_start_matches('/'));
        ObjectInfo {
            key: key.to_owned(),
            bytes: meta.size,
            last_modified_ms: meta.last_modified.timestamp_millis(),
        }
    }
}

/// Cuts a stream of chunks into parts of equal size.
struct Parts<S> {
    /// It is asked again after its end.
    body: std::pin::Pin<Box<Fuse<S>>>,
    part_bytes: usize,
    rest: Bytes,
}

impl<S: Stream<Item = Result<Bytes, std::io::Error>> + Send> Parts<S> {
    fn new(body: S, part_bytes: usize) -> Self {
        Self {
            body: Box::pin(body.fuse()),
            part_bytes,
            rest: Bytes::new(),
        }
    }

    /// A full part, or a shorter last one, or an empty one at the end.
    async fn next_part(&mut self, key: &str) -> Result<PutPayload, StoreError> {
        let mut chunks = Vec::new();
        let mut filled = 0;
        while filled < self.part_bytes {
            if self.rest.is_empty() {
                match self.body.next().await {
                    None => break,
                    Some(Ok(chunk)) => self.rest = chunk,
                    Some(Err(e)) => {
                        return Err(StoreError::Invalid {
                            what: format!("the bytes for {key} could not be read: {e}"),
                        });
                    }
                }
            }
            let take = self.rest.len().min(self.part_bytes - filled);
            let chunk = self.rest.split_to(take);
            filled += chunk.len();
            chunks.push(chunk);
        }
        Ok(chunks.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
