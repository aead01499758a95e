//! Proves that a store honours If-None-Match and If-Match before anything relies on it.
//!
//! Some S3 servers ignore the headers and overwrite: two leaders would then both believe that they committed.

use bytes::Bytes;

use super::{Purpose, PutObject, RemoteStore, StoreError};
use crate::id_source::IdSource;

/// Of the large object: more than a store takes in one part.
const LARGE_CHUNKS: usize = 16;
const LARGE_CHUNK_BYTES: usize = 1 << 20;

impl RemoteStore {
    /// Writes, contends for and deletes one small object. `Ok` when conditional writes work, else
    /// [`StoreError::NotSupported`] names the defect; other errors say nothing about the store's abilities.
    pub async fn probe_conditional_writes(
        &self,
        cluster_id: &str,
        ids: &IdSource,
    ) -> Result<(), StoreError> {
        let store = self.with_purpose(Purpose::Probe);
        let key = format!("meta/{cluster_id}/probe/{:016x}", ids.random());
        let outcome = store.probe_at(&key).await;
        let deleted = store.delete(&key).await;
        outcome.and(deleted)
    }

    /// Writes an object as large segments are written, and deletes it.
    pub async fn probe_large(&self, key: &str) -> Result<(), StoreError> {
        let chunk = Bytes::from(vec![0x5a; LARGE_CHUNK_BYTES]);
        let chunk_crc = crc32c::crc32c(&chunk);
        let object = PutObject {
            length: (LARGE_CHUNK_BYTES * LARGE_CHUNKS) as u64,
            crc32c: (0..LARGE_CHUNKS).fold(0, |crc, _| {
                crc32c::crc32c_combine(crc, chunk_crc, LARGE_CHUNK_BYTES)
            }),
        };
        let body = || {
            let chunk = chunk.clone();
            futures::stream::iter((0..LARGE_CHUNKS).map(move |_| Ok(chunk.clone())))
        };
        let put = self
            .put_object_if_absent(key, object, body, super::remote_store::PART_BYTES_MIN)
            .await;
        let kept = match put {
            Ok(()) => self.get_suffix(key, 1).await.map(|(_, length)| length),
            Err(error) => Err(error),
        };
        let deleted = self.delete(key).await;
        let length = kept?;
        deleted?;
        if length != object.length {
            return Err(StoreError::Short {
                key: key.to_owned(),
                wanted: object.length,
                got: length,
            });
        }
        Ok(())
    }

    async fn probe_at(&self, key: &str) -> Result<(), StoreError> {
        let defect = |what: &str| {
            Err(StoreError::NotSupported {
                what: format!(
                    "{what}; a store with working conditional writes is needed (S3, MinIO, a local folder)"
                ),
            })
        };
        let first = self.put_if_absent(key, Bytes::from_static(b"1")).await?;
        match self.put_if_absent(key, Bytes::from_static(b"2")).await {
            Err(StoreError::Precondition { .. }) => {}
            Ok(_) => return defect("it ignores If-None-Match and overwrites existing objects"),
            Err(e) => return Err(e),
        }
        let second = match self
            .put_if_match(key, Bytes::from_static(b"3"), &first)
            .await
        {
            Ok(version) => version,
            // The HTTP client repeats what it got no answer to, and then sees its own success as somebody else's.
            Err(StoreError::Precondition { .. }) => match self.get(key).await? {
                (bytes, version) if &bytes[..] == b"3" => version,
                _ => return defect("it refuses If-Match with the current ETag"),
            },
            Err(e) => return Err(e),
        };
        match self
            .put_if_match(key, Bytes::from_static(b"4"), &first)
            .await
        {
            Err(StoreError::Precondition { .. }) => {}
            Ok(_) => return defect("it ignores If-Match and overwrites newer objects"),
            Err(e) => return Err(e),
        }
        let (bytes, version) = self.get(key).await?;
        if &bytes[..] != b"3" {
            return defect("it does not read back what was written last");
        }
        if version != second {
            return defect("the ETag of a write differs from the ETag of the read after it");
        }
        Ok(())
    }
}
