//! The cluster's metadata: what there is (the image), how it changes (commands), what a change did (the delta).
//!
//! The metadata log holds [`Command`]s. Every node applies the same commands in the same order to the same image with
//! [`apply`], so all images agree; a broker reconciles itself with the [`MetadataDelta`] of each command.
//!
//! What always holds:
//! - `apply` is pure and total: no clock, no randomness, no IO, no panic. Times and ids come inside the command, and
//!   whatever it iterates has an order.
//! - Whatever depends on the state is decided in `apply`, never before: the log decides between racing proposals.
//!   What needs choice (where replicas go) is decided by the proposer with a pure `plan_…` and written into the command.
//! - An image never changes. Its maps are shared, so that a clone is a few counters and a change copies a few chunks.
//! - Bytes in the log and in snapshots are ours, versioned, and pinned by golden tests: see `command_format` and
//!   `snapshot_format`.
//!
//! It does not know Raft, files or the network (the package `strandline-metadata` does), nor what a config means: the
//! server checks names and values before it proposes them.

mod apply;
mod brokers;
mod codec;
mod command;
mod command_format;
mod configs;
mod delta;
mod image;
mod outcome;
mod placement;
mod producer_ids;
mod shared_map;
mod snapshot_format;
mod topics;

pub use apply::{Applied, apply, first_leader_epoch, validate_new_topic, validate_topic_name};
pub use brokers::{BrokerEndpoint, BrokerId, BrokerRegistration, SecurityProtocol};
pub use codec::FormatError;
pub use command::{
    AllocateProducerIds, AlterConfigs, BrokerStarted, ChangePartitions, Command, ConfigChange,
    CreatePartitions, CreateTopics, DeleteTopics, InitCluster, NewPartitions, NewTopic,
    PartitionChange, RaiseIncarnation, RegisterBroker,
};
pub use command_format::{COMMAND_BYTES_MAX, decode_command, encode_command};
pub use configs::{ConfigResource, ConfigsImage};
pub use delta::{MetadataDelta, PartitionDelta};
pub use image::MetadataImage;
pub use outcome::{CommandOutcome, MetadataError, PartitionOutcome, TopicOutcome};
pub use placement::{plan_new_partitions, plan_placement};
pub use producer_ids::ProducerIdBlock;
pub use shared_map::SharedMap;
pub use snapshot_format::{decode_image, encode_image};
pub use topics::{NO_LEADER, PartitionImage, TopicImage, TopicsImage};

#[cfg(test)]
mod tests;
