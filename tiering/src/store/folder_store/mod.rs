//! A local folder as an object store with a real compare-and-swap; every write is durable when it returns.
//!
//! 1. A body goes to a temporary file of its own and is fsynced there.
//! 2. Under an flock on one of a few permanent lock files (by key), the condition is checked: create-if-absent by
//!    a hard link that fails when the name exists, compare-and-swap by the SHA-256 of the current content.
//! 3. The file gets its name by link or rename, and the folder is fsynced.
//!
//! Always holds: a reader sees a whole object or none; of several writers, in whatever process, one wins.
//! The folder is made on first use. Listings come in key order. ETags of objects up to [`HASHED_BYTES_MAX`] that are
//! read whole are content hashes; only such a read can be the base of a compare-and-swap.

mod files;
mod listing;
mod upload;

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use files::Files;

/// Objects up to this size are hashed when they are read whole.
pub const HASHED_BYTES_MAX: u64 = 4 << 20;

/// A local folder as an object store.
#[derive(Clone, Debug)]
pub struct FolderStore {
    files: Arc<Files>,
}

impl FolderStore {
    /// Touches nothing: the folder is made when something is first written.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            files: Arc::new(Files::new(root.into())),
        }
    }
}

impl std::fmt::Display for FolderStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FolderStore({})", self.files.root().display())
    }
}

/// Runs file work away from the async workers; in place where there is no runtime.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) => handle.spawn_blocking(work).await?,
        Err(_) => work(),
    }
}

#[async_trait]
impl ObjectStore for FolderStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let (files, location) = (Arc::clone(&self.files), location.clone());
        blocking(move || files.put(&location, &payload, &opts.mode)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (files, location) = (Arc::clone(&self.files), location.clone());
        blocking(move || {
            let upload = upload::FolderUpload::begin(files, location)?;
            Ok(Box::new(upload) as Box<dyn MultipartUpload>)
        })
        .await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (files, location) = (Arc::clone(&self.files), location.clone());
        blocking(move || get(&files, location, &options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let files = Arc::clone(&self.files);
        locations
            .and_then(move |location| {
                let files = Arc::clone(&files);
                blocking(move || files.delete(&location).map(|()| location))
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_after(prefix, Some(offset.as_ref().to_owned()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (files, prefix) = (Arc::clone(&self.files), prefix.cloned());
        blocking(move || listing::one_folder(&files, prefix)).await
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented {
            operation: "copy".to_owned(),
            implementer: self.to_string(),
        })
    }
}

impl FolderStore {
    fn list_after(
        &self,
        prefix: Option<&Path>,
        after: Option<String>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let walk = listing::Walk::new(Arc::clone(&self.files), prefix.cloned(), after);
        stream::try_unfold(walk, |mut walk| async move {
            let (batch, walk) = blocking(move || Ok((walk.next_batch()?, walk))).await?;
            Ok::<_, Error>((!batch.is_empty()).then_some((batch, walk)))
        })
        .map_ok(|batch| stream::iter(batch.into_iter().map(Ok)))
        .try_flatten()
        .boxed()
    }
}

fn get(files: &Files, location: Path, options: &GetOptions) -> Result<GetResult> {
    let path = files.path(&location);
    let fail = |e| files::map_error(&location, e);
    let file = File::open(&path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(std::io::ErrorKind::NotFound.into()));
    }
    let size = metadata.len();
    let mut meta = files::object_meta(location.clone(), &metadata);
    let whole = options.range.is_none() && !options.head && size <= HASHED_BYTES_MAX;
    let (payload, range) = if whole {
        let bytes = files::read_whole(&file, size).map_err(fail)?;
        meta.e_tag = Some(files::content_hash(&bytes));
        (
            GetResultPayload::Stream(stream::once(async { Ok(Bytes::from(bytes)) }).boxed()),
            0..size,
        )
    } else {
        let range = checked_range(&location, options.range.as_ref(), size)?;
        (GetResultPayload::File(file, path), range)
    };
    options.check_preconditions(&meta)?;
    Ok(GetResult {
        payload,
        meta,
        range,
        attributes: Default::default(),
        extensions: Default::default(),
    })
}

fn checked_range(location: &Path, range: Option<&GetRange>, size: u64) -> Result<Range<u64>> {
    let range = match range {
        None => return Ok(0..size),
        Some(GetRange::Bounded(r)) => r.start..r.end.min(size),
        Some(GetRange::Offset(start)) => *start..size,
        Some(GetRange::Suffix(n)) => return Ok(size.saturating_sub(*n)..size),
    };
    if range.start < range.end {
        return Ok(range);
    }
    Err(Error::Generic {
        store: "FolderStore",
        source: format!(
            "Range Not Satisfiable: {location} has {size} bytes, none from position {}",
            range.start
        )
        .into(),
    })
}

#[cfg(test)]
mod tests;
