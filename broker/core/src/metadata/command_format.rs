//! The bytes of commands in the metadata log.
//!
//! A command is `kind: u8, version: u8, body`. The types are those of `codec`. A kind's body changes only under a new
//! version; old versions stay readable for as long as logs and snapshots of them may exist. All are at version 0:
//!
//! | kind | command             | body                                                                               |
//! |------|---------------------|------------------------------------------------------------------------------------|
//! | 1    | InitCluster         | cluster_id string, incarnation u32, features list of (string, i16)                 |
//! | 2    | RegisterBroker      | broker_id i32, incarnation_id uuid, endpoints list of (listener string, host string, port u16, security protocol u8), rack optional string |
//! | 3    | BrokerStarted       | broker_id i32, incarnation_id uuid                                                 |
//! | 4    | CreateTopics        | list of (name string, id uuid, assignments list of list of i32, configs list of (string, string)) |
//! | 5    | DeleteTopics        | list of id uuid                                                                    |
//! | 6    | CreatePartitions    | list of (topic_id uuid, count_before i32, assignments list of list of i32)         |
//! | 7    | AlterConfigs        | list of (resource, replace u8, set list of (string, string), delete list of string) |
//! | 8    | AllocateProducerIds | broker_id i32, count i32                                                           |
//! | 9    | ChangePartitions    | list of (topic_id uuid, partition i32, leader_epoch i32, partition_epoch i32, isr optional list of i32, leader optional i32) |
//! | 10   | RaiseIncarnation    | incarnation u32, next_producer_id_min i64                                          |
//!
//! A resource is `0, name string` (topic), `1, id i32` (broker) or `2` (the default of all brokers).

use super::codec::{FormatError, Reader, Writer};
use super::command::*;
use super::{BrokerEndpoint, ConfigResource, SecurityProtocol};

/// No command is larger. 20,000 partitions of three replicas in one command take less than 1 MiB.
pub const COMMAND_BYTES_MAX: usize = 16 << 20;

const VERSION: u8 = 0;

pub fn encode_command(command: &Command) -> Result<Vec<u8>, FormatError> {
    let mut w = Writer::default();
    w.u8(kind(command));
    w.u8(VERSION);
    match command {
        Command::InitCluster(c) => {
            w.string(&c.cluster_id);
            w.u32(c.incarnation);
            w.list(c.features.iter(), |w, (name, level)| {
                w.string(name);
                w.i16(*level);
            });
        }
        Command::RegisterBroker(c) => {
            w.i32(c.broker_id);
            w.uuid(&c.incarnation_id);
            write_endpoints(&mut w, &c.endpoints);
            w.optional(c.rack.as_ref(), |w, rack| w.string(rack));
        }
        Command::BrokerStarted(c) => {
            w.i32(c.broker_id);
            w.uuid(&c.incarnation_id);
        }
        Command::CreateTopics(c) => w.list(c.topics.iter(), |w, topic| {
            w.string(&topic.name);
            w.uuid(&topic.id);
            w.list(topic.assignments.iter(), |w, replicas| w.i32_list(replicas));
            w.string_map(&topic.configs);
        }),
        Command::DeleteTopics(c) => w.list(c.topic_ids.iter(), |w, id| w.uuid(id)),
        Command::CreatePartitions(c) => w.list(c.topics.iter(), |w, topic| {
            w.uuid(&topic.topic_id);
            w.i32(topic.count_before);
            w.list(topic.assignments.iter(), |w, replicas| w.i32_list(replicas));
        }),
        Command::AlterConfigs(c) => w.list(c.changes.iter(), |w, change| {
            write_resource(w, &change.resource);
            w.bool(change.replace);
            w.string_map(&change.set);
            w.list(change.delete.iter(), |w, name| w.string(name));
        }),
        Command::AllocateProducerIds(c) => {
            w.i32(c.broker_id);
            w.i32(c.count);
        }
        Command::ChangePartitions(c) => w.list(c.changes.iter(), |w, change| {
            w.uuid(&change.topic_id);
            w.i32(change.partition);
            w.i32(change.leader_epoch);
            w.i32(change.partition_epoch);
            w.optional(change.isr.as_ref(), |w, isr| w.i32_list(isr));
            w.optional(change.leader, Writer::i32);
        }),
        Command::RaiseIncarnation(c) => {
            w.u32(c.incarnation);
            w.i64(c.next_producer_id_min);
        }
    }
    match w.bytes.len() {
        bytes if bytes > COMMAND_BYTES_MAX => Err(FormatError::TooLarge {
            bytes,
            limit: COMMAND_BYTES_MAX,
        }),
        _ => Ok(w.bytes),
    }
}

pub fn decode_command(bytes: &[u8]) -> Result<Command, FormatError> {
    let mut r = Reader::new(bytes);
    let command = r.u8()?;
    if !(1..=10).contains(&command) {
        return Err(FormatError::UnknownCommand(command));
    }
    let version = r.u8()?;
    if version != VERSION {
        return Err(FormatError::UnknownCommandVersion { command, version });
    }
    let decoded = match command {
        1 => Command::InitCluster(InitCluster {
            cluster_id: r.arc_str()?,
            incarnation: r.u32()?,
            features: r.list(|r| Ok((r.arc_str()?, r.i16()?)))?,
        }),
        2 => Command::RegisterBroker(RegisterBroker {
            broker_id: r.i32()?,
            incarnation_id: r.uuid()?,
            endpoints: read_endpoints(&mut r)?,
            rack: r.optional(Reader::arc_str)?,
        }),
        3 => Command::BrokerStarted(BrokerStarted {
            broker_id: r.i32()?,
            incarnation_id: r.uuid()?,
        }),
        4 => Command::CreateTopics(CreateTopics {
            topics: r.list(|r| {
                Ok(NewTopic {
                    name: r.arc_str()?,
                    id: r.uuid()?,
                    assignments: r.list(Reader::i32_list)?,
                    configs: r.string_map()?,
                })
            })?,
        }),
        5 => Command::DeleteTopics(DeleteTopics {
            topic_ids: r.list(Reader::uuid)?,
        }),
        6 => Command::CreatePartitions(CreatePartitions {
            topics: r.list(|r| {
                Ok(NewPartitions {
                    topic_id: r.uuid()?,
                    count_before: r.i32()?,
                    assignments: r.list(Reader::i32_list)?,
                })
            })?,
        }),
        7 => Command::AlterConfigs(AlterConfigs {
            changes: r.list(|r| {
                Ok(ConfigChange {
                    resource: read_resource(r)?,
                    replace: r.bool()?,
                    set: r.string_map()?,
                    delete: r.list(Reader::string)?,
                })
            })?,
        }),
        8 => Command::AllocateProducerIds(AllocateProducerIds {
            broker_id: r.i32()?,
            count: r.i32()?,
        }),
        9 => Command::ChangePartitions(ChangePartitions {
            changes: r.list(|r| {
                Ok(PartitionChange {
                    topic_id: r.uuid()?,
                    partition: r.i32()?,
                    leader_epoch: r.i32()?,
                    partition_epoch: r.i32()?,
                    isr: r.optional(Reader::i32_list)?,
                    leader: r.optional(Reader::i32)?,
                })
            })?,
        }),
        10 => Command::RaiseIncarnation(RaiseIncarnation {
            incarnation: r.u32()?,
            next_producer_id_min: r.i64()?,
        }),
        other => return Err(FormatError::UnknownCommand(other)),
    };
    r.finish()?;
    Ok(decoded)
}

fn kind(command: &Command) -> u8 {
    match command {
        Command::InitCluster(_) => 1,
        Command::RegisterBroker(_) => 2,
        Command::BrokerStarted(_) => 3,
        Command::CreateTopics(_) => 4,
        Command::DeleteTopics(_) => 5,
        Command::CreatePartitions(_) => 6,
        Command::AlterConfigs(_) => 7,
        Command::AllocateProducerIds(_) => 8,
        Command::ChangePartitions(_) => 9,
        Command::RaiseIncarnation(_) => 10,
    }
}

pub(super) fn write_endpoints(w: &mut Writer, endpoints: &[BrokerEndpoint]) {
    w.list(endpoints.iter(), |w, endpoint| {
        w.string(&endpoint.listener);
        w.string(&endpoint.host);
        w.u16(endpoint.port);
        w.u8(endpoint.security_protocol.id());
    });
}

pub(super) fn read_endpoints(r: &mut Reader<'_>) -> Result<Vec<BrokerEndpoint>, FormatError> {
    r.list(|r| {
        Ok(BrokerEndpoint {
            listener: r.arc_str()?,
            host: r.arc_str()?,
            port: r.u16()?,
            security_protocol: SecurityProtocol::from_id(r.u8()?)
                .ok_or(FormatError::Invalid("security protocol"))?,
        })
    })
}

pub(super) fn write_resource(w: &mut Writer, resource: &ConfigResource) {
    match resource {
        ConfigResource::Topic(name) => {
            w.u8(0);
            w.string(name);
        }
        ConfigResource::Broker(id) => {
            w.u8(1);
            w.i32(*id);
        }
        ConfigResource::ClusterDefault => w.u8(2),
    }
}

pub(super) fn read_resource(r: &mut Reader<'_>) -> Result<ConfigResource, FormatError> {
    match r.u8()? {
        0 => Ok(ConfigResource::Topic(r.arc_str()?)),
        1 => Ok(ConfigResource::Broker(r.i32()?)),
        2 => Ok(ConfigResource::ClusterDefault),
        _ => Err(FormatError::Invalid("config resource")),
    }
}
