//! A multipart upload into a folder: parts land in one temporary file, completion names it if the name is free.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use object_store::path::Path;
use object_store::{MultipartUpload, PutMode, PutPayload, PutResult, Result, UploadPart};

use super::blocking;
use super::files::{Files, Temp, map_error};

#[derive(Debug)]
pub(super) struct FolderUpload {
    files: Arc<Files>,
    location: Path,
    temp: Option<Arc<Temp>>,
    position: u64,
}

impl FolderUpload {
    pub(super) fn begin(files: Arc<Files>, location: Path) -> Result<Self> {
        let temp = files.temp().map_err(|e| map_error(&location, e))?;
        Ok(Self {
            files,
            location,
            temp: Some(Arc::new(temp)),
            position: 0,
        })
    }

    fn ended(&self) -> object_store::Error {
        object_store::Error::Generic {
            store: "FolderStore",
            source: format!("the upload of {} has ended", self.location).into(),
        }
    }
}

#[async_trait]
impl MultipartUpload for FolderUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let Some(temp) = self.temp.clone() else {
            let ended = self.ended();
            return async { Err(ended) }.boxed();
        };
        let mut position = self.position;
        self.position += data.content_length() as u64;
        let location = self.location.clone();
        blocking(move || {
            for chunk in data.iter() {
                temp.file
                    .write_all_at(chunk, position)
                    .map_err(|e| map_error(&location, e))?;
                position += chunk.len() as u64;
            }
            Ok(())
        })
        .boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let temp = self.temp.take().ok_or_else(|| self.ended())?;
        let (files, location) = (Arc::clone(&self.files), self.location.clone());
        blocking(move || {
            temp.file.sync_all().map_err(|e| map_error(&location, e))?;
            files.publish(&location, &temp, &PutMode::Create)?;
            Ok(PutResult {
                e_tag: None,
                version: None,
                extensions: Default::default(),
            })
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        self.temp = None;
        Ok(())
    }
}
