use kafka_protocol::ResponseError as KafkaError;

use super::bench::{Bench, GROUP, SESSION_MS, config, join_request};
use crate::group::{GroupConfig, ReplayError};

#[test]
fn nobody_is_served_before_the_log_is_read() {
    let mut b = Bench::loading(config());
    let token = b.join(9, join_request("", None, &["range"]));
    assert_eq!(
        b.joined(token).error_code,
        KafkaError::CoordinatorLoadInProgress.code()
    );
    let token = b.commit(9, "", -1, &[("t", 0, 5)]);
    assert_eq!(
        b.commit_error(token),
        KafkaError::CoordinatorLoadInProgress.code()
    );
    assert_eq!(b.heartbeat("m", 1), 0, "a heartbeat is let pass");
    assert_eq!(
        b.describe(GROUP).error_code,
        KafkaError::CoordinatorLoadInProgress.code()
    );
    b.shard.finish_replay(0);
    let token = b.commit(9, "", -1, &[("t", 0, 5)]);
    assert_eq!(b.commit_error(token), 0);
}

#[test]
fn a_stable_group_goes_on_after_a_restart_with_fresh_sessions() {
    let mut b = Bench::new();
    let (a, c) = b.stable_pair();
    b.commit(9, &a, 2, &[("t", 0, 5)]);
    b.pass(i64::from(SESSION_MS) - 1);
    let mut r = b.replayed(config());
    assert_eq!(r.describe(GROUP), b.describe(GROUP));
    r.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(r.heartbeat(&a, 2), 0);
    r.pass(1);
    assert_eq!(r.heartbeat(&c, 2), KafkaError::UnknownMemberId.code());
    assert_eq!(r.fetch(GROUP), vec![("t".to_owned(), 0, 5)]);
}

#[test]
fn a_group_above_a_lowered_limit_rebalances() {
    let mut b = Bench::new();
    let (a, c) = b.stable_pair();
    let mut r = b.replayed(GroupConfig {
        max_size: 1,
        ..config()
    });
    assert_eq!(r.state(), "PreparingRebalance");
    let first = r.join(9, join_request(&c, None, &["range"]));
    let second = r.join(9, join_request(&a, None, &["range"]));
    assert_eq!(
        r.joined(second).error_code,
        KafkaError::GroupMaxSizeReached.code()
    );
    r.pass(i64::from(super::bench::REBALANCE_MS));
    assert_eq!(r.joined(first).members.len(), 1);
}

#[test]
fn unreadable_records_change_nothing_and_unknown_kinds_are_skipped() {
    let mut b = Bench::loading(config());
    let r = &mut b.shard;
    assert_eq!(r.replay(b"", None), Err(ReplayError::Truncated));
    assert_eq!(r.replay(b"\x00\x03\x00\x01g", Some(b"\x00\x00")), Ok(()));
    assert_eq!(
        r.replay(b"\x00\x02\x00\x01g", Some(b"\x00")),
        Err(ReplayError::Truncated)
    );
    assert_eq!(
        r.replay(b"\x00\x01\x00\x01g\x00\x01t\0\0\0\0", Some(b"\x00\x09")),
        Err(ReplayError::UnknownVersion {
            record: "OffsetCommitValue",
            version: 9
        })
    );
    assert_eq!(r.group_count(), 0);
}
