//! Requests and bytes of the object store, counted by class and purpose: what the store's owner bills.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use prometheus::core::Collector;
use prometheus::{IntCounterVec, Opts, Registry};
use strandline_log::{TopicId, uuid_to_base64};

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
    Scrub,
    State,
    Tail,
    Export,
    Probe,
}

impl Purpose {
    pub const ALL: [Self; 10] = [
        Self::Manifest,
        Self::Upload,
        Self::Read,
        Self::Retention,
        Self::Sweep,
        Self::Scrub,
        Self::State,
        Self::Tail,
        Self::Export,
        Self::Probe,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Upload => "upload",
            Self::Read => "read",
            Self::Retention => "retention",
            Self::Sweep => "sweep",
            Self::Scrub => "scrub",
            Self::State => "state",
            Self::Tail => "tail",
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
    /// Names by the ids that keys carry.
    topics: RwLock<HashMap<String, Arc<str>>>,
}

/// Topics that are told apart; requests for others have no topic's label.
const TOPICS_MAX: usize = 1_000;
const LABELS: &[&str] = &["class", "purpose", "topic"];

/// One line of the bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCount {
    pub class: String,
    pub purpose: String,
    /// Empty: what is no topic's, or of one too many.
    pub topic: String,
    pub count: u64,
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
                "Requests sent to the object store, by billing class, purpose and topic.",
                LABELS,
            )?,
            bytes: vec(
                "strandline_remote_store_bytes_total",
                "Bytes of object bodies sent to or received from the object store, by class, purpose and topic.",
                LABELS,
            )?,
            errors: vec(
                "strandline_remote_store_errors_total",
                "Requests to the object store that failed, by class and cause.",
                &["class", "cause"],
            )?,
            topics: RwLock::default(),
        })))
    }

    /// Requests for objects of this topic are counted under its name.
    pub fn name_topic(&self, topic_id: TopicId, topic: &str) {
        let mut topics = self.0.topics.write();
        if topics.len() < TOPICS_MAX {
            topics.insert(uuid_to_base64(&topic_id), topic.into());
        }
    }

    fn topic_of(&self, key: &str) -> Arc<str> {
        // spread/cluster/topic id/partition/...
        let id = key.split('/').nth(2).unwrap_or_default();
        self.0.topics.read().get(id).cloned().unwrap_or_default()
    }

    pub(super) fn request(&self, key: &str, class: RequestClass, purpose: Purpose) {
        self.0
            .requests
            .with_label_values(&[class.name(), purpose.name(), &self.topic_of(key)])
            .inc();
    }

    pub(super) fn bytes(&self, key: &str, class: RequestClass, purpose: Purpose, bytes: u64) {
        self.0
            .bytes
            .with_label_values(&[class.name(), purpose.name(), &self.topic_of(key)])
            .inc_by(bytes);
    }

    pub(super) fn error(&self, class: RequestClass, error: &StoreError) {
        self.0
            .errors
            .with_label_values(&[class.name(), error.class()])
            .inc();
    }

    /// Requests of a class so far, over all purposes and topics: tests and budgets read it.
    pub fn requests(&self, class: RequestClass) -> u64 {
        let counts = self.request_counts();
        counts
            .iter()
            .filter(|line| line.class == class.name())
            .map(|line| line.count)
            .sum()
    }

    /// What the store's owner has billed so far.
    pub fn request_counts(&self) -> Vec<RequestCount> {
        counts(&self.0.requests)
    }

    /// Bytes of bodies, both ways.
    pub fn byte_counts(&self) -> Vec<RequestCount> {
        counts(&self.0.bytes)
    }
}

fn counts(counters: &IntCounterVec) -> Vec<RequestCount> {
    let families = counters.collect();
    let metrics = families.iter().flat_map(|family| family.get_metric());
    metrics
        .map(|metric| {
            let label = |name: &str| {
                let labels = metric.get_label();
                let found = labels.iter().find(|label| label.name() == name);
                found
                    .map(|label| label.value().to_owned())
                    .unwrap_or_default()
            };
            RequestCount {
                class: label("class"),
                purpose: label("purpose"),
                topic: label("topic"),
                count: metric.get_counter().get_value() as u64,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_the_topic_that_their_key_names() {
        let metrics = StoreMetrics::unregistered();
        let id = TopicId::from_u128(77);
        metrics.name_topic(id, "orders");
        let key = format!("ab12/cluster/{}/0/manifest/root", uuid_to_base64(&id));
        metrics.request(&key, RequestClass::Put, Purpose::Manifest);
        metrics.request(&key, RequestClass::Put, Purpose::Manifest);
        metrics.request(
            "meta/cluster/state/cluster",
            RequestClass::Put,
            Purpose::State,
        );
        assert_eq!(metrics.requests(RequestClass::Put), 3);
        let mut lines = metrics.request_counts();
        lines.sort_by_key(|line| line.count);
        let told: Vec<_> = lines
            .iter()
            .map(|l| (&*l.topic, &*l.purpose, l.count))
            .collect();
        assert_eq!(told, [("", "state", 1), ("orders", "manifest", 2)]);
    }
}
