//! The broker's configuration: Kafka's `server.properties`, joined with the environment and the command line.
//!
//! What always holds: every value has passed its definition's check; an unknown name or a wrong value stops the start
//! with a text that says what would be right; what Kafka knows and we do not need costs one warning.

mod broker_config;
mod defs;
mod environment;
mod ignored;
mod listener;
mod properties;
mod table;

pub use broker_config::{BrokerConfig, ConfigError, ConfigSources};
pub use listener::{Listener, ListenerError};
pub use table::ConfigTable;
