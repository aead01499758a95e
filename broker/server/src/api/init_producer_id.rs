//! InitProducerId (22), versions 0-5.
//!
//! Gives an idempotent producer an id of this broker's block and epoch 0. A producer that brings its id and epoch (from
//! version 3 on) gets the next epoch, or a new id when the epochs are used up.
//!
//! Gaps: no transactions. A transactional id is answered with TRANSACTIONAL_ID_AUTHORIZATION_FAILED: the Java clients,
//! librdkafka and those modelled on them all treat it as fatal and give up, where an unsupported version or a missing
//! coordinator would be retried for ever.

use kafka_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerId};
use strandline_wire::{Api, KafkaError};

use super::Apis;

pub async fn handle(apis: &Apis, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let refuse = |error: KafkaError| {
        apis.count_error(Api::InitProducerId, error);
        InitProducerIdResponse::default()
            .with_error_code(error.code())
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1)
    };
    if let Some(transactional_id) = &request.transactional_id {
        tracing::info!(
            transactional_id = transactional_id.as_str(),
            "refused a transactional producer: there are no transactions yet"
        );
        return refuse(KafkaError::TransactionalIdAuthorizationFailed);
    }
    let (id, epoch) = (request.producer_id.0, request.producer_epoch);
    // An id without an epoch, or the other way round, is nobody's.
    if (id == -1) != (epoch == -1) || id < -1 || epoch < -1 {
        return refuse(KafkaError::InvalidRequest);
    }
    if id >= 0 && epoch < i16::MAX - 1 {
        return InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch + 1);
    }
    match apis.producer_ids.next(&apis.metadata).await {
        Ok(id) => InitProducerIdResponse::default()
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(0),
        Err(error) => refuse(error),
    }
}
