//! Object stores: one wrapper over a local folder and S3-compatible stores, with conditional writes.
//!
//! - [`RemoteStore`] is what everything else holds. It counts requests, maps errors by cause and adds the URL's prefix.
//! - [`FolderStore`] is a local folder with a real compare-and-swap and fsync.
//! - The S3 side is `object_store`'s client with credentials from aws-config's chain, loaded on first use. Large objects
//!   go up in one streamed request (`s3_put`).
//!
//! Always holds: opening a store touches neither disk nor network, so that a store that is away never prevents a start.
//! Nothing here retries a conditional write by itself beyond what the HTTP client does; the caller's nonces decide.

mod error;
mod folder_store;
mod metrics;
mod object_settings;
mod probe;
mod remote_store;
mod request_budget;
mod s3;
mod s3_credentials;
mod s3_put;
mod url;

pub use error::StoreError;
pub use folder_store::FolderStore;
pub use metrics::{Purpose, RequestClass, RequestCount, StoreMetrics};
pub use object_settings::ObjectSettings;
pub use remote_store::{ObjectInfo, RemoteStore, Version};
pub use request_budget::RequestBudgets;
pub use s3::{S3Options, install_tls_provider};
pub use s3_put::PutObject;
pub use url::StoreUrl;
