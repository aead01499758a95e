//! The bytes of a whole image.
//!
//! Version 0, with the types of `codec`; every list in order of its key:
//!
//! | field            | type                                                                                    |
//! |------------------|-----------------------------------------------------------------------------------------|
//! | magic            | `SLMI`                                                                                  |
//! | version          | u16                                                                                     |
//! | offset           | i64                                                                                     |
//! | cluster_id       | string                                                                                  |
//! | incarnation      | u32                                                                                     |
//! | next_producer_id | i64                                                                                     |
//! | features         | list of (name string, level i16)                                                        |
//! | brokers          | list of (broker_id i32, incarnation_id uuid, broker_epoch i64, endpoints as in RegisterBroker, rack optional string, fenced u8) |
//! | topics           | list of (name string, id uuid, partitions list of (replicas list of i32, isr list of i32, leader i32, leader_epoch i32, partition_epoch i32)) |
//! | configs          | list of (resource as in AlterConfigs, values list of (string, string))                  |
//!
//! Whoever stores it adds a checksum.

use std::sync::Arc;

use super::codec::{FormatError, Reader, Writer};
use super::command_format::{read_endpoints, read_resource, write_endpoints, write_resource};
use super::{BrokerRegistration, MetadataImage, PartitionImage, TopicImage};

const MAGIC: &[u8; 4] = b"SLMI";
const VERSION: u16 = 0;

pub fn encode_image(image: &MetadataImage) -> Vec<u8> {
    let mut w = Writer::default();
    w.bytes.extend_from_slice(MAGIC);
    w.u16(VERSION);
    w.i64(image.offset);
    w.string(&image.cluster_id);
    w.u32(image.incarnation);
    w.i64(image.next_producer_id);
    w.count(image.features.len());
    for (name, level) in image.features.iter() {
        w.string(name);
        w.i16(*level);
    }
    w.count(image.brokers.len());
    for (_, broker) in image.brokers.iter() {
        w.i32(broker.broker_id);
        w.uuid(&broker.incarnation_id);
        w.i64(broker.broker_epoch);
        write_endpoints(&mut w, &broker.endpoints);
        w.optional(broker.rack.as_ref(), |w, rack| w.string(rack));
        w.bool(broker.fenced);
    }
    w.count(image.topics.len());
    for topic in image.topics.iter() {
        w.string(&topic.name);
        w.uuid(&topic.id);
        w.list(topic.partitions.iter(), |w, partition| {
            w.i32_list(&partition.replicas);
            w.i32_list(&partition.isr);
            w.i32(partition.leader);
            w.i32(partition.leader_epoch);
            w.i32(partition.partition_epoch);
        });
    }
    w.count(image.configs.len());
    for (resource, values) in image.configs.iter() {
        write_resource(&mut w, resource);
        w.string_map(values);
    }
    w.bytes
}

pub fn decode_image(bytes: &[u8]) -> Result<MetadataImage, FormatError> {
    let mut r = Reader::new(bytes);
    if r.bytes(MAGIC.len())? != MAGIC {
        return Err(FormatError::NotASnapshot);
    }
    match r.u16()? {
        VERSION => {}
        other => return Err(FormatError::UnknownSnapshotVersion(other)),
    }
    let mut image = MetadataImage {
        offset: r.i64()?,
        cluster_id: r.arc_str()?,
        incarnation: r.u32()?,
        next_producer_id: r.i64()?,
        features: r.list(|r| Ok((r.arc_str()?, r.i16()?)))?,
        ..MetadataImage::default()
    };
    for _ in 0..r.count()? {
        let broker = BrokerRegistration {
            broker_id: r.i32()?,
            incarnation_id: r.uuid()?,
            broker_epoch: r.i64()?,
            endpoints: read_endpoints(&mut r)?,
            rack: r.optional(Reader::arc_str)?,
            fenced: r.bool()?,
        };
        image.brokers.insert(broker.broker_id, Arc::new(broker));
    }
    for _ in 0..r.count()? {
        let topic = TopicImage {
            name: r.arc_str()?,
            id: r.uuid()?,
            partitions: r.list(|r| read_partition(r).map(Arc::new))?,
        };
        if image.topics.get(&topic.name).is_some() || image.topics.get_by_id(&topic.id).is_some() {
            return Err(FormatError::Invalid("topic: named twice"));
        }
        image.topics.put(Arc::new(topic));
    }
    for _ in 0..r.count()? {
        let resource = read_resource(&mut r)?;
        image.configs.put(resource, r.string_map()?);
    }
    r.finish()?;
    Ok(image)
}

fn read_partition(r: &mut Reader<'_>) -> Result<PartitionImage, FormatError> {
    Ok(PartitionImage {
        replicas: r.i32_list()?.into(),
        isr: r.i32_list()?.into(),
        leader: r.i32()?,
        leader_epoch: r.i32()?,
        partition_epoch: r.i32()?,
    })
}
