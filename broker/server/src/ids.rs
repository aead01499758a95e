//! Ids and seeds that the broker draws. Everything below the drivers takes them as arguments.

#![allow(clippy::disallowed_methods)] // The one place of the server that draws randomness.

use strandline_log::TopicId;
use uuid::Uuid;

/// A topic's id. Kafka's text form of an id must not begin with a dash: tools would take it for an option.
pub fn new_topic_id() -> TopicId {
    loop {
        let id = Uuid::new_v4();
        if !strandline_log::uuid_to_base64(&id).starts_with('-') {
            return id;
        }
    }
}

pub fn new_uuid() -> Uuid {
    Uuid::new_v4()
}

/// Any number: spreads placements.
pub fn seed() -> u64 {
    rand::random()
}

pub fn any_i32() -> i32 {
    rand::random()
}

/// For a random source that a component draws from by itself.
pub fn new_seed() -> [u8; 32] {
    rand::random()
}
