//! The finished binary under test, a module per subject.

mod bench;
mod clients;
mod crash;
mod demo;
mod docs;
mod export;
mod frames;
mod imports;
mod kafka_tools;
mod librdkafka;
mod protocol;
mod sendfile;
mod start;
mod strandline;
mod tier;
