//! What happens when: tasks run on until their next request, requests meet their fate, and the seed says what is next.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};

use rand::RngExt;

use super::super::store::{Fate, Request};
use super::{BROKERS, Tiering, World};

/// Something that runs in a broker's process until its next request.
pub struct Task {
    pub process: u64,
    pub what: &'static str,
    pub future: Pin<Box<dyn Future<Output = String>>>,
}

impl World {
    pub(super) fn spawn(
        &mut self,
        id: usize,
        what: &'static str,
        future: impl Future<Output = String> + 'static,
    ) {
        self.note(format!("broker {id} begins to {what}"));
        self.spawn_as(self.brokers[id].process, what, future);
    }

    pub(super) fn spawn_as(
        &mut self,
        process: u64,
        what: &'static str,
        future: impl Future<Output = String> + 'static,
    ) {
        self.tasks.push(Task {
            process,
            what,
            future: Box::pin(future),
        });
        self.poll_all();
    }

    /// Every task runs on until it waits for the store.
    fn poll_all(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut at = 0;
        while at < self.tasks.len() {
            let task = &mut self.tasks[at];
            match task.future.as_mut().poll(&mut context) {
                Poll::Pending => at += 1,
                Poll::Ready(outcome) => {
                    let task = self.tasks.remove(at);
                    self.on_done(&task, outcome);
                    // It may have held what another waits for.
                    at = 0;
                }
            }
        }
    }

    fn on_done(&mut self, task: &Task, outcome: String) {
        self.note(format!(
            "{} of process {}: {outcome}",
            task.what, task.process
        ));
        if task.what != "settle" {
            return;
        }
        let epoch = self.epoch;
        let Some(id) = self.brokers.iter().position(|b| b.process == task.process) else {
            return;
        };
        let broker = &mut self.brokers[id];
        if !outcome.starts_with("Ok") || broker.led.is_none() || broker.epoch != epoch {
            return;
        }
        let Some(log) = &broker.log else { return };
        broker.settled = true;
        log.assign_epoch(epoch).expect("assigns");
        self.forget_limbo();
    }

    fn is_busy(&self, id: usize, what: &str) -> bool {
        let process = self.brokers[id].process;
        self.tasks
            .iter()
            .any(|task| task.process == process && task.what == what)
    }

    pub fn take_turn(&mut self, id: usize) {
        let broker = &self.brokers[id];
        let Some(remote) = broker.led.clone() else {
            return;
        };
        if !broker.settled {
            if !self.is_busy(id, "settle") {
                let now_ms = self.now_ms();
                let task = async move { format!("{:?}", remote.settle(now_ms).await) };
                self.spawn(id, "settle", task);
            }
        } else if !self.is_busy(id, "turn") {
            let task = async move {
                remote.take_turn().await;
                let status = remote.status();
                format!("{:?} {:?}", status.state, status.last_error)
            };
            self.spawn(id, "turn", task);
        }
    }

    pub fn collect(&mut self, id: usize) {
        let broker = &self.brokers[id];
        let Some(tier) = broker.tier.clone() else {
            return;
        };
        let core = Arc::clone(tier.core());
        if let Ok(removal) = core.garbage.pop(self.now_ms()) {
            let task = async move {
                let what = format!("{:?}", removal.what);
                core.remove(removal).await;
                what
            };
            self.spawn(id, "removal", task);
        }
    }

    /// Requests are answered until nobody asks any more; the first that `late` knows lands late.
    pub fn serve_all(&mut self, mut late: impl FnMut(&Request) -> bool) {
        loop {
            let fate = match self.store.lock().pending.first() {
                None => return,
                Some(pending) if late(&pending.request) => Fate::Late,
                Some(_) => Fate::Done,
            };
            let served = self.store.lock().serve(0, fate);
            self.note(served);
            self.poll_all();
        }
    }

    pub fn wait_ms(&mut self, ms: i64) {
        let now_ms = self.now_ms.fetch_add(ms, Ordering::Relaxed) + ms;
        self.store.lock().now_ms = now_ms;
    }

    fn serve(&mut self) {
        let waiting = self.store.lock().pending.len();
        if waiting == 0 {
            return;
        }
        let at = self.rng.random_range(0..waiting);
        let fate = match self.rng.random_range(0..40) {
            _ if self.healing => Fate::Done,
            0 => Fate::LostBefore,
            1 => Fate::LostAfter,
            2 => Fate::Retried,
            3..5 => Fate::Late,
            5 => Fate::Duplicated,
            _ => Fate::Done,
        };
        let served = self.store.lock().serve(at, fate);
        self.note(served);
        self.poll_all();
    }

    pub fn land_late(&mut self) {
        let mut state = self.store.lock();
        if state.late.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..state.late.len());
        let request = state.late.remove(at);
        let done = state.apply(&request).is_ok();
        drop(state);
        self.note(format!("{request} lands late: {done}"));
    }

    pub fn step(&mut self) {
        let moved = self.rng.random_range(0..20);
        self.now_ms.fetch_add(moved, Ordering::Relaxed);
        self.store.lock().now_ms = self.now_ms();
        let id = self.rng.random_range(0..BROKERS);
        match self.rng.random_range(0..105) {
            0..12 => {
                if self.believes_to_lead(id) {
                    self.append(id);
                }
            }
            12..22 => self.replicate(id),
            22..30 => self.commit(),
            30..34 => {
                if let Some(log) = &self.brokers[id].log
                    && log.active_segment_base_offset() < log.log_end_offset()
                {
                    log.roll(self.now_ms()).expect("rolls");
                }
            }
            34..44 => {
                self.retain_untiered(id);
                self.take_turn(id);
            }
            44..82 => self.serve(),
            82..85 => self.land_late(),
            85..89 => self.collect(id),
            89..91 => {
                if self.leader != Some(id) {
                    self.notice(id);
                }
            }
            91..94 => self.rule(),
            94..96 => {
                if self.brokers[id].log.is_some() {
                    self.crash(id);
                }
            }
            96..98 => self.restart(id),
            98 => {
                let broker = &mut self.brokers[id];
                if let Some(log) = &broker.log {
                    broker.log_start_checkpoint = log.log_start_offset();
                }
            }
            99 => self.delete_records(),
            104 => {
                if self.chance(3) {
                    self.lose_root();
                }
            }
            103 => {
                if self.chance(3) {
                    self.rot();
                }
            }
            102 => self.accept_losses(),
            _ => {
                if self.chance(3) {
                    self.switch();
                }
            }
        }
    }

    /// No faults any more: a leader is found, uploads everything that is sealed, and followers catch up.
    pub fn heal(&mut self) {
        for id in 0..BROKERS {
            self.restart(id);
        }
        while !self.store.lock().late.is_empty() {
            self.land_late();
        }
        if self.leader.is_none() {
            self.rule();
        }
        let leader = self.leader.expect("somebody is in sync and alive");
        for id in 0..BROKERS {
            if id != leader {
                self.notice(id);
            }
        }
        self.note("all heals".to_owned());
        self.set_tiering(Tiering::On);
        self.healing = true;
        for _ in 0..60 {
            self.now_ms.fetch_add(100, Ordering::Relaxed);
            self.take_turn(leader);
            while !self.store.lock().pending.is_empty() {
                self.serve();
            }
            for id in 0..BROKERS {
                self.replicate(id);
                self.collect(id);
            }
            self.commit();
        }
    }
}
