//! A manifest with small pages in a store, against a plain list of entries.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Append { length: i64, timestamp: i64 },
    Gap { length: i64 },
    Advance { part: f64 },
    Remove { entries_max: usize },
    Forget,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20i64, 0..100i64).prop_map(|(length, timestamp)| Step::Append { length, timestamp }),
        1 => (1..10i64).prop_map(|length| Step::Gap { length }),
        2 => (0.0..1.1).prop_map(|part| Step::Advance { part }),
        2 => (1..6usize).prop_map(|entries_max| Step::Remove { entries_max }),
        1 => Just(Step::Forget),
    ]
}

#[derive(Default)]
struct Model {
    log_start: i64,
    end: i64,
    entries: Vec<ManifestEntry>,
}

impl Model {
    fn lookup(&self, offset: i64) -> Option<&ManifestEntry> {
        self.entries
            .iter()
            .find(|e| e.start <= offset && offset < e.end)
    }
}

async fn run(steps: Vec<Step>) {
    let store = RemoteStore::from_object_store(
        std::sync::Arc::new(object_store::memory::InMemory::new()),
        "",
        StoreMetrics::unregistered(),
    );
    let fence = Fence::new(1, 0);
    let manifests = manifest_store(&store, 1);
    manifests.claim(fence, 0).await.expect("creates");
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append { length, timestamp } => {
                let entry = ManifestEntry {
                    max_timestamp: timestamp,
                    ..entry(model.end, model.end + length)
                };
                model.end += length;
                model.entries.push(entry.clone());
                let edit = Edit::Append {
                    entry,
                    epochs: Vec::new(),
                };
                manifests
                    .edit(fence, |_| Ok(vec![edit.clone()]))
                    .await
                    .expect("appends");
            }
            Step::Gap { length } => {
                model.end += length;
                let end = model.end;
                let edit = Edit::RecordGap {
                    end,
                    cause: GapCause::TieringOff,
                };
                manifests
                    .edit(fence, |_| Ok(vec![edit.clone()]))
                    .await
                    .expect("records");
            }
            Step::Advance { part } => {
                let span = (model.end - model.log_start) as f64;
                let offset = model.log_start + (span * part) as i64;
                model.log_start = model.log_start.max(offset);
                model.end = model.end.max(model.log_start);
                manifests
                    .edit(fence, |_| Ok(vec![Edit::AdvanceLogStart { offset }]))
                    .await
                    .expect("advances");
            }
            Step::Remove { entries_max } => {
                let manifest = manifests.current().await.expect("there");
                let planned = manifests
                    .plan_remove_expired(&manifest, entries_max)
                    .await
                    .expect("plans");
                let expired = model
                    .entries
                    .iter()
                    .take_while(|e| e.end <= model.log_start);
                let expected: Vec<_> = expired.take(entries_max).cloned().collect();
                let Some(planned) = planned else {
                    assert_eq!(expected, []);
                    continue;
                };
                assert_eq!(planned.entries, expected);
                manifests
                    .edit(fence, |_| Ok(vec![planned.edit.clone()]))
                    .await
                    .expect("removes");
                model.entries.drain(..expected.len());
            }
            Step::Forget => manifests.forget(),
        }
        check(&manifests, &model).await;
    }
}

async fn check(manifests: &ManifestStore, model: &Model) {
    let cached = manifests.current().await.expect("there");
    let m = manifests.load().await.expect("loads").expect("there");
    assert_eq!(cached, m, "what is in the store is what was remembered");
    assert_eq!(m.check(), Ok(()));
    assert_eq!((m.log_start, m.end), (model.log_start, model.end));
    assert!(m.entries.len() <= 3);
    assert_eq!(m.entry_count(), model.entries.len() as u64);
    assert_eq!(
        m.bytes_total(),
        model.entries.iter().map(|e| e.bytes).sum::<u64>()
    );
    let retained = model.entries.iter().filter(|e| e.end > model.log_start);
    assert_eq!(
        manifests.retained_bytes(&m).await.expect("counts"),
        retained.clone().map(|e| e.bytes).sum::<u64>()
    );
    for offset in model.log_start - 1..=model.end {
        let found = manifests.entry_for(&m, offset).await.expect("looks up");
        match (found, model.lookup(offset)) {
            (Lookup::BelowStart { .. }, _) => assert!(offset < model.log_start),
            (Lookup::AtEnd { .. }, _) => assert!(offset >= model.end),
            (Lookup::Entry(found), Some(expected)) => assert_eq!(&found, expected),
            (Lookup::Gap(gap), None) => {
                assert!(gap.start <= offset && offset < gap.end);
                assert_ne!(gap.cause, GapCause::LossAccepted, "it is on record");
            }
            (found, expected) => panic!("offset {offset}: {found:?}, expected {expected:?}"),
        }
    }
    for timestamp in [0, 50, 99, 200] {
        let found = manifests
            .entry_for_timestamp(&m, timestamp)
            .await
            .expect("looks up");
        let expected = retained.clone().find(|e| e.max_timestamp >= timestamp);
        assert_eq!(found.as_ref(), expected, "timestamp {timestamp}");
    }
    let middle = (model.log_start + model.end) / 2;
    let found = manifests
        .entries_from(&m, middle, 5)
        .await
        .expect("looks up");
    let expected = model.entries.iter().filter(|e| e.end > middle);
    assert_eq!(found, expected.take(5).cloned().collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn lookups_agree_with_a_plain_list(steps in prop::collection::vec(any_step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(run(steps));
    }
}
