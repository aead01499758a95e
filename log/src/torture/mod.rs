//! A log under torture: random work, then a power loss, then everything that was promised is looked for.
//!
//! 1. A case is a seed. It lives a few lives of a log folder: appends, rolls, flushes, checkpoints, retention,
//!    truncation, clean restarts; each life ends with a crash, between two steps or in the middle of one.
//! 2. Every sync of the log is watched ([`crate::durable`]) and none is really done. [`disk::Disk`] notes what it made
//!    safe: a file's bytes, a folder's names.
//! 3. A crash leaves of all that was not safe any mixture: any byte length, pages that are old, new, zero or garbage,
//!    and names (created, removed, renamed) that made it or did not, in any order.
//! 4. The folder is opened again and held against [`model::Model`]: what was flushed is there, nothing that was never
//!    written is, offsets, producers, leader epochs and searches by time are right, and the log takes appends.
//!
//! One case again, by the seed that a failure prints:
//!
//! ```text
//! TEST_STRANDLINE_SEED=42 cargo test --release -p strandline-log --lib torture -- --nocapture
//! ```
//!
//! `TEST_STRANDLINE_LONG=1` goes on for an hour from a seed that the clock chooses; `TEST_STRANDLINE_CASES` sets how many.

#![allow(clippy::disallowed_methods)] // It runs for a while, so it looks at the clock.

mod case;
mod disk;
mod model;
mod random;

use std::time::{Duration, Instant};

/// In seconds on one core.
const SHORT: Duration = Duration::from_secs(15);
const CASES_SHORT: u64 = 4_000;
const LONG: Duration = Duration::from_secs(3_600);
/// Cases that have failed once, far behind those of the short form.
const FAILED_ONCE: [u64; 2] = [1_882_509_940_887_107, 1_882_509_159_699_268];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_flushed_is_lost_and_nothing_is_invented() {
    if let Some(seed) = number("TEST_STRANDLINE_SEED") {
        case::run(seed, true);
        return;
    }
    for seed in FAILED_ONCE {
        case::run(seed, false);
    }
    let long = std::env::var_os("TEST_STRANDLINE_LONG").is_some();
    let (limit, first) = if long {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (LONG, clock.map_or(0, |d| d.as_secs() << 20))
    } else {
        (SHORT, 0)
    };
    let cases =
        number("TEST_STRANDLINE_CASES").unwrap_or(if long { u64::MAX } else { CASES_SHORT });
    let begun = Instant::now();
    let mut totals = case::Totals::default();
    let mut done = 0;
    while done < cases && (begun.elapsed() < limit || number("TEST_STRANDLINE_CASES").is_some()) {
        let seed = first + done;
        match std::panic::catch_unwind(|| case::run(seed, false)) {
            Ok(case) => totals.add(&case),
            Err(_) => panic!(
                "case {seed} failed; again with: TEST_STRANDLINE_SEED={seed} cargo test --release -p strandline-log \
                 --lib torture -- --nocapture"
            ),
        }
        done += 1;
    }
    println!(
        "{done} cases from seed {first} in {:?}: {totals:?}",
        begun.elapsed()
    );
    // So that a change which makes the cases trivial is seen.
    assert!(
        totals.crashes_inside > done / 4 && totals.lost_batches > done / 4,
        "{totals:?}"
    );
    assert!(
        totals.verified_batches > done * 10 && totals.truncations > done / 10,
        "{totals:?}"
    );
}
