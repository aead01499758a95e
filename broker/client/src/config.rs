//! What a client is told once. Names and defaults are those of Kafka's clients where they have them.

use std::time::Duration;

/// How one connection behaves.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    pub client_id: String,
    pub connect_timeout: Duration,
    /// How long an answer may take. An overdue answer closes the connection.
    pub request_timeout: Duration,
    /// Requests sent and not answered.
    pub in_flight_max: usize,
    pub response_bytes_max: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            client_id: "strandline".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            in_flight_max: 64,
            response_bytes_max: 512 << 20,
        }
    }
}

/// How a client of a cluster behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of any brokers of the cluster.
    pub bootstrap_servers: Vec<String>,
    pub connection: ConnectionConfig,
    /// How long an operation is retried in total.
    pub default_api_timeout: Duration,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// Cached metadata is read again after this time.
    pub metadata_max_age: Duration,
    /// Whether asking for an unknown topic may create it.
    pub allow_auto_create_topics: bool,
}

impl ClientConfig {
    pub fn new(bootstrap_servers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into_iter().map(Into::into).collect(),
            connection: ConnectionConfig::default(),
            default_api_timeout: Duration::from_secs(60),
            retry_backoff: Duration::from_millis(20),
            retry_backoff_max: Duration::from_secs(1),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_create_topics: false,
        }
    }
}
