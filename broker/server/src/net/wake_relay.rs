//! Wakes from other threads, gathered for a network thread: one interrupts its wait, and brings all.
//!
//! Whoever writes for many connections (an append thread, another network thread) wakes each of them. Waking a task of
//! another thread's runtime costs a system call every time; through the relay only the first one does, until the thread
//! has come to look.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

use parking_lot::Mutex;

/// Of one network thread.
#[derive(Debug)]
pub struct WakeRelay {
    thread: ThreadId,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waker>,
    /// Of the thread's own task that passes them on.
    thread: Option<Waker>,
}

impl WakeRelay {
    /// For the thread that calls it.
    pub fn of_this_thread() -> Arc<Self> {
        Arc::new(Self {
            thread: std::thread::current().id(),
            state: Mutex::default(),
        })
    }

    /// A waker that does what `task`, a waker of a task on this relay's thread, does.
    pub fn waker(self: &Arc<Self>, task: &Waker) -> Waker {
        Waker::from(Arc::new(Relayed {
            task: task.clone(),
            relay: Arc::clone(self),
        }))
    }

    fn push(&self, task: &Waker) {
        let mut state = self.state.lock();
        state.waiting.push(task.clone());
        let is_first = state.waiting.len() == 1;
        let thread = is_first.then(|| state.thread.clone()).flatten();
        drop(state);
        if let Some(thread) = thread {
            thread.wake();
        }
    }

    /// Passes on what has gathered. Never ready; to be polled by a task of the thread.
    pub fn poll(&self, thread: &Context<'_>) -> Poll<()> {
        let waiting = {
            let mut state = self.state.lock();
            match &mut state.thread {
                Some(waker) => waker.clone_from(thread.waker()),
                none => *none = Some(thread.waker().clone()),
            }
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
        Poll::Pending
    }
}

struct Relayed {
    task: Waker,
    relay: Arc<WakeRelay>,
}

impl Wake for Relayed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::current().id() == self.relay.thread {
            self.task.wake_by_ref();
        } else {
            self.relay.push(&self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counter {
        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn wakes_of_other_threads_interrupt_once_and_all_arrive() {
        let relay = WakeRelay::of_this_thread();
        let (thread, task) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
        let thread_waker = Waker::from(Arc::clone(&thread));
        let context = Context::from_waker(&thread_waker);
        let waker = relay.waker(&Waker::from(Arc::clone(&task)));
        assert!(relay.poll(&context).is_pending());
        for round in 1..3 {
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| waker.wake_by_ref());
                }
            });
            assert_eq!((thread.count(), task.count()), (round, (round - 1) * 3));
            assert!(relay.poll(&context).is_pending());
            assert_eq!(task.count(), round * 3);
        }
        waker.wake_by_ref();
        assert_eq!((thread.count(), task.count()), (2, 7), "at once, here");
    }

    #[test]
    fn what_comes_before_the_first_look_is_not_lost() {
        let relay = WakeRelay::of_this_thread();
        let task = Arc::new(Counter::default());
        let waker = relay.waker(&Waker::from(Arc::clone(&task)));
        std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join().expect("woken"));
        assert_eq!(task.count(), 0);
        assert!(relay.poll(&Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(task.count(), 1);
    }
}
