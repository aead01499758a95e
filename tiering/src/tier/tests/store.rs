//! A folder store that can be made to fail, and that counts.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::store::FolderStore;

#[derive(Debug)]
pub struct FaultyStore {
    folder: FolderStore,
    /// Nothing answers.
    pub down: AtomicBool,
    /// Writes of manifest roots fail before they have an effect.
    pub no_roots: AtomicBool,
    /// Writes of manifest roots have their effect, but the answer is lost.
    pub lost_answers: AtomicUsize,
    pub segment_gets: AtomicUsize,
    pub segment_puts: AtomicUsize,
}

impl FaultyStore {
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder: FolderStore::new(folder),
            down: AtomicBool::new(false),
            no_roots: AtomicBool::new(false),
            lost_answers: AtomicUsize::new(0),
            segment_gets: AtomicUsize::new(0),
            segment_puts: AtomicUsize::new(0),
        }
    }

    fn up(&self) -> Result<()> {
        if self.down.load(Ordering::SeqCst) {
            return Err(away());
        }
        Ok(())
    }
}

fn away() -> Error {
    Error::Generic {
        store: "faulty",
        source: "the store is away".into(),
    }
}

fn is_root(location: &Path) -> bool {
    location.as_ref().ends_with("manifest/root")
}

fn is_segment(location: &Path) -> bool {
    location.as_ref().ends_with(".strand")
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.folder)
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.up()?;
        if is_root(location) && self.no_roots.load(Ordering::SeqCst) {
            return Err(away());
        }
        if is_segment(location) {
            self.segment_puts.fetch_add(1, Ordering::SeqCst);
        }
        let put = self.folder.put_opts(location, payload, opts).await?;
        if is_root(location)
            && self
                .lost_answers
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok()
        {
            return Err(away());
        }
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.up()?;
        self.segment_puts.fetch_add(1, Ordering::SeqCst);
        self.folder.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.up()?;
        if is_segment(location) {
            self.segment_gets.fetch_add(1, Ordering::SeqCst);
        }
        self.folder.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        if self.up().is_err() {
            return Box::pin(futures::stream::once(async { Err(away()) }));
        }
        self.folder.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.up().is_err() {
            return Box::pin(futures::stream::once(async { Err(away()) }));
        }
        self.folder.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.up()?;
        self.folder.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.up()?;
        self.folder.copy_opts(from, to, options).await
    }
}
