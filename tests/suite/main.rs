//! The finished binary under test, a module per subject.

mod bench;
mod clients;
mod compaction;
mod crash;
mod demo;
mod disk_full;
mod docs;
mod export;
mod frames;
mod fuzz;
mod imports;
mod kafka_tools;
mod librdkafka;
mod limits;
mod metrics;
mod protocol;
mod raw;
mod sendfile;
mod start;
mod store_away;
mod store_faults;
mod strandline;
mod stuck;
mod syscalls;
mod tier;
mod tier_recovery;
