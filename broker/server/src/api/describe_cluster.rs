//! DescribeCluster (60), versions 0-2.
//!
//! The brokers with the addresses of the listener that the request came through; from version 2 on fenced ones too, if
//! asked.
//!
//! Gaps: controllers have no listener of their own here, so the endpoint type must be brokers (1).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use strandline_wire::{Api, KafkaError};

use super::text::text;
use super::{Apis, RequestContext, authorized_operations, brokers};

const ENDPOINT_TYPE_BROKERS: i8 = 1;

pub fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let version = context.api_version;
    if version >= 1 && request.endpoint_type != ENDPOINT_TYPE_BROKERS {
        // Kafka: 2 is known and asked of the wrong endpoint, anything else is unknown.
        let error = if request.endpoint_type == 2 {
            KafkaError::MismatchedEndpointType
        } else {
            KafkaError::UnsupportedEndpointType
        };
        apis.count_error(Api::DescribeCluster, error);
        return DescribeClusterResponse::default()
            .with_error_code(error.code())
            .with_error_message(Some(text("This listener serves brokers only.")));
    }
    let image = apis.metadata.image();
    let with_fenced = version >= 2 && request.include_fenced_brokers;
    let brokers = image
        .brokers
        .iter()
        .filter(|(_, broker)| with_fenced || !broker.fenced)
        .filter_map(|(id, broker)| {
            let endpoint = broker
                .endpoint(&context.listener)
                .or_else(|| broker.endpoints.first())?;
            Some(
                DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(*id))
                    .with_host(text(&*endpoint.host))
                    .with_port(i32::from(endpoint.port))
                    .with_rack(brokers::rack(broker))
                    .with_is_fenced(version >= 2 && broker.fenced),
            )
        })
        .collect();
    let operations = if request.include_cluster_authorized_operations {
        authorized_operations::CLUSTER
    } else {
        authorized_operations::NOT_ASKED
    };
    DescribeClusterResponse::default()
        .with_cluster_id(text(&*image.cluster_id))
        .with_controller_id(BrokerId(apis.config.node_id))
        .with_brokers(brokers)
        .with_cluster_authorized_operations(operations)
}
