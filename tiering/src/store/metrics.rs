//! Requests and bytes of the object store, counted by class and purpose: what the store's owner bills.

use std::sync::Arc;

use prometheus::{IntCounterVec, Opts, Registry};

use super::StoreError;

/// What kind of request, as object stores bill them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestClass {
    Put,
    Part,
    Get,
    Head,
    List,
    Delete,
}

impl RequestClass {
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Part => "part",
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// What a request is made for. Budgets and costs are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Manifest,
    Upload,
    Read,
    Retention,
    Sweep,
    State,
    Export,
    Probe,
}

impl Purpose {
    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Retention => "retention",
            Self::Sweep => "sweep",
            Self::State => "state",
            Self::Export => "export",
            Self::Probe => "probe",
        }
    }
}

/// The counters of one process. Clones share them.
#[derive(Clone, Debug)]
pub struct StoreMetrics(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    requests: IntCounterVec,
    bytes: IntCounterVec,
    errors: IntCounterVec,
}

impl StoreMetrics {
    /// Registers the counters. Fails only when the registry already has them.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self::new()?;
        registry.register(Box::new(metrics.0.requests.clone()))?;
        registry.register(Box::new(metrics.0.bytes.clone()))?;
        registry.register(Box::new(metrics.0.errors.clone()))?;
        Ok(metrics)
    }

    /// Counters that nobody scrapes: for tools and tests.
    pub fn unregistered() -> Self {
        Self::new().expect("the names are constant and valid")
    }

    fn new() -> Result<Self, prometheus::Error> {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
        };
        Ok(Self(Arc::new(Counters {
            requests: vec(
                "strandline_remote_store_requests_total",
                "Requests sent to the object store, by billing class and purpose.",
                &["class", "purpose"],
            )?,
            bytes: vec(
                "strandline_remote_store_bytes_total",
                "Bytes of object bodies sent to or received from the object store, by class and purpose.",
                &["class", "purpose"],
            )?,
            errors: vec(
                "strandline_remote_store_errors_total",
                "Requests to the object store that failed, by class and cause.",
                &["class", "cause"],
            )?,
        })))
    }

    pub(super) fn request(&self, class: RequestClass, purpose: Purpose) {
        self.0
            .requests
            .with_label_values(&[class.name(), purpose.name()])
            .inc();
    }

    pub(super) fn bytes(&self, class: RequestClass, purpose: Purpose, bytes: u64) {
        self.0
            .bytes
            .with_label_values(&[class.name(), purpose.name()])
            .inc_by(bytes);
    }

    pub(super) fn error(&self, class: RequestClass, error: &StoreError) {
        self.0
            .errors
            .with_label_values(&[class.name(), error.class()])
            .inc();
    }

    /// Requests of a class so far, over all purposes: tests and budgets read it.
    pub fn requests(&self, class: RequestClass) -> u64 {
        [
            Purpose::Manifest,
            Purpose::Upload,
            Purpose::Read,
            Purpose::Retention,
            Purpose::Sweep,
            Purpose::State,
            Purpose::Export,
            Purpose::Probe,
        ]
        .iter()
        .map(|p| {
            self.0
                .requests
                .with_label_values(&[class.name(), p.name()])
                .get()
        })
        .sum()
    }
}
