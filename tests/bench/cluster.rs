//! What a row prepares and asks with strandline-client: topics, ids, offsets.

#![allow(clippy::disallowed_methods)] // A driver waits with deadlines.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use strandline_client::{
    Admin, Client, ClientConfig, ConfigResource, Connection, ConnectionConfig, NewTopic,
};
use strandline_log::TopicId;
use tokio::runtime::Runtime;

const SERVING_DEADLINE: Duration = Duration::from_secs(120);
const GONE_DEADLINE: Duration = Duration::from_secs(30);
const LATEST: i64 = -1;

pub struct Cluster {
    runtime: Runtime,
    admin: Admin,
    address: String,
}

impl Cluster {
    pub fn new(port: u16) -> anyhow::Result<Cluster> {
        let address = format!("127.0.0.1:{port}");
        Ok(Cluster {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            admin: Admin::new(Client::new(ClientConfig::new([address.clone()]))),
            address,
        })
    }

    /// Creates a topic and waits until all its partitions are served.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> anyhow::Result<TopicId> {
        let mut topic = NewTopic::new(name, partitions);
        for (key, value) in configs {
            topic = topic.config(*key, *value);
        }
        let id = self
            .runtime
            .block_on(self.admin.create_topic(&topic))
            .with_context(|| format!("creating {name}"))?;
        self.wait_until_served(name, partitions)?;
        Ok(id)
    }

    /// Changes one config of a topic.
    pub fn alter_topic(&self, name: &str, config: &str, value: &str) -> anyhow::Result<()> {
        let topic = ConfigResource::topic(name);
        self.runtime
            .block_on(self.admin.alter_configs(&topic, &[(config, Some(value))]))
            .with_context(|| format!("altering {config} of {name}"))
    }

    /// Deletes a topic. Brokers remove the files later, each at its own time; they are emptied here once they are renamed
    /// for deletion, so that no row pays for writing out what another left behind.
    pub fn delete_topic(&self, name: &str, data: &Path) -> anyhow::Result<()> {
        self.runtime
            .block_on(self.admin.delete_topic(name))
            .with_context(|| format!("deleting {name}"))?;
        let end = Instant::now() + GONE_DEADLINE;
        while !empty_deleted(name, data)? {
            ensure!(Instant::now() < end, "the files of {name} are still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until each partition of a topic answers ListOffsets, and returns the end offsets.
    pub fn wait_until_served(&self, name: &str, partitions: i32) -> anyhow::Result<Vec<i64>> {
        let end = Instant::now() + SERVING_DEADLINE;
        self.runtime.block_on(async {
            let mut connection: Option<Connection> = None;
            loop {
                let asked = async {
                    let open = match connection.take().filter(|open| !open.is_closed()) {
                        Some(open) => open,
                        None => {
                            Connection::open(&self.address, ConnectionConfig::default()).await?
                        }
                    };
                    let response = open.send(&list_offsets(name, partitions)).await?;
                    connection = Some(open);
                    let partitions = response
                        .topics
                        .into_iter()
                        .flat_map(|topic| topic.partitions);
                    partitions
                        .map(|partition| match partition.error_code {
                            0 => Ok(partition.offset),
                            code => bail!("{:?}", strandline_wire::error_from_code(code)),
                        })
                        .collect::<anyhow::Result<Vec<i64>>>()
                };
                match asked.await {
                    Ok(offsets) if offsets.len() == partitions as usize => return Ok(offsets),
                    other if Instant::now() > end => bail!("{name} is not served: {other:?}"),
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        })
    }
}

/// Empties the log files of a topic's folders that are renamed for deletion; whether no other folder of it is left.
fn empty_deleted(name: &str, data: &Path) -> anyhow::Result<bool> {
    let mut is_gone = true;
    for entry in std::fs::read_dir(data).context("the log folder")? {
        let path = entry?.path();
        let folder = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(rest) = folder.strip_prefix(name) else {
            continue;
        };
        // Folders of deleted partitions are called topic-partition.id-delete.
        if rest.ends_with("-delete") {
            // A file or folder that is removed meanwhile is what is wanted.
            for file in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                if file.file_name().to_string_lossy().contains(".log") {
                    let _ = File::options().write(true).truncate(true).open(file.path());
                }
            }
        } else if rest.starts_with('-') {
            is_gone = false;
        }
    }
    Ok(is_gone)
}

fn list_offsets(name: &str, partitions: i32) -> ListOffsetsRequest {
    let wanted = (0..partitions).map(|partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(LATEST)
    });
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(name.to_owned())))
        .with_partitions(wanted.collect());
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic])
}
