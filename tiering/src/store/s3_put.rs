//! One PUT of a large object whose body streams from disk: bounded memory, and one billed request where a multipart upload
//! has one per part.
//!
//! - The request is signed without its body, which carries a CRC-32C instead: the server refuses what does not match it.
//! - It is created only if absent. A name is fresh, so that after a try whose answer was lost "it exists" means "it is ours";
//!   the caller checks what is kept in any case.
//! - A transfer is given up when the network takes nothing, or answers nothing, for `stall`. What the disk or a rate limit
//!   costs does not count.
#![allow(clippy::disallowed_methods)] // A driver: networks stall by the real clock.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::Stream;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::HttpRequestBody;
use parking_lot::Mutex;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH};

use super::StoreError;

/// What S3 takes in one PUT.
pub const PUT_BYTES_MAX: u64 = 5 << 30;
const TRIES_MAX: u32 = 3;
const BACKOFF: Duration = Duration::from_millis(200);
/// Of an answer that says why not.
const ANSWER_BYTES_MAX: usize = 2_000;

pub struct S3Put {
    client: reqwest::Client,
    /// With the bucket, without a slash at the end.
    base: String,
    region: String,
    credentials: AwsCredentialProvider,
    stall: Duration,
}

/// How to reach the bucket.
pub struct S3PutOptions {
    pub base: String,
    pub region: String,
    pub credentials: AwsCredentialProvider,
    pub connect_timeout: Duration,
    pub stall: Duration,
}

impl std::fmt::Debug for S3Put {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Put")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Whether an object can go up in one PUT. Keys with letters that would have to be encoded cannot.
pub fn is_fit(path: &str, length: u64) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"/-_.~".contains(&c);
    length <= PUT_BYTES_MAX && path.bytes().all(plain)
}

/// Whose turn it is in a transfer.
#[derive(Clone, Copy)]
enum Turn {
    /// We are reading, or wait for a rate limit.
    Ours,
    /// The network has been given something then and has not come back for more.
    Network(Instant),
}

/// Notes whose turn it is.
struct Watched<S> {
    inner: Pin<Box<S>>,
    turn: Arc<Mutex<Turn>>,
}

impl<S: Stream<Item = Result<Bytes, io::Error>>> Stream for Watched<S> {
    type Item = Result<Bytes, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        *self.turn.lock() = Turn::Ours;
        let polled = self.inner.as_mut().poll_next(context);
        if polled.is_ready() {
            *self.turn.lock() = Turn::Network(Instant::now());
        }
        polled
    }
}

impl S3Put {
    pub fn new(options: S3PutOptions) -> Result<Self, StoreError> {
        let client = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| StoreError::Invalid {
                what: format!("the HTTP client: {e}"),
            })?;
        Ok(Self {
            client,
            base: options.base,
            region: options.region,
            credentials: options.credentials,
            stall: options.stall,
        })
    }

    /// Sends the object. `body` makes its bytes anew for each try; `sent` is told of each request.
    pub async fn put<S, F>(
        &self,
        target: PutTarget<'_>,
        object: PutObject,
        body: F,
        sent: impl Fn(Option<&StoreError>),
    ) -> Result<(), StoreError>
    where
        S: Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
        F: Fn() -> S,
    {
        let mut tries = 0;
        loop {
            tries += 1;
            let result = self.put_once(target, object, body()).await;
            sent(result.as_ref().err());
            match result {
                Err(StoreError::Precondition { .. }) if tries > 1 => return Ok(()),
                Err(error) if error.is_retriable() && tries < TRIES_MAX => {
                    tokio::time::sleep(BACKOFF * 2u32.pow(tries)).await;
                }
                done => return done,
            }
        }
    }

    async fn put_once<S>(
        &self,
        target: PutTarget<'_>,
        object: PutObject,
        body: S,
    ) -> Result<(), StoreError>
    where
        S: Stream<Item = Result<Bytes, io::Error>> + Send + 'static,
    {
        let key = target.key;
        let url = format!("{}/{}", self.base, target.path);
        let signed = self.signed(&url, target.headers, object).await;
        let headers = signed.map_err(|cause| match cause {
            SignError::Credentials(error) => StoreError::from_object_store(key, error),
            SignError::Invalid(what) => StoreError::Invalid { what },
        })?;
        let turn = Arc::new(Mutex::new(Turn::Network(Instant::now())));
        let body = Watched {
            inner: Box::pin(body),
            turn: Arc::clone(&turn),
        };
        let request = self
            .client
            .put(url)
            .headers(headers)
            .body(reqwest::Body::wrap_stream(body));
        let answered = async {
            let answer = request.send().await?;
            let status = answer.status();
            // Read to its end, so that the connection can be used again.
            let text = answer.bytes().await?;
            Ok::<_, reqwest::Error>((status, text))
        };
        let (status, text) = tokio::select! {
            answered = answered => answered.map_err(|error| unavailable(key, &error))?,
            () = stalled(&turn, self.stall) => {
                let cause = format!("no progress for {} ms", self.stall.as_millis());
                return Err(StoreError::Unavailable { key: key.to_owned(), cause });
            }
        };
        if status.is_success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&text[..text.len().min(ANSWER_BYTES_MAX)]).into_owned();
        Err(match status {
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => StoreError::Precondition {
                key: key.to_owned(),
            },
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => StoreError::Denied {
                key: key.to_owned(),
                cause: text,
            },
            StatusCode::NOT_FOUND => StoreError::Invalid {
                what: format!("{key} cannot be written: its bucket does not exist"),
            },
            status => {
                StoreError::from_answer(key.to_owned(), format!("status code: {status}: {text}"))
            }
        })
    }

    /// What the bucket's setting is (`versioning`, `lifecycle`), as XML; `None`: it has none.
    pub async fn bucket_setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let key = format!("?{name}");
        let url = format!("{}?{name}=", self.base);
        let failed = |cause: SignError| match cause {
            SignError::Credentials(error) => StoreError::from_object_store(&key, error),
            SignError::Invalid(what) => StoreError::Invalid { what },
        };
        let mut request = http_request(&url, reqwest::Method::GET).map_err(failed)?;
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|e| failed(e.into()))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(false)
            .try_authorize(&mut request, None)
            .map_err(|e| failed(e.into()))?;
        let headers = std::mem::take(request.headers_mut());
        let answer = self.client.get(url).headers(headers).timeout(self.stall);
        let answer = answer.send().await.map_err(|e| unavailable(&key, &e))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| unavailable(&key, &e))?;
        match status {
            status if status.is_success() => Ok(Some(text)),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => {
                Err(StoreError::Denied { key, cause: text })
            }
            status => Err(StoreError::from_answer(
                key,
                format!("status code: {status}: {text}"),
            )),
        }
    }

    /// The headers that the server asks for, the signature among them.
    async fn signed(
        &self,
        url: &str,
        more: &HeaderMap,
        object: PutObject,
    ) -> Result<HeaderMap, SignError> {
        let credential = self.credentials.get_credential().await?;
        let mut request = http_request(url, reqwest::Method::PUT)?;
        let headers = request.headers_mut();
        headers.extend(
            more.iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        let length = HeaderValue::from(object.length);
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        let checksum = base64(&object.crc32c.to_be_bytes());
        let checksum =
            HeaderValue::from_str(&checksum).map_err(|e| SignError::Invalid(e.to_string()))?;
        let name = HeaderName::from_static("x-amz-checksum-crc32c");
        headers.insert(name, checksum);
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .with_sign_payload(false)
            .try_authorize(&mut request, None)?;
        Ok(std::mem::take(request.headers_mut()))
    }
}

/// Where an object goes, and what is asked for it.
#[derive(Clone, Copy, Debug)]
pub struct PutTarget<'a> {
    /// For errors.
    pub key: &'a str,
    /// With the URL's prefix.
    pub path: &'a str,
    pub headers: &'a HeaderMap,
}

/// What of an object must be known before it is sent.
#[derive(Clone, Copy, Debug)]
pub struct PutObject {
    pub length: u64,
    /// Of all its bytes.
    pub crc32c: u32,
}

enum SignError {
    Credentials(object_store::Error),
    Invalid(String),
}

impl From<object_store::Error> for SignError {
    fn from(error: object_store::Error) -> Self {
        Self::Credentials(error)
    }
}

fn http_request(
    url: &str,
    method: reqwest::Method,
) -> Result<object_store::client::HttpRequest, SignError> {
    let mut request = object_store::client::HttpRequest::new(HttpRequestBody::empty());
    *request.method_mut() = method;
    *request.uri_mut() = url
        .parse()
        .map_err(|error| SignError::Invalid(format!("{url}: {error}")))?;
    Ok(request)
}

/// Returns when the network has made no progress for `stall`.
async fn stalled(turn: &Mutex<Turn>, stall: Duration) {
    loop {
        let left = match *turn.lock() {
            Turn::Ours => stall,
            Turn::Network(since) => stall.saturating_sub(since.elapsed()),
        };
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

fn unavailable(key: &str, error: &reqwest::Error) -> StoreError {
    let mut cause = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        cause.push_str(&format!(": {source}"));
        next = source.source();
    }
    StoreError::Unavailable {
        key: key.to_owned(),
        cause,
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut word = [0; 4];
        word[1..=group.len()].copy_from_slice(group);
        let word = u32::from_be_bytes(word);
        for place in 0..4 {
            let letter = ALPHABET[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() {
                '='
            } else {
                letter as char
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_told_as_the_servers_want_them() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (&[0xff, 0xee, 0, 1], "/+4AAQ=="),
        ] {
            assert_eq!(base64(bytes), text);
        }
    }

    #[test]
    fn only_keys_that_need_no_encoding_and_objects_that_fit_go_in_one_put() {
        assert!(is_fit("a1/Cluster_-id/0/segment/00-1.strand", 5 << 30));
        assert!(!is_fit("a1/segment", (5 << 30) + 1));
        assert!(!is_fit("my bucket/segment", 1));
        assert!(!is_fit("a+b", 1));
    }
}
