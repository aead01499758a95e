//! DeleteTopics (20), versions 1-6.
//!
//! By name, from version 6 on also by id. Deletes the logs, the remote data and the groups' committed offsets of the
//! topics; the answer comes when this broker has let go of the logs.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use strandline_core::metadata::{Command, CommandOutcome, DeleteTopics, TopicImage};
use strandline_wire::{Api, KafkaError};
use uuid::Uuid;

use super::text::{text, topic_name};
use super::{Apis, RequestContext};

struct Wanted {
    name: Option<TopicName>,
    id: Uuid,
    found: Result<Arc<TopicImage>, KafkaError>,
}

pub async fn handle(
    apis: &Apis,
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let image = apis.metadata.image();
    let named = request
        .topic_names
        .into_iter()
        .map(|name| (Some(name), Uuid::nil()))
        .chain(
            request
                .topics
                .into_iter()
                .map(|topic| (topic.name, topic.topic_id)),
        );
    let enabled = apis.config.bool("delete.topic.enable");
    let mut seen = HashSet::new();
    let mut wanted: Vec<Wanted> = Vec::new();
    for (name, id) in named {
        let found = match &name {
            _ if !enabled && context.api_version < 3 => Err(KafkaError::InvalidRequest),
            _ if !enabled => Err(KafkaError::TopicDeletionDisabled),
            Some(_) if !id.is_nil() => Err(KafkaError::InvalidRequest),
            Some(name) => image
                .topics
                .get(name)
                .cloned()
                .ok_or(KafkaError::UnknownTopicOrPartition),
            None => image
                .topics
                .get_by_id(&id)
                .cloned()
                .ok_or(KafkaError::UnknownTopicId),
        };
        let duplicate = found.as_ref().is_ok_and(|topic| !seen.insert(topic.id));
        let found = if duplicate {
            Err(KafkaError::InvalidRequest)
        } else {
            found
        };
        wanted.push(Wanted { name, id, found });
    }
    let topic_ids: Vec<Uuid> = wanted
        .iter()
        .filter_map(|w| w.found.as_ref().ok().map(|topic| topic.id))
        .collect();
    let mut outcomes = if topic_ids.is_empty() {
        Ok(Vec::new().into_iter())
    } else {
        match apis
            .metadata
            .propose(Command::DeleteTopics(DeleteTopics { topic_ids }))
            .await
        {
            Ok(CommandOutcome::Topics(outcomes)) => Ok(outcomes.into_iter()),
            Ok(CommandOutcome::Refused(error)) => Err(error.kafka_error()),
            Ok(_) => Err(KafkaError::UnknownServerError),
            Err((error, _)) => Err(error),
        }
    };
    let responses = wanted
        .into_iter()
        .map(|wanted| {
            let result = wanted.found.and_then(|topic| match &mut outcomes {
                Ok(outcomes) => match outcomes.next().map(|outcome| outcome.result) {
                    Some(Ok(_)) => Ok(topic),
                    Some(Err(error)) => Err(error.kafka_error()),
                    None => Err(KafkaError::UnknownServerError),
                },
                Err(error) => Err(*error),
            });
            match result {
                Ok(topic) => DeletableTopicResult::default()
                    .with_name(Some(topic_name(&topic.name)))
                    .with_topic_id(topic.id),
                Err(error) => {
                    apis.count_error(Api::DeleteTopics, error);
                    DeletableTopicResult::default()
                        .with_name(wanted.name)
                        .with_topic_id(wanted.id)
                        .with_error_code(error.code())
                        .with_error_message(Some(text(error.to_string())))
                }
            }
        })
        .collect();
    DeleteTopicsResponse::default().with_responses(responses)
}
