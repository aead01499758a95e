//! A table's folder in a store.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{ErrorKind, HttpTransporter, Operator, services};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::folder::Folder;
use super::{Spool, SpoolFile, TargetError, TargetUrl, blocking};
use crate::request::ExportTarget;

/// Of an upload; a few of them are in memory.
const PART_BYTES: usize = 8 << 20;
const PARTS_CONCURRENT: usize = 2;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const RETRIES_MAX: usize = 5;
const REGION_DEFAULT: &str = "us-east-1";
const PROBE: &str = "_strandline/probe";

/// A file in a table's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the folder.
    pub path: String,
}

/// A table's folder. Paths are relative to it.
#[derive(Clone, Debug)]
pub struct Target {
    operator: Operator,
    /// Set for a local folder: writes go through it, and it holds the lock.
    folder: Option<Arc<Folder>>,
    spool: Spool,
    location: String,
}

impl Target {
    /// Opens `table` below the target's URL. Makes no request; a local folder is created and locked.
    pub async fn open(
        target: &ExportTarget,
        table: &str,
        spool_dir: Option<&Path>,
    ) -> Result<Self, TargetError> {
        let url: TargetUrl = target.url.parse()?;
        let location = format!("{}/{table}", url.to_string().trim_end_matches('/'));
        let root = |prefix: &str| match prefix {
            "" => format!("/{table}"),
            _ => format!("/{prefix}/{table}"),
        };
        if let TargetUrl::Folder(path) = &url {
            return Self::open_folder(path.join(table), location).await;
        }
        // Once a process: opendal has no HTTP client without, and the client needs a TLS provider.
        strandline_tiering::store::install_tls_provider();
        HttpTransporter::install_default(ReqwestTransport::default());
        let built = match &url {
            TargetUrl::Folder(_) => unreachable!("opened above"),
            TargetUrl::S3 { bucket, prefix } => {
                let region = target
                    .s3_region
                    .clone()
                    .or_else(|| variable(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
                let mut s3 = services::S3::default()
                    .bucket(bucket)
                    .root(&root(prefix))
                    .region(region.as_deref().unwrap_or(REGION_DEFAULT));
                if let Some(endpoint) = &target.s3_endpoint {
                    s3 = s3.endpoint(endpoint.trim_end_matches('/'));
                }
                Operator::new(s3)
            }
            TargetUrl::Gcs { bucket, prefix } => {
                Operator::new(services::Gcs::default().bucket(bucket).root(&root(prefix)))
            }
            TargetUrl::Azblob { container, prefix } => {
                let account = variable(&["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]);
                let endpoint = variable(&["AZURE_STORAGE_ENDPOINT"]).or_else(|| {
                    account
                        .as_ref()
                        .map(|account| format!("https://{account}.blob.core.windows.net"))
                });
                let key = variable(&["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]);
                Operator::new(
                    services::Azblob::default()
                        .container(container)
                        .root(&root(prefix))
                        .endpoint(endpoint.as_deref().unwrap_or_default())
                        .account_name(account.as_deref().unwrap_or_default())
                        .account_key(key.as_deref().unwrap_or_default()),
                )
            }
            TargetUrl::WebHdfs { authority, path } => Operator::new(
                services::Webhdfs::default()
                    .endpoint(&format!("http://{authority}"))
                    .root(&root(path)),
            ),
        };
        let operator = built
            .map_err(|e| store_error("", &location)(e))?
            .layer(
                TimeoutLayer::new()
                    .with_timeout(REQUEST_TIMEOUT)
                    .with_io_timeout(REQUEST_TIMEOUT),
            )
            .layer(RetryLayer::new().with_max_times(RETRIES_MAX).with_jitter());
        let dir = spool_dir.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let opened = Self {
            operator,
            folder: None,
            spool: Spool::anonymous(dir),
            location,
        };
        opened.check_capability()?;
        Ok(opened)
    }

    async fn open_folder(root: PathBuf, location: String) -> Result<Self, TargetError> {
        let folder = blocking(move || Folder::open(&root)).await?;
        let root = folder.root().to_string_lossy().into_owned();
        let operator = Operator::new(services::Fs::default().root(&root))
            .map_err(|e| store_error("", &location)(e))?;
        Ok(Self {
            operator,
            spool: folder.spool(),
            folder: Some(Arc::new(folder)),
            location,
        })
    }

    /// A store that is gone with its last clone: without a lock, as object stores are.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        Self {
            operator: Operator::new(services::Memory::default()).expect("needs nothing"),
            folder: None,
            spool: Spool::anonymous(std::env::temp_dir()),
            location: "memory://table".to_owned(),
        }
    }

    fn check_capability(&self) -> Result<(), TargetError> {
        let info = self.operator.info();
        let capability = info.capability();
        if !capability.write_with_if_not_exists {
            return Err(self.not_supported(&format!(
                "{} cannot create a file only if it does not exist yet, which commits need; \
                 export to a folder or an object store and copy from there",
                info.scheme()
            )));
        }
        Ok(())
    }

    /// The table's folder, as a URL or a path.
    pub fn location(&self) -> &str {
        &self.location
    }

    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// Whether a second exporter is kept out for as long as this lives.
    pub fn is_locked(&self) -> bool {
        self.folder
            .as_ref()
            .is_some_and(|folder| folder.is_locked())
    }

    /// Proves that the store honours conditional creation. Some S3-compatible servers ignore it and overwrite.
    pub async fn probe(&self, random: u64) -> Result<(), TargetError> {
        if self.folder.is_some() {
            return Ok(());
        }
        let path = format!("{PROBE}-{random:016x}");
        let first = self.create_new(&path, Bytes::from_static(b"1")).await;
        let second = match &first {
            Ok(()) => self.create_new(&path, Bytes::from_static(b"2")).await,
            Err(_) => Ok(()),
        };
        self.delete(&path).await?;
        // A retry of our own may have met the object that its first attempt created.
        match first {
            Ok(()) | Err(TargetError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
        match second {
            Err(TargetError::Exists { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(()) if first.is_err() => Ok(()),
            Ok(()) => Err(self.not_supported(
                "it ignores If-None-Match and overwrites existing objects, so that two exports could both commit",
            )),
        }
    }

    /// Creates a file with this content. [`TargetError::Exists`] may also mean a retry of our own: what is there decides.
    pub async fn create_new(&self, path: &str, bytes: Bytes) -> Result<(), TargetError> {
        if let Some(folder) = &self.folder {
            let (folder, path) = (Arc::clone(folder), path.to_owned());
            return blocking(move || folder.create_new(&path, &bytes)).await;
        }
        match self
            .operator
            .write_with(path, bytes)
            .if_not_exists(true)
            .await
        {
            Ok(_) => Ok(()),
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::ConditionNotMatch | ErrorKind::AlreadyExists
                ) =>
            {
                Err(TargetError::Exists {
                    path: path.to_owned(),
                })
            }
            Err(e) => Err(self.error(path)(e)),
        }
    }

    /// Puts a complete file in its place, in parts.
    pub async fn put(&self, path: &str, spool: SpoolFile) -> Result<(), TargetError> {
        if let Some(folder) = &self.folder {
            let (folder, path) = (Arc::clone(folder), path.to_owned());
            return blocking(move || folder.put(&path, spool)).await;
        }
        let mut writer = self
            .operator
            .writer_with(path)
            .chunk(PART_BYTES)
            .concurrent(PARTS_CONCURRENT)
            .await
            .map_err(self.error(path))?;
        let uploaded = self.upload(path, &mut writer, Arc::new(spool)).await;
        if uploaded.is_err()
            && let Err(error) = writer.abort().await
        {
            tracing::warn!(path, %error, "an upload's parts may be left in the store");
        }
        uploaded
    }

    async fn upload(
        &self,
        path: &str,
        writer: &mut opendal::Writer,
        spool: Arc<SpoolFile>,
    ) -> Result<(), TargetError> {
        let mut position = 0;
        loop {
            let spool = Arc::clone(&spool);
            let part = blocking(move || read_part(&spool, position))
                .await
                .map_err(TargetError::io(path))?;
            if part.is_empty() {
                break;
            }
            position += part.len() as u64;
            writer.write(part).await.map_err(self.error(path))?;
        }
        writer.close().await.map_err(self.error(path))?;
        Ok(())
    }

    pub async fn read(&self, path: &str) -> Result<Bytes, TargetError> {
        let buffer = self.operator.read(path).await.map_err(self.error(path))?;
        Ok(buffer.to_bytes())
    }

    /// All files below a folder that ends with a slash; none when it does not exist.
    pub async fn list(&self, folder: &str) -> Result<Vec<Listed>, TargetError> {
        let lister = self.operator.lister_with(folder).recursive(true).await;
        let mut lister = match lister {
            Ok(lister) => lister,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.error(folder)(e)),
        };
        let mut files = Vec::new();
        while let Some(entry) = lister.try_next().await.map_err(self.error(folder))? {
            if entry.metadata().is_file() {
                files.push(Listed {
                    path: entry.path().to_owned(),
                });
            }
        }
        Ok(files)
    }

    /// Deletes a file; one that is not there is fine.
    pub async fn delete(&self, path: &str) -> Result<(), TargetError> {
        self.operator.delete(path).await.map_err(self.error(path))
    }

    fn error(&self, path: &str) -> impl FnOnce(opendal::Error) -> TargetError + use<> {
        store_error(path, &self.location)
    }

    fn not_supported(&self, what: &str) -> TargetError {
        TargetError::NotSupported {
            target: self.location.clone(),
            what: what.to_owned(),
        }
    }
}

fn store_error(path: &str, target: &str) -> impl FnOnce(opendal::Error) -> TargetError + use<> {
    let (path, target) = (path.to_owned(), target.to_owned());
    move |source| TargetError::Store {
        path,
        target,
        source: Box::new(source),
    }
}

fn variable(names: &[&str]) -> Option<String> {
    let set = |name: &&str| std::env::var(name).ok().filter(|value| !value.is_empty());
    names.iter().find_map(set)
}

fn read_part(spool: &SpoolFile, position: u64) -> std::io::Result<Vec<u8>> {
    let left = spool.bytes()?.saturating_sub(position);
    let mut part = vec![0; left.min(PART_BYTES as u64) as usize];
    spool.file()?.read_exact_at(&mut part, position)?;
    Ok(part)
}
