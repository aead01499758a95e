//! The broker's sockets: listeners, connections, request memory, and answers sent with sendfile.
//!
//! What always holds: memory is taken from a budget before a request's body is read; an idle connection owns no
//! buffer; a bad frame costs its connection and nothing else (I10).
//! What is not here: what requests mean (`api`), and how they are encoded (`strandline-wire`).

mod acceptor;
mod connection;
mod frame_reader;
mod memory_budget;
mod metrics;
mod network_threads;
mod request_metrics;
mod response_writer;
mod wake_relay;

pub use acceptor::{
    BindError, ConnectionMaxima, ConnectionQuotas, OverrideError, SocketOptions, bind,
    parse_overrides, serve, stop_signal,
};
pub use connection::{ConnectionContext, ConnectionLimits};
pub use memory_budget::MemoryBudget;
pub use metrics::{NetworkMetrics, register_budget};
pub use network_threads::NetworkThreads;
pub use request_metrics::{RequestMetrics, RequestTimes};
pub use response_writer::SENDFILE_BYTES_MIN;
