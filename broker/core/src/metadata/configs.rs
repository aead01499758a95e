//! Configs that were set at run time: per topic, per broker, and for all brokers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BrokerId, SharedMap};

/// What a config belongs to. A topic's configs go by its name, as in Kafka, and go away with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigResource {
    Topic(Arc<str>),
    Broker(BrokerId),
    /// The cluster-wide default of dynamic broker configs (Kafka's broker resource with an empty name).
    ClusterDefault,
}

/// Overrides as they were given, by resource. Resources without an override are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigsImage {
    resources: SharedMap<ConfigResource, Arc<BTreeMap<String, String>>>,
}

impl ConfigsImage {
    pub fn get(&self, resource: &ConfigResource) -> Option<&Arc<BTreeMap<String, String>>> {
        self.resources.get(resource)
    }

    /// The overrides of a resource, empty when it has none.
    pub fn overrides(&self, resource: &ConfigResource) -> Arc<BTreeMap<String, String>> {
        self.get(resource).cloned().unwrap_or_default()
    }

    pub fn topic(&self, name: &str) -> Arc<BTreeMap<String, String>> {
        self.overrides(&ConfigResource::Topic(name.into()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ConfigResource, &Arc<BTreeMap<String, String>>)> {
        self.resources.iter()
    }

    pub fn len(&self) -> usize {
        self.resources.len()
    }

    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }

    pub(super) fn resources(&self) -> &SharedMap<ConfigResource, Arc<BTreeMap<String, String>>> {
        &self.resources
    }

    pub(super) fn put(&mut self, resource: ConfigResource, values: BTreeMap<String, String>) {
        if values.is_empty() {
            self.resources.remove(&resource);
        } else {
            self.resources.insert(resource, Arc::new(values));
        }
    }

    pub(super) fn remove(&mut self, resource: &ConfigResource) -> bool {
        self.resources.remove(resource).is_some()
    }
}
