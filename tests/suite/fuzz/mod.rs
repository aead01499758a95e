//! Damaged input of every kind: requests, batches, files, and whole sessions of real clients against the live broker.
//!
//! What is damaged was real: `tests/corpus/sessions` holds what clients sent through the recorder. Each run takes its
//! seeds from TEST_STRANDLINE_SEED or from the clock, and prints them. TEST_STRANDLINE_LONG=1 runs for half an hour.

mod batches;
mod corpus;
mod files;
mod live;
mod mutator;
mod tier;

use std::time::Duration;

use strandline_tests::now_ms;

use mutator::Mutator;

/// How long one of the fuzzing tests goes on.
fn patience(short: Duration, long: Duration) -> Duration {
    match std::env::var_os("TEST_STRANDLINE_LONG") {
        Some(_) => long,
        None => short,
    }
}

/// The run's seed, printed so that it can be run again.
fn seed(what: &str) -> u64 {
    let given = std::env::var("TEST_STRANDLINE_SEED").ok();
    let seed = given.map_or(now_ms() as u64, |seed| seed.parse().expect("a number"));
    println!("{what}: TEST_STRANDLINE_SEED={seed}");
    seed
}
