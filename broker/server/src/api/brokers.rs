//! Brokers as a listener's clients see them.

use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::protocol::StrBytes;
use strandline_core::metadata::{
    BrokerEndpoint, BrokerRegistration, MetadataImage, PartitionImage,
};

use super::text::text;

pub const CONSUMER_OFFSETS_TOPIC: &str = "__consumer_offsets";
const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

/// The broker's own topics: clients do not write to them.
pub fn is_internal(topic: &str) -> bool {
    topic == CONSUMER_OFFSETS_TOPIC || topic == TRANSACTION_STATE_TOPIC
}

/// Active brokers that have the listener, with its addresses. A listener that no broker is registered with (a client
/// came through one that is not advertised) shows the first.
pub fn endpoints<'a>(
    image: &'a MetadataImage,
    listener: &'a str,
) -> impl Iterator<Item = (&'a BrokerRegistration, &'a BrokerEndpoint)> {
    image.active_brokers().filter_map(move |broker| {
        let endpoint = broker
            .endpoint(listener)
            .or_else(|| broker.endpoints.first())?;
        Some((&**broker, endpoint))
    })
}

pub fn endpoint<'a>(
    image: &'a MetadataImage,
    listener: &str,
    broker_id: i32,
) -> Option<&'a BrokerEndpoint> {
    let broker = image.broker(broker_id).filter(|broker| !broker.fenced)?;
    broker
        .endpoint(listener)
        .or_else(|| broker.endpoints.first())
}

pub fn metadata_brokers(image: &MetadataImage, listener: &str) -> Vec<MetadataResponseBroker> {
    endpoints(image, listener)
        .map(|(broker, endpoint)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(broker.broker_id))
                .with_host(text(&*endpoint.host))
                .with_port(i32::from(endpoint.port))
                .with_rack(rack(broker))
        })
        .collect()
}

pub fn rack(broker: &BrokerRegistration) -> Option<StrBytes> {
    broker.rack.as_deref().map(text)
}

pub fn ids(brokers: &[i32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(BrokerId).collect()
}

/// Replicas whose broker is down.
pub fn offline_replicas(image: &MetadataImage, partition: &PartitionImage) -> Vec<BrokerId> {
    partition
        .replicas
        .iter()
        .copied()
        .filter(|id| !image.is_active(*id))
        .map(BrokerId)
        .collect()
}
