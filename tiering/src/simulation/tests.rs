//! Many seeds; the same seed twice; a planted bug for each invariant.

use super::RUNNING;
use super::checks::Checks;
use super::plant::{Plant, plant};
use super::store::Request;
use super::world::{Tiering, World, key};

const STEPS: usize = 400;
const SEEDS: u64 = 500;
const SEEDS_LONG: u64 = 10_000;
/// Steps between two readings of everything.
const THOROUGH_EVERY: usize = 25;

struct Outcome {
    trace: Vec<String>,
    failure: Option<String>,
    uploads: usize,
}

fn run(seed: u64) -> Outcome {
    RUNNING.set(true);
    let mut world = World::new(seed);
    let mut checks = Checks::default();
    let mut failure = None;
    for step in 0..STEPS {
        world.step();
        let thorough = step % THOROUGH_EVERY == 0;
        if let Err(why) = checks.check(&mut world, thorough) {
            failure = Some(format!("step {step}: {why}"));
            break;
        }
    }
    if failure.is_none() {
        world.heal();
        failure = checks.check(&mut world, true).err();
        if failure.is_none() && world.live_leader().is_none() {
            failure = Some("it does not heal: nobody leads".to_owned());
        }
        failure = failure.or_else(|| unmended(&world));
        if let Some((leader, log)) = world.live_leader()
            && let Some(manifest) = world.manifest()
            && manifest.end_offset() < log.active_segment_base_offset().min(log.high_watermark())
        {
            let status = leader.led.as_ref().map(|led| led.status());
            failure = failure.or(Some(format!(
                "it does not heal: the manifest ends at {}, the sealed log at {}: {status:?}",
                manifest.end_offset(),
                log.active_segment_base_offset()
            )));
        }
    }
    RUNNING.set(false);
    Outcome {
        uploads: world.manifest().map_or(0, |m| m.generation as usize),
        trace: world.trace,
        failure,
    }
}

/// What is lost was made again where the leader still had it, and is reported where not.
fn unmended(world: &World) -> Option<String> {
    let (_, log) = world.live_leader()?;
    let (start, manifest) = (log.local_log_start_offset(), world.manifest()?);
    manifest.entries.iter().find_map(|entry| {
        let key = entry.key(&key());
        let lost = world.rotten.contains(&key) && entry.end > manifest.log_start;
        let why = match (
            lost,
            start <= entry.start && log.log_start_offset() <= entry.start,
        ) {
            (true, true) => "was not made again",
            (true, false) if !entry.damaged => "is not reported",
            (false, _) if entry.damaged => "is reported as lost",
            _ => return None,
        };
        Some(format!("it does not heal: {key} {why}"))
    })
}

fn fail(seed: u64, outcome: &Outcome) {
    if let Some(failure) = &outcome.failure {
        let last = outcome.trace.len().saturating_sub(2_000);
        panic!(
            "seed {seed}: {failure}\n{}",
            outcome.trace[last..].join("\n")
        );
    }
}

#[test]
fn all_holds_whatever_fails() {
    let seeds = match std::env::var("TEST_STRANDLINE_LONG").is_ok() {
        true => SEEDS_LONG,
        false => SEEDS,
    };
    let first = std::env::var("TEST_STRANDLINE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let range = first.map_or(0..seeds, |seed: u64| seed..seed + 1);
    let mut edits = 0;
    for seed in range {
        let outcome = run(seed);
        fail(seed, &outcome);
        edits += outcome.uploads;
    }
    assert!(edits > 0, "the simulation did nothing");
    println!("{seeds} seeds, {edits} manifest edits");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..5 {
        let (one, other) = (run(seed), run(seed));
        assert!(one.trace.len() > STEPS / 2, "it did little");
        for (at, (a, b)) in one.trace.iter().zip(&other.trace).enumerate() {
            assert_eq!(a, b, "seed {seed}, line {at}");
        }
        assert_eq!(one.trace.len(), other.trace.len());
    }
}

/// Runs seeds until the planted bug shows, as a breach of this invariant.
fn catches(bug: Plant, invariant: &str) {
    plant(Some(bug));
    let found = (0..3_000).find_map(|seed| {
        let failure = run(seed).failure.filter(|why| why.contains(invariant))?;
        Some(format!("seed {seed}, {failure}"))
    });
    plant(None);
    let found = found.unwrap_or_else(|| panic!("{bug:?} was not caught as {invariant}"));
    println!("{bug:?}: {found}");
}

#[test]
fn a_planted_bug_of_each_kind_is_caught() {
    catches(Plant::UploadAboveHighWatermark, "I3");
    catches(Plant::DropBeforeUpload, "I4");
    catches(Plant::RemoveAfterUnknownOutcome, "I5");
    catches(Plant::TrustLocalLog, "I1");
    catches(Plant::IgnoreFence, "I6");
}

/// A leader's edit is still under way when it sweeps.
fn sweep_during_an_edit() -> Result<(), String> {
    RUNNING.set(true);
    let mut world = World::new(1);
    let mut checks = Checks::default();
    world.append(0);
    for id in [1, 2] {
        world.replicate(id);
    }
    world.commit();
    let log = world.brokers[0].log.clone().expect("it lives");
    log.roll(world.now_ms()).expect("rolls");
    world.take_turn(0);
    let mut swaps = 0;
    world.serve_all(|request| {
        let is_edit = matches!(request, Request::Put { key: k, .. } if *k == key().manifest_root());
        swaps += usize::from(is_edit);
        // The first creates the root, the second names the object; it is repeated, and all of that is late.
        is_edit && swaps > 1
    });
    assert!(swaps > 1, "{:?}", world.trace);
    // Nothing else is edited meanwhile that would be in the late edit's way.
    world.set_tiering(Tiering::CopyOff);
    world.wait_ms(1_000);
    for _ in 0..20 {
        world.wait_ms(200);
        world.take_turn(0);
        world.serve_all(|_| false);
        world.collect(0);
        world.serve_all(|_| false);
    }
    for _ in 0..3 {
        world.land_late();
    }
    let outcome = checks.check(&mut world, true);
    RUNNING.set(false);
    outcome
}

#[test]
fn a_sweep_raises_the_floor_before_it_deletes() {
    sweep_during_an_edit().expect("nothing named is deleted");
    plant(Some(Plant::SweepWithoutFloor));
    let caught = sweep_during_an_edit();
    plant(None);
    let caught = caught.expect_err("the planted bug was not caught");
    assert!(caught.starts_with("I5"), "{caught}");
    println!("{:?}: {caught}", Plant::SweepWithoutFloor);
}
