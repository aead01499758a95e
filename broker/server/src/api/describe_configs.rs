//! DescribeConfigs (32), versions 1-4.
//!
//! Topics, this broker, and what is set for all brokers (an empty broker name): every config with value, source,
//! type, and if asked its synonyms and documentation. Passwords are never shown.
//!
//! Gaps: broker loggers, client metrics and groups have no configs here.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use strandline_core::metadata::ConfigResource;
use strandline_wire::{Api, KafkaError};

use super::Apis;
use super::config_resources::{self, Entry};
use super::text::text;

pub fn handle(apis: &Apis, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request
        .resources
        .iter()
        .map(|resource| {
            let result = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            match entries(apis, resource) {
                Ok(entries) => result.with_configs(
                    entries
                        .iter()
                        .map(|entry| {
                            describe(
                                entry,
                                request.include_synonyms,
                                request.include_documentation,
                            )
                        })
                        .collect(),
                ),
                Err((error, message)) => {
                    apis.count_error(Api::DescribeConfigs, error);
                    result
                        .with_error_code(error.code())
                        .with_error_message(Some(text(message)))
                }
            }
        })
        .collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn entries(
    apis: &Apis,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Entry>, (KafkaError, String)> {
    let image = apis.metadata.image();
    let parsed = config_resources::parse(
        resource.resource_type,
        &resource.resource_name,
        apis.config.node_id,
        &image,
    )?;
    let mut entries = match &parsed {
        ConfigResource::Topic(name) => {
            config_resources::topic_entries(&apis.config, &image, &image.configs.topic(name))
        }
        ConfigResource::Broker(_) | ConfigResource::ClusterDefault => {
            config_resources::broker_entries(&apis.config, &image, &parsed)
        }
    };
    if let Some(keys) = resource
        .configuration_keys
        .as_ref()
        .filter(|keys| !keys.is_empty())
    {
        entries.retain(|entry| keys.iter().any(|key| key.as_str() == entry.def.name));
    }
    Ok(entries)
}

fn describe(
    entry: &Entry,
    with_synonyms: bool,
    with_documentation: bool,
) -> DescribeConfigsResourceResult {
    let synonyms = if with_synonyms {
        entry
            .synonyms
            .iter()
            .map(|(name, value, source)| {
                DescribeConfigsSynonym::default()
                    .with_name(text(name.as_str()))
                    .with_value(config_resources::shown(entry, value))
                    .with_source(*source as i8)
            })
            .collect()
    } else {
        Vec::new()
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.def.name))
        .with_value(config_resources::shown(entry, &entry.value))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.is_sensitive())
        .with_synonyms(synonyms)
        .with_config_type(entry.kind())
        .with_documentation(with_documentation.then(|| text(entry.def.doc)))
}
