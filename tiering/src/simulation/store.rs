//! An object store in memory whose requests wait until the simulation says what becomes of them.
//!
//! It behaves as S3 may: strongly consistent reads, ETags that are content hashes, listings page by page with changes in
//! between. A request may have its effect, or not, or late, or twice, whatever its caller was told.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Keys per page of a listing.
const PAGE_KEYS: usize = 3;

#[derive(Clone, Debug)]
pub struct Object {
    pub bytes: Bytes,
    pub modified_ms: i64,
}

#[derive(Clone, Debug)]
pub enum Request {
    Put {
        key: String,
        bytes: Bytes,
        mode: PutMode,
    },
    Get {
        key: String,
    },
    Delete {
        key: String,
    },
    /// A page of a listing behind a key.
    List {
        folder: String,
        after: Option<String>,
    },
}

impl Request {
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Get { key } | Self::Delete { key } => key,
            Self::List { folder, .. } => folder,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Self::Put { mode, .. } => match mode {
                PutMode::Create => "create",
                PutMode::Update(_) => "swap",
                PutMode::Overwrite => "put",
            },
            Self::Get { .. } => "get",
            Self::Delete { .. } => "delete",
            Self::List { .. } => "list",
        };
        write!(f, "{verb} {}", self.key())
    }
}

#[derive(Debug)]
pub enum Answer {
    Put { e_tag: String },
    Object(Object),
    Deleted,
    Page(Vec<(String, Object)>),
}

pub struct Pending {
    pub id: u64,
    /// The process that sent it: it dies with its process, or lands late.
    pub process: u64,
    pub request: Request,
    pub reply: oneshot::Sender<Result<Answer>>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// The caller is told of a failure, and nothing happened.
    LostBefore,
    /// It happened, and the caller is told of a failure.
    LostAfter,
    /// The HTTP client sends it again by itself: the caller sees the second answer.
    Retried,
    /// The caller gives up on it, and it happens later.
    Late,
    /// It happens now, and once more later.
    Duplicated,
}

/// A change of an object: (key, before, after).
pub type Change = (String, Option<Bytes>, Option<Bytes>);

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Object>,
    pub pending: Vec<Pending>,
    /// Writes that land some time later, or never.
    pub late: Vec<Request>,
    /// Since they were looked at last.
    pub changes: VecDeque<Change>,
    pub now_ms: i64,
    ids: u64,
}

impl State {
    /// Lets a request meet its fate. `None` when it is no longer there.
    pub fn serve(&mut self, at: usize, fate: Fate) -> String {
        let Pending { request, reply, .. } = self.pending.remove(at);
        let told = format!("{request}: {fate:?}");
        let write = request.is_write();
        let answer = match fate {
            Fate::Done => self.apply(&request),
            Fate::LostBefore => Err(timeout()),
            Fate::LostAfter => {
                let _ = self.apply(&request);
                Err(timeout())
            }
            Fate::Retried if write => {
                let _ = self.apply(&request);
                self.apply(&request)
            }
            Fate::Late if write => {
                self.late.push(request);
                Err(timeout())
            }
            Fate::Duplicated if write => {
                self.late.push(request.clone());
                self.apply(&request)
            }
            Fate::Retried | Fate::Late | Fate::Duplicated => self.apply(&request),
        };
        // Nobody waits any more when the process has died.
        let _ = reply.send(answer);
        told
    }

    pub fn apply(&mut self, request: &Request) -> Result<Answer> {
        match request {
            Request::Put { key, bytes, mode } => {
                let current = self.objects.get(key);
                match mode {
                    PutMode::Overwrite => {}
                    PutMode::Create if current.is_some() => {
                        return Err(Error::AlreadyExists {
                            path: key.clone(),
                            source: "it exists".into(),
                        });
                    }
                    PutMode::Create => {}
                    PutMode::Update(version) => {
                        let e_tag = current.map(|object| e_tag(&object.bytes));
                        if e_tag.is_none() || e_tag != version.e_tag {
                            return Err(Error::Precondition {
                                path: key.clone(),
                                source: "it changed".into(),
                            });
                        }
                    }
                }
                let before = current.map(|object| object.bytes.clone());
                let object = Object {
                    bytes: bytes.clone(),
                    modified_ms: self.now_ms,
                };
                self.objects.insert(key.clone(), object);
                self.changes
                    .push_back((key.clone(), before, Some(bytes.clone())));
                Ok(Answer::Put {
                    e_tag: e_tag(bytes),
                })
            }
            Request::Get { key } => match self.objects.get(key) {
                Some(object) => Ok(Answer::Object(object.clone())),
                None => Err(Error::NotFound {
                    path: key.clone(),
                    source: "it is not there".into(),
                }),
            },
            Request::Delete { key } => {
                if let Some(object) = self.objects.remove(key) {
                    self.changes
                        .push_back((key.clone(), Some(object.bytes), None));
                }
                Ok(Answer::Deleted)
            }
            Request::List { folder, after } => {
                let prefix = format!("{folder}/");
                let page = self
                    .objects
                    .range(prefix.clone()..)
                    .take_while(|(key, _)| key.starts_with(&prefix))
                    .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
                    .take(PAGE_KEYS)
                    .map(|(key, object)| (key.clone(), object.clone()))
                    .collect();
                Ok(Answer::Page(page))
            }
        }
    }
}

fn e_tag(bytes: &[u8]) -> String {
    format!("{:08x}-{}", crc32c::crc32c(bytes), bytes.len())
}

fn timeout() -> Error {
    Error::Generic {
        store: "simulated",
        source: "timeout".into(),
    }
}

/// One process's connection to the store.
#[derive(Clone)]
pub struct SimStore {
    pub state: Arc<Mutex<State>>,
    process: u64,
}

impl SimStore {
    pub fn new(state: &Arc<Mutex<State>>, process: u64) -> Self {
        Self {
            state: Arc::clone(state),
            process,
        }
    }

    async fn ask(&self, request: Request) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            state.ids += 1;
            let id = state.ids;
            state.pending.push(Pending {
                id,
                process: self.process,
                request,
                reply,
            });
        }
        answer.await.unwrap_or_else(|_| Err(timeout()))
    }

    async fn page(&self, folder: &str, after: Option<String>) -> Result<Vec<ObjectMeta>> {
        let request = Request::List {
            folder: folder.to_owned(),
            after,
        };
        match self.ask(request).await? {
            Answer::Page(page) => Ok(page
                .iter()
                .map(|(key, object)| meta(&Path::from(key.as_str()), object))
                .collect()),
            _ => Err(timeout()),
        }
    }

    fn list_from(
        &self,
        prefix: Option<&Path>,
        after: Option<String>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let this = self.clone();
        let folder = prefix.map_or(String::new(), ToString::to_string);
        futures::stream::unfold((Some(after), VecDeque::new()), move |(after, mut page)| {
            let (this, folder) = (this.clone(), folder.clone());
            async move {
                let mut after = after;
                if page.is_empty() {
                    match this.page(&folder, after.take()?).await {
                        Ok(next) => page = next.into(),
                        Err(e) => return Some((Err(e), (None, VecDeque::new()))),
                    }
                    // The next page begins behind this one; an empty one is the last.
                    after = page
                        .back()
                        .map(|last: &ObjectMeta| Some(last.location.to_string()));
                }
                let next = page.pop_front()?;
                Some((Ok(next), (after, page)))
            }
        })
        .boxed()
    }
}

fn meta(location: &Path, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location: location.clone(),
        last_modified: std::time::SystemTime::UNIX_EPOCH
            .checked_add(std::time::Duration::from_millis(object.modified_ms as u64))
            .map_or_else(Default::default, Into::into),
        size: object.bytes.len() as u64,
        e_tag: Some(e_tag(&object.bytes)),
        version: None,
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore of process {}", self.process)
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, at: &Path, body: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let request = Request::Put {
            key: at.to_string(),
            bytes: body.into(),
            mode: opts.mode,
        };
        match self.ask(request).await? {
            Answer::Put { e_tag } => Ok(PutResult {
                e_tag: Some(e_tag),
                version: None,
                extensions: Default::default(),
            }),
            _ => Err(timeout()),
        }
    }

    async fn put_multipart_opts(
        &self,
        _at: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "multipart".to_owned(),
            implementer: "SimStore".to_owned(),
        })
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let request = Request::Get {
            key: at.to_string(),
        };
        let Answer::Object(object) = self.ask(request).await? else {
            return Err(timeout());
        };
        let length = object.bytes.len() as u64;
        let range = match &options.range {
            None => 0..length,
            Some(GetRange::Bounded(range)) if range.start >= length => {
                return Err(Error::Generic {
                    store: "simulated",
                    source: "Range Not Satisfiable".into(),
                });
            }
            Some(GetRange::Bounded(range)) => range.start..range.end.min(length),
            Some(GetRange::Offset(start)) => *start..length,
            Some(GetRange::Suffix(bytes)) => length.saturating_sub(*bytes)..length,
        };
        let meta = meta(at, &object);
        let bytes = object.bytes.slice(range.start as usize..range.end as usize);
        Ok(GetResult {
            payload: GetResultPayload::Stream(futures::stream::once(async { Ok(bytes) }).boxed()),
            meta,
            range,
            attributes: Default::default(),
            extensions: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        locations
            .then(move |location| {
                let this = this.clone();
                async move {
                    let location = location?;
                    let key = location.to_string();
                    this.ask(Request::Delete { key }).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_from(prefix, Some(offset.to_string()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let folder = prefix.map_or(String::new(), |p| format!("{p}/"));
        let mut listing = self.list(prefix);
        let mut common_prefixes = std::collections::BTreeSet::new();
        let mut objects = Vec::new();
        while let Some(meta) = listing.next().await.transpose()? {
            let key = meta.location.to_string();
            let rest = key.strip_prefix(&folder).unwrap_or(&key);
            match rest.split_once('/') {
                Some((name, _)) => {
                    common_prefixes.insert(Path::from(format!("{folder}{name}")));
                }
                None => objects.push(meta),
            }
        }
        Ok(ListResult {
            common_prefixes: common_prefixes.into_iter().collect(),
            objects,
            extensions: Default::default(),
        })
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented {
            operation: "copy".to_owned(),
            implementer: "SimStore".to_owned(),
        })
    }
}
