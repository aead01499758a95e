//! Members, an administrator and a failing log act at random from a seed; what must always hold is checked at each step.
//!
//! - Every request is answered exactly once (the bench), and none is open at the end, when all time-outs are over.
//! - No two members that hold an assignment of the same generation hold the same partition.
//! - Generations do not go back while the coordinator lives.
//! - The log, replayed into a new shard, gives the committed offsets, and for a stable group its members.
//! - The same seed gives the same effects.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError as KafkaError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{DeleteGroupsRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use super::bench::{Bench, GROUP, config, join_request, str_bytes};
use crate::group::{GroupConfig, GroupEvent, GroupRequest, GroupResponse};

const CLIENTS: usize = 5;
const PARTITIONS: usize = 8;
const STEPS: usize = 400;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What a client knows of itself.
#[derive(Clone, Debug, Default)]
struct Client {
    instance: Option<String>,
    member_id: String,
    generation: i32,
    /// The members, when it was told that it leads.
    led: Vec<String>,
    joining: Option<u64>,
    syncing: Option<u64>,
    committing: Option<(u64, i32, i64)>,
    assigned: Option<(i32, Vec<u8>)>,
}

struct World {
    bench: Bench,
    rng: Rng,
    clients: Vec<Client>,
    top_generation: i32,
    next_offset: i64,
    trace: Vec<String>,
}

fn new_clients() -> Vec<Client> {
    (0..CLIENTS)
        .map(|i| Client {
            instance: (i >= 3).then(|| format!("i{i}")),
            ..Client::default()
        })
        .collect()
}

impl World {
    fn new(seed: u64) -> Self {
        // Expiry would delete groups behind the world's back: that is left to its administrator.
        let mut bench = Bench::with(GroupConfig {
            offsets_retention_check_interval_ms: 1 << 40,
            ..config()
        });
        bench.auto_commit = false;
        Self {
            bench,
            rng: Rng(seed),
            clients: new_clients(),
            top_generation: 0,
            next_offset: 0,
            trace: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=9 => {
                let i = self.rng.below(CLIENTS);
                self.act(i);
            }
            10..=15 if !self.bench.in_flight.is_empty() => {
                if self.rng.one_in(12) {
                    self.bench.fail_one(KafkaError::NotEnoughReplicas);
                } else {
                    self.bench.commit_one();
                }
            }
            16 => {
                let i = self.rng.below(CLIENTS);
                self.forget(i);
            }
            17 if self.rng.one_in(4) => {
                let names = vec![GroupId(str_bytes(GROUP))];
                let request = DeleteGroupsRequest::default().with_groups_names(names);
                self.bench.send(2, GroupRequest::Delete(request));
                // A new group of that name counts from 1 again: what members hold of the old one is void.
                self.top_generation = 0;
                for client in &mut self.clients {
                    client.assigned = None;
                }
            }
            18 if self.rng.one_in(6) => self.bench.event(GroupEvent::TopicsDeleted {
                topics: vec!["t".to_owned()],
            }),
            _ => {
                let ms = self.rng.below(8_000) as i64;
                self.bench.pass(ms);
            }
        }
        self.take_replies();
        self.check();
    }

    /// The client's process dies: its requests go on without anyone to read the answers.
    fn forget(&mut self, i: usize) {
        let instance = self.clients[i].instance.clone();
        self.clients[i] = Client {
            instance,
            ..Client::default()
        };
    }

    fn act(&mut self, i: usize) {
        let client = self.clients[i].clone();
        if client.joining.is_some() || client.syncing.is_some() {
            return;
        }
        if client.generation == 0 {
            let request = join_request(&client.member_id, client.instance.as_deref(), &["range"]);
            self.clients[i].joining = Some(self.bench.join(9, request));
            return;
        }
        if client.assigned.is_none() {
            let assignments = assign(&client.led);
            let assignments: Vec<(&str, &'static str)> = assignments
                .iter()
                .map(|(member, parts)| (member.as_str(), *parts))
                .collect();
            let token = self
                .bench
                .sync(&client.member_id, client.generation, &assignments);
            self.clients[i].syncing = Some(token);
            return;
        }
        match self.rng.below(10) {
            0 => {
                self.bench
                    .leave(&client.member_id, client.instance.as_deref());
                self.forget(i);
            }
            1..=5 => {
                let error = self.bench.heartbeat(&client.member_id, client.generation);
                if error == KafkaError::RebalanceInProgress.code() {
                    self.clients[i].generation = 0;
                    self.clients[i].assigned = None;
                } else if error != 0 {
                    self.forget(i);
                }
            }
            _ if client.committing.is_none() => {
                self.next_offset += 1;
                let partition = self.rng.below(PARTITIONS) as i32;
                let offsets = [("t", partition, self.next_offset)];
                let token = self
                    .bench
                    .commit(9, &client.member_id, client.generation, &offsets);
                self.clients[i].committing = Some((token, partition, self.next_offset));
            }
            _ => {}
        }
    }

    fn take_replies(&mut self) {
        let mut replies = std::mem::take(&mut self.bench.replies);
        for token in std::mem::take(&mut self.bench.answered) {
            let Some(response) = replies.remove(&token) else {
                continue;
            };
            self.trace.push(format!("{token} {response:?}"));
            let Some(i) = self.clients.iter().position(|c| {
                c.joining == Some(token)
                    || c.syncing == Some(token)
                    || c.committing.is_some_and(|(t, ..)| t == token)
            }) else {
                continue;
            };
            let client = &mut self.clients[i];
            match response {
                GroupResponse::Join(r) => {
                    client.joining = None;
                    if r.error_code == 0 {
                        client.member_id = r.member_id.to_string();
                        client.generation = r.generation_id;
                        client.led = r.members.iter().map(|m| m.member_id.to_string()).collect();
                        if r.skip_assignment {
                            client.led.clear();
                        }
                        assert!(
                            r.generation_id >= self.top_generation,
                            "generation {} came after {}",
                            r.generation_id,
                            self.top_generation
                        );
                        self.top_generation = r.generation_id;
                    } else if r.error_code == KafkaError::MemberIdRequired.code() {
                        client.member_id = r.member_id.to_string();
                    } else if r.error_code == KafkaError::RebalanceInProgress.code() {
                        client.generation = 0;
                    } else {
                        self.forget(i);
                    }
                }
                GroupResponse::Sync(r) => {
                    client.syncing = None;
                    if r.error_code == 0 {
                        client.assigned = Some((client.generation, r.assignment.to_vec()));
                    } else if r.error_code == KafkaError::RebalanceInProgress.code() {
                        client.generation = 0;
                    } else {
                        self.forget(i);
                    }
                }
                GroupResponse::OffsetCommit(r) => {
                    if let Some((_, partition, offset)) = client.committing.take()
                        && r.topics[0].partitions[0].error_code == 0
                    {
                        self.check_committed(partition, offset);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// A commit that was acknowledged is in the log.
    fn check_committed(&mut self, partition: i32, offset: i64) {
        let key = crate::group::record::OffsetCommitKey {
            group: GROUP.to_owned(),
            topic: "t".to_owned(),
            partition,
        }
        .encode();
        let written = self.bench.log.iter().any(|record| {
            record.key == key
                && record.value.as_ref().is_some_and(|value| {
                    crate::group::record::OffsetCommitValue::decode(value).map(|v| v.offset)
                        == Ok(offset)
                })
        });
        assert!(
            written,
            "offset {offset} of partition {partition} was acknowledged"
        );
    }

    fn check(&self) {
        let mut holders: BTreeMap<(i32, u8), &str> = BTreeMap::new();
        for client in &self.clients {
            let Some((generation, parts)) = &client.assigned else {
                continue;
            };
            for part in parts {
                let other = holders.insert((*generation, *part), &client.member_id);
                assert!(
                    other.is_none_or(|other| other == client.member_id),
                    "partition {part} of generation {generation} has two holders"
                );
            }
        }
    }

    fn check_replay(&mut self) {
        let mut replayed = self.bench.replayed(config());
        assert_eq!(offsets(&mut replayed), offsets(&mut self.bench));
        let now = self.bench.describe(GROUP);
        if now.group_state.as_str() == "Stable" && self.bench.in_flight.is_empty() {
            assert_eq!(replayed.describe(GROUP), now);
        }
        self.bench.replies.clear();
    }

    /// Everyone is gone: all that waits is answered by time-outs.
    fn drain(&mut self) {
        self.bench.auto_commit = true;
        while !self.bench.in_flight.is_empty() {
            self.bench.commit_one();
        }
        self.bench.pass(30 * 60 * 1_000);
        assert!(self.bench.open.is_empty(), "{:?}", self.bench.open);
        let state = self.bench.state();
        assert!(state == "Empty" || state == "Dead", "{state}");
    }
}

/// Gives each partition to one member.
fn assign(members: &[String]) -> Vec<(String, &'static str)> {
    const ALL: &str = "01234567";
    if members.is_empty() {
        return Vec::new();
    }
    let share = PARTITIONS.div_ceil(members.len());
    members
        .iter()
        .enumerate()
        .map(|(i, member)| {
            let from = (i * share).min(PARTITIONS);
            let to = (from + share).min(PARTITIONS);
            (member.clone(), &ALL[from..to])
        })
        .collect()
}

fn offsets(bench: &mut Bench) -> Vec<(String, i32, i64)> {
    bench.fetch(GROUP)
}

fn run(seed: u64) -> Vec<String> {
    let mut world = World::new(seed);
    for step in 0..STEPS {
        world.step();
        if step % 40 == 0 {
            world.check_replay();
        }
    }
    world.drain();
    world.check_replay();
    world.trace
}

#[test]
fn invariants_hold_under_any_order_of_events() {
    for seed in 0..200 {
        let outcome = std::panic::catch_unwind(|| run(seed));
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn a_seed_can_be_replayed() {
    for seed in [3, 77] {
        assert_eq!(run(seed), run(seed));
    }
}

/// Hostile or confused requests in any order never panic and are always answered.
#[test]
fn nonsense_is_answered() {
    let mut rng = Rng(9);
    let mut b = Bench::new();
    b.stable_pair();
    for _ in 0..2_000 {
        let members: Vec<String> = {
            let described = b.describe(GROUP);
            let mut ids: Vec<String> = described
                .members
                .iter()
                .map(|m| m.member_id.to_string())
                .collect();
            ids.push(String::new());
            ids.push("x".to_owned());
            ids
        };
        let member = members[rng.below(members.len())].clone();
        let instance = rng.one_in(3).then_some("i1");
        match rng.below(7) {
            0 => {
                let mut request = join_request(&member, instance, &["range"]);
                request.rebalance_timeout_ms = [-5, 0, i32::MAX, i32::MIN][rng.below(4)];
                b.join(rng.below(10) as i16, request);
            }
            1 => {
                b.sync(&member, rng.below(4) as i32, &[("x", "?"), ("x", "!")]);
            }
            2 => {
                b.heartbeat(&member, i32::MIN);
            }
            3 => {
                b.leave(&member, instance);
            }
            4 => {
                b.commit(
                    rng.below(8) as i16 + 2,
                    &member,
                    rng.below(4) as i32 - 1,
                    &[("t", -1, i64::MIN)],
                );
            }
            5 => {
                let group =
                    OffsetFetchRequestGroup::default().with_group_id(GroupId(StrBytes::new()));
                b.send(
                    9,
                    GroupRequest::OffsetFetch {
                        group,
                        require_stable: false,
                    },
                );
            }
            _ => b.pass(rng.below(20_000) as i64),
        }
    }
    b.event(GroupEvent::Unload);
    assert!(b.open.is_empty());
}
