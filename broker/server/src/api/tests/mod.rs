//! The APIs over a real log, metadata quorum and folder store, without sockets: what the clients' tests cannot see or
//! reach easily. Whole conversations with real clients are in the package `tests`.

mod admin;
mod fetch;
mod groups;
mod harness;
mod produce;
mod versions;
