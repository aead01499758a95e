//! Our own client, for what librdkafka has no words for.

use std::future::Future;

use strandline_client::{Admin, Client, ClientConfig, IsolationLevel, ListedOffset, OffsetSpec};

/// Runs a future to its end on a runtime of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

pub fn admin(bootstrap: &str) -> Admin {
    Admin::new(Client::new(ClientConfig::new([bootstrap])))
}

pub fn list_offset(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    spec: OffsetSpec,
) -> Option<ListedOffset> {
    block_on(async {
        admin(bootstrap)
            .list_offset(topic, partition, spec, IsolationLevel::ReadUncommitted)
            .await
            .unwrap_or_else(|error| panic!("{spec:?} of {topic}-{partition}: {error}"))
    })
}
