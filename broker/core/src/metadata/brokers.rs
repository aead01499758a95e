//! Brokers as they registered themselves.

use std::sync::Arc;

use uuid::Uuid;

pub type BrokerId = i32;

/// Kafka's `security.protocol`, with Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    pub const ALL: [Self; 4] = [
        Self::Plaintext,
        Self::Ssl,
        Self::SaslPlaintext,
        Self::SaslSsl,
    ];

    pub fn id(self) -> u8 {
        match self {
            Self::Plaintext => 0,
            Self::Ssl => 1,
            Self::SaslPlaintext => 2,
            Self::SaslSsl => 3,
        }
    }

    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.id() == id)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|p| p.name().eq_ignore_ascii_case(name))
    }
}

/// Where clients reach a broker through one of its listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerEndpoint {
    /// The listener's name: `PLAINTEXT`, `EXTERNAL`, ...
    pub listener: Arc<str>,
    pub host: Arc<str>,
    pub port: u16,
    pub security_protocol: SecurityProtocol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistration {
    pub broker_id: BrokerId,
    /// Drawn anew by each process: tells a restarted broker from the one before.
    pub incarnation_id: Uuid,
    /// The metadata offset of the registration. Rises with each, so that a request of an earlier process is told apart.
    pub broker_epoch: i64,
    pub endpoints: Vec<BrokerEndpoint>,
    pub rack: Option<Arc<str>>,
    /// A fenced broker leads nothing and is not shown to clients. A registration begins fenced.
    pub fenced: bool,
}

impl BrokerRegistration {
    pub fn endpoint(&self, listener: &str) -> Option<&BrokerEndpoint> {
        self.endpoints.iter().find(|e| &*e.listener == listener)
    }
}
