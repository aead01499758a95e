//! Overrides are set, deleted and replaced: AlterConfigs.

use std::collections::BTreeMap;

use crate::metadata::command::*;
use crate::metadata::{
    CommandOutcome, ConfigResource, MetadataDelta, MetadataError, MetadataImage,
};

pub(super) fn alter_configs(
    image: &mut MetadataImage,
    delta: &mut MetadataDelta,
    command: &AlterConfigs,
) -> CommandOutcome {
    let mut outcomes = Vec::with_capacity(command.changes.len());
    for change in &command.changes {
        let result = alter_resource(image, change).map(|changed| {
            if changed && !delta.configs_changed.contains(&change.resource) {
                delta.configs_changed.push(change.resource.clone());
            }
        });
        outcomes.push((change.resource.clone(), result));
    }
    CommandOutcome::Configs(outcomes)
}

fn alter_resource(image: &mut MetadataImage, change: &ConfigChange) -> Result<bool, MetadataError> {
    match &change.resource {
        ConfigResource::Topic(name) if image.topics.get(name).is_none() => {
            return Err(MetadataError::UnknownTopicOrPartition);
        }
        ConfigResource::Broker(id) if image.broker(*id).is_none() => {
            return Err(MetadataError::BrokerNotRegistered(*id));
        }
        _ => {}
    }
    let before = image.configs.overrides(&change.resource);
    let mut values = if change.replace {
        BTreeMap::new()
    } else {
        BTreeMap::clone(&before)
    };
    values.retain(|name, _| !change.delete.contains(name));
    values.extend(change.set.iter().map(|(k, v)| (k.clone(), v.clone())));
    if values == *before {
        return Ok(false);
    }
    image.configs.put(change.resource.clone(), values);
    Ok(true)
}
