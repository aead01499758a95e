//! FindCoordinator (10), versions 0-6.
//!
//! The broker that leads the group's partition of `__consumer_offsets`, which is created when it is first asked for.
//! From version 4 on several keys at a time.
//!
//! Gaps: no transactions. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which clients take
//! as fatal; COORDINATOR_NOT_AVAILABLE would have them ask for ever. No share groups.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use strandline_core::group::partition_for_group;
use strandline_wire::{Api, KafkaError};

use super::text::text;
use super::{Apis, RequestContext, brokers, create_topics};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub async fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    // Version 0 has no type: groups only.
    let key_type = if context.api_version == 0 {
        GROUP
    } else {
        request.key_type
    };
    if context.api_version < 4 {
        let found = find(apis, context, key_type, request.key).await;
        let mut response = FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port);
        if context.api_version >= 1 {
            response = response.with_error_message(found.error_message);
        }
        return response;
    }
    let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
    for key in request.coordinator_keys {
        coordinators.push(find(apis, context, key_type, key).await);
    }
    FindCoordinatorResponse::default().with_coordinators(coordinators)
}

async fn find(apis: &Apis, context: &RequestContext, key_type: i8, key: StrBytes) -> Coordinator {
    let found = match key_type {
        GROUP => group_coordinator(apis, context, &key).await,
        TRANSACTION => Err((
            KafkaError::TransactionalIdAuthorizationFailed,
            "There are no transactions here yet.",
        )),
        _ => Err((
            KafkaError::InvalidRequest,
            "There is no such type of coordinator.",
        )),
    };
    let answer = Coordinator::default().with_key(key);
    match found {
        Ok((node_id, host, port)) => answer
            .with_node_id(BrokerId(node_id))
            .with_host(text(host))
            .with_port(port),
        Err((error, message)) => {
            apis.count_error(Api::FindCoordinator, error);
            answer
                .with_node_id(BrokerId(-1))
                .with_port(-1)
                .with_error_code(error.code())
                .with_error_message(Some(text(message)))
        }
    }
}

async fn group_coordinator(
    apis: &Apis,
    context: &RequestContext,
    group: &str,
) -> Result<(i32, String, i32), (KafkaError, &'static str)> {
    let unavailable = (
        KafkaError::CoordinatorNotAvailable,
        "The coordinator is not available.",
    );
    let partitions = create_topics::ensure_consumer_offsets(apis)
        .await
        .ok_or(unavailable)?;
    let image = apis.metadata.image();
    let leader = image
        .topics
        .partition(
            brokers::CONSUMER_OFFSETS_TOPIC,
            partition_for_group(group, partitions),
        )
        .map(|partition| partition.leader)
        .ok_or(unavailable)?;
    let endpoint = brokers::endpoint(&image, &context.listener, leader).ok_or(unavailable)?;
    Ok((leader, endpoint.host.to_string(), i32::from(endpoint.port)))
}
