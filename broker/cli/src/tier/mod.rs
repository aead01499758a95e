//! `strandline tier`: what lies in the object store, whether it is whole, and what to do about it.

mod cost;
mod doctor;
mod inspect;
mod repair;
mod status;
mod undelete;
mod verify;
mod why;

use clap::{Args, Subcommand};
use strandline_tiering::BucketReader;
use strandline_tiering::bucket_reader::{BucketError, TopicInfo};

/// Look at the object store, check it, repair it
#[derive(Debug, Args)]
pub struct TierArguments {
    #[command(subcommand)]
    command: TierCommand,
}

#[derive(Debug, Subcommand)]
enum TierCommand {
    Status(status::StatusArguments),
    Why(why::WhyArguments),
    Inspect(inspect::InspectArguments),
    Verify(verify::VerifyArguments),
    Repair(repair::RepairArguments),
    Undelete(undelete::UndeleteArguments),
    Doctor(doctor::DoctorArguments),
}

pub fn run(arguments: &TierArguments) -> anyhow::Result<()> {
    match &arguments.command {
        TierCommand::Status(arguments) => status::run(arguments),
        TierCommand::Why(arguments) => why::run(arguments),
        TierCommand::Inspect(arguments) => inspect::run(arguments),
        TierCommand::Verify(arguments) => verify::run(arguments),
        TierCommand::Repair(arguments) => repair::run(arguments),
        TierCommand::Undelete(arguments) => undelete::run(arguments),
        TierCommand::Doctor(arguments) => doctor::run(arguments),
    }
}

/// The topics in the bucket, or the one that was asked for.
async fn topics(reader: &BucketReader, only: Option<&str>) -> anyhow::Result<Vec<TopicInfo>> {
    let mut topics = match reader.list_topics().await {
        Err(BucketError::Empty) => Vec::new(),
        other => other?,
    };
    if let Some(only) = only {
        topics.retain(|topic| topic.topic == only);
        anyhow::ensure!(!topics.is_empty(), "the store has no topic {only}");
    }
    Ok(topics)
}
