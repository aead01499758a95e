//! Random work on a log, against a list of records.

use super::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<u8>),
    Roll,
    Flush,
    Truncate(u8),
    StartAnew(u8),
    DeleteBelow(u8),
    Reopen(bool),
    /// A crash that tears the last bytes off that were not flushed.
    Tear(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(1_u8..8, 1..6).prop_map(Step::Append),
        2 => Just(Step::Roll),
        2 => Just(Step::Flush),
        2 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u8>().prop_map(Step::StartAnew),
        2 => any::<u8>().prop_map(Step::DeleteBelow),
        3 => any::<bool>().prop_map(Step::Reopen),
        2 => any::<u16>().prop_map(Step::Tear),
    ]
}

/// What the log must hold.
#[derive(Debug, Default)]
struct Model {
    start: Offset,
    /// Base offset and values, by batch.
    batches: Vec<(Offset, Vec<String>)>,
    next: Offset,
    written: u64,
}

impl Model {
    fn records(&self) -> Vec<(Offset, String)> {
        self.batches
            .iter()
            .flat_map(|(base, values)| {
                values
                    .iter()
                    .enumerate()
                    .map(move |(i, v)| (base + i as i64, v.clone()))
            })
            .filter(|(offset, _)| *offset >= self.start)
            .collect()
    }

    fn cut(&mut self, end: Offset) {
        self.batches
            .retain(|(base, values)| base + values.len() as i64 <= end);
        self.next = self
            .batches
            .last()
            .map_or(self.start.min(end), |(base, values)| {
                base + values.len() as i64
            });
    }
}

fn apply(log: Log, model: &mut Model, step: &Step) -> Log {
    match step {
        Step::Append(sizes) => {
            let mut appends = Vec::new();
            for size in sizes {
                let values: Vec<i64> = (0..*size)
                    .map(|_| {
                        model.written += 1;
                        model.written as i64
                    })
                    .collect();
                appends.push(batch_of(&values, BatchOptions::default()));
                let texts = values.iter().map(ToString::to_string).collect();
                model.batches.push((model.next, texts));
                model.next += i64::from(*size);
            }
            for answer in log.append_as_leader(&appends, 0, NOW) {
                answer.expect("appends");
            }
        }
        Step::Roll => {
            log.roll(NOW).expect("rolls");
        }
        Step::Flush => {
            log.flush().expect("flushes");
            assert_eq!(log.recovery_point(), log.log_end_offset());
        }
        Step::Truncate(at) => {
            let ends: Vec<_> = model.batches.iter().map(|(base, _)| *base).collect();
            if let Some(end) = ends.get(usize::from(*at) % ends.len().max(1))
                && *end > log.segments.first_base_offset()
            {
                log.truncate_to(*end, NOW).expect("cuts");
                model.start = model.start.min(*end);
                model.cut(*end);
                model.next = *end;
            }
        }
        Step::StartAnew(at) => {
            let offset = model.next + i64::from(*at);
            log.truncate_fully_and_start_at(offset, NOW)
                .expect("begins");
            model.batches.clear();
            model.start = offset;
            model.next = offset;
        }
        Step::DeleteBelow(at) => {
            log.set_high_watermark(log.log_end_offset());
            let span = model.next - model.start;
            let below = model.start + i64::from(*at) % (span + 1);
            log.increment_log_start_offset(below).expect("moves");
            log.delete_local_segments_below(below).expect("deletes");
            model.start = below.max(model.start);
        }
        Step::Reopen(clean) => return reopen(log, *clean).0,
        Step::Tear(bytes) => {
            let flushed = log.recovery_point();
            let active = log.segments.active();
            if active.base_offset() < flushed || active.size() == 0 {
                return log;
            }
            let cut = u64::from(*bytes) % active.size();
            let file = std::fs::File::options()
                .write(true)
                .open(active.path())
                .expect("opens");
            file.set_len(active.size() - cut).expect("cuts");
            let base = active.base_offset();
            drop(active);
            let log = reopen(log, false).0;
            assert!(log.log_end_offset() >= base);
            model.cut(log.log_end_offset());
            model.next = log.log_end_offset();
            return log;
        }
    }
    log
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_log_is_its_records(steps in prop::collection::vec(step(), 1..50)) {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut log = open(dir.path());
        let mut model = Model::default();
        for step in &steps {
            log = apply(log, &mut model, step);
            prop_assert_eq!(log.log_end_offset(), model.next, "after {:?}", step);
            prop_assert_eq!(log.log_start_offset(), model.start, "after {:?}", step);
        }
        prop_assert_eq!(records(&log, model.start), model.records());
        let log = reopen(log, false).0;
        prop_assert_eq!(records(&log, model.start), model.records());
        let log = reopen(log, true).0;
        prop_assert_eq!(records(&log, model.start), model.records());
        for segment in log.segments.snapshot().iter() {
            prop_assert!(segment.offset_index().is_sane(segment.size()).expect("reads"));
            prop_assert!(segment.time_index().is_sane(segment.next_offset()).expect("reads"));
        }
    }
}
