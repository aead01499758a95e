//! IncrementalAlterConfigs (44), versions 0-1, and AlterConfigs (33), versions 0-2.
//!
//! Each resource's overrides are checked as a whole, as they will be after the change, and changed together. The answer
//! comes when this broker works by the new values. The older API replaces all overrides of a resource.
//! compact together with remote.storage.enable is refused, and so is turning tiering off without deleting the remote
//! data, both as in Kafka.
//!
//! Gaps: broker loggers, client metrics and groups have no configs here.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse as ReplaceResult;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use strandline_core::metadata::{
    AlterConfigs, Command, CommandOutcome, ConfigChange, ConfigResource, MetadataImage,
};
use strandline_log::config_def::{ConfigDef, ConfigKind};
use strandline_wire::{Api, KafkaError};

use super::text::text;
use super::{Apis, config_resources};
use crate::topic_config;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

type Refusal = (KafkaError, String);

pub async fn incremental(
    apis: &Apis,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let image = apis.metadata.image();
    let changes = request
        .resources
        .iter()
        .map(|resource| {
            let parsed = parse(
                apis,
                &image,
                resource.resource_type,
                &resource.resource_name,
            )?;
            let change = plan_incremental(apis, &image, parsed, &resource.configs)?;
            validate(apis, &image, &change)?;
            Ok(change)
        })
        .collect();
    let results = alter(apis, changes, request.validate_only).await;
    let responses = request
        .resources
        .iter()
        .zip(results)
        .map(|(resource, result)| {
            let (code, message) = outcome(apis, Api::IncrementalAlterConfigs, result);
            AlterConfigsResourceResponse::default()
                .with_error_code(code)
                .with_error_message(message.map(text))
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        })
        .collect();
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

pub async fn replace(apis: &Apis, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let image = apis.metadata.image();
    let changes = request
        .resources
        .iter()
        .map(|resource| {
            let parsed = parse(
                apis,
                &image,
                resource.resource_type,
                &resource.resource_name,
            )?;
            let mut set = BTreeMap::new();
            for config in &resource.configs {
                let Some(value) = &config.value else {
                    let message =
                        format!("Null value not supported for : {}", config.name.as_str());
                    return Err((KafkaError::InvalidRequest, message));
                };
                set.insert(config.name.to_string(), value.trim().to_owned());
            }
            let change = ConfigChange {
                resource: parsed,
                replace: true,
                set,
                delete: BTreeSet::new(),
            };
            validate(apis, &image, &change)?;
            Ok(change)
        })
        .collect();
    let results = alter(apis, changes, request.validate_only).await;
    let responses = request
        .resources
        .iter()
        .zip(results)
        .map(|(resource, result)| {
            let (code, message) = outcome(apis, Api::AlterConfigs, result);
            ReplaceResult::default()
                .with_error_code(code)
                .with_error_message(message.map(text))
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone())
        })
        .collect();
    AlterConfigsResponse::default().with_responses(responses)
}

fn outcome(apis: &Apis, api: Api, result: Result<(), Refusal>) -> (i16, Option<String>) {
    match result {
        Ok(()) => (0, None),
        Err((error, message)) => {
            apis.count_error(api, error);
            (error.code(), Some(message))
        }
    }
}

fn parse(
    apis: &Apis,
    image: &MetadataImage,
    kind: i8,
    name: &str,
) -> Result<ConfigResource, Refusal> {
    config_resources::parse(kind, name, apis.config.node_id, image)
}

fn definition(apis: &Apis, resource: &ConfigResource, name: &str) -> Option<&'static ConfigDef> {
    match resource {
        ConfigResource::Topic(_) => apis.config.table.topic(name),
        ConfigResource::Broker(_) | ConfigResource::ClusterDefault => {
            apis.config.table.broker(name)
        }
    }
}

fn plan_incremental(
    apis: &Apis,
    image: &MetadataImage,
    resource: ConfigResource,
    configs: &[AlterableConfig],
) -> Result<ConfigChange, Refusal> {
    let current = image.configs.overrides(&resource);
    let mut set = BTreeMap::new();
    let mut delete = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for config in configs {
        let name = config.name.as_str();
        if !seen.insert(name) {
            let message = format!("Error due to duplicate config keys: {name}");
            return Err((KafkaError::InvalidRequest, message));
        }
        let value = || {
            config
                .value
                .as_ref()
                .map(|value| value.trim())
                .ok_or_else(|| {
                    let message = format!("Null value not supported for : {name}");
                    (KafkaError::InvalidRequest, message)
                })
        };
        match config.config_operation {
            SET => {
                set.insert(name.to_owned(), value()?.to_owned());
            }
            DELETE => {
                delete.insert(name.to_owned());
            }
            operation @ (APPEND | SUBTRACT) => {
                let def = definition(apis, &resource, name);
                if !def.is_some_and(|def| {
                    matches!(def.kind, ConfigKind::List | ConfigKind::EnumList(_))
                }) {
                    let message =
                        format!("Config value append is not allowed for config key: {name}");
                    return Err((KafkaError::InvalidConfig, message));
                }
                let before = current
                    .get(name)
                    .map(String::as_str)
                    .or(def.and_then(|def| def.default))
                    .unwrap_or("");
                set.insert(
                    name.to_owned(),
                    change_list(before, value()?, operation == APPEND),
                );
            }
            operation => {
                let message = format!("Unknown alter config operation {operation}");
                return Err((KafkaError::InvalidRequest, message));
            }
        }
    }
    Ok(ConfigChange {
        resource,
        replace: false,
        set,
        delete,
    })
}

fn change_list(before: &str, words: &str, append: bool) -> String {
    let split = |text: &str| -> Vec<String> {
        text.split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (mut list, words) = (split(before), split(words));
    if append {
        for word in words {
            if !list.contains(&word) {
                list.push(word);
            }
        }
    } else {
        list.retain(|word| !words.contains(word));
    }
    list.join(",")
}

/// Checks the overrides as they will be.
fn validate(apis: &Apis, image: &MetadataImage, change: &ConfigChange) -> Result<(), Refusal> {
    let before = image.configs.overrides(&change.resource);
    let mut after = if change.replace {
        BTreeMap::new()
    } else {
        (*before).clone()
    };
    after.retain(|name, _| !change.delete.contains(name));
    after.extend(change.set.clone());
    let checked = match &change.resource {
        ConfigResource::Topic(_) => {
            topic_config::validate_topic(&apis.config, image, &after, Some(&before)).map(|_| ())
        }
        ConfigResource::Broker(_) | ConfigResource::ClusterDefault => {
            topic_config::validate_broker(&apis.config, &after)
        }
    };
    checked.map_err(|message| (KafkaError::InvalidConfig, message))
}

/// Proposes what is right in one command; what is wrong keeps its refusal.
async fn alter(
    apis: &Apis,
    changes: Vec<Result<ConfigChange, Refusal>>,
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let right: Vec<ConfigChange> = changes
        .iter()
        .filter_map(|change| change.as_ref().ok().cloned())
        .collect();
    if validate_only || right.is_empty() {
        return changes
            .into_iter()
            .map(|change| change.map(|_| ()))
            .collect();
    }
    let proposed = apis
        .metadata
        .propose(Command::AlterConfigs(AlterConfigs { changes: right }))
        .await;
    let mut outcomes = match proposed {
        Ok(CommandOutcome::Configs(outcomes)) => Ok(outcomes.into_iter()),
        Ok(CommandOutcome::Refused(error)) => Err((error.kafka_error(), error.to_string())),
        Ok(_) => Err((
            KafkaError::UnknownServerError,
            "An outcome of another command.".to_owned(),
        )),
        Err(error) => Err(error),
    };
    changes
        .into_iter()
        .map(|change| {
            change?;
            match &mut outcomes {
                Ok(outcomes) => match outcomes.next() {
                    Some((_, result)) => {
                        result.map_err(|error| (error.kafka_error(), error.to_string()))
                    }
                    None => Err((KafkaError::UnknownServerError, "No outcome.".to_owned())),
                },
                Err(refusal) => Err(refusal.clone()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::change_list;

    #[test]
    fn lists_grow_and_shrink_by_words() {
        for (before, words, append, after) in [
            ("delete", "compact", true, "delete,compact"),
            ("delete", "delete", true, "delete"),
            ("delete,compact", "compact", false, "delete"),
            ("delete", "delete", false, ""),
            ("", "a, b", true, "a,b"),
        ] {
            assert_eq!(change_list(before, words, append), after);
        }
    }
}
