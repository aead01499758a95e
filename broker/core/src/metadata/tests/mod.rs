//! Images, commands and what they do: tables, golden bytes, and random histories.

mod apply;
mod formats;
mod histories;
mod placement;

use std::sync::Arc;

use uuid::Uuid;

use super::*;

/// A cluster with these brokers up.
fn cluster(brokers: &[(BrokerId, Option<&str>)]) -> MetadataImage {
    let mut image = run(MetadataImage::default(), init_cluster());
    for (id, rack) in brokers {
        image = run(image, register(*id, 0, *rack));
        image = run(image, started(*id, 0));
    }
    image
}

fn run(image: MetadataImage, command: Command) -> MetadataImage {
    apply(&image, &command).image
}

fn init_cluster() -> Command {
    Command::InitCluster(InitCluster {
        cluster_id: "kFZ2nVQRRHOV2_jbq0AUQg".into(),
        incarnation: 1,
        features: [("metadata.version".into(), 1)].into(),
    })
}

fn register(broker_id: BrokerId, process: u128, rack: Option<&str>) -> Command {
    Command::RegisterBroker(RegisterBroker {
        broker_id,
        incarnation_id: Uuid::from_u128(process),
        endpoints: vec![BrokerEndpoint {
            listener: "PLAINTEXT".into(),
            host: "127.0.0.1".into(),
            port: 9092,
            security_protocol: SecurityProtocol::Plaintext,
        }],
        rack: rack.map(Arc::from),
    })
}

fn started(broker_id: BrokerId, process: u128) -> Command {
    Command::BrokerStarted(BrokerStarted {
        broker_id,
        incarnation_id: Uuid::from_u128(process),
    })
}

fn new_topic(name: &str, id: u128, assignments: &[&[BrokerId]]) -> NewTopic {
    NewTopic {
        name: name.into(),
        id: Uuid::from_u128(id),
        assignments: assignments.iter().map(|a| a.to_vec()).collect(),
        configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
    }
}

fn create(topics: &[NewTopic]) -> Command {
    Command::CreateTopics(CreateTopics {
        topics: topics.to_vec(),
    })
}
