//! The memory that requests may hold over all connections (`queued.max.request.bytes`), and the buffers they use.
//!
//! 1. A connection learns a frame's size and takes that much of the budget before it reserves memory. When the budget
//!    is spent it waits in line, and its socket's window closes behind it.
//! 2. The frame's buffer comes from a pool: memory that was touched before costs no page faults.
//! 3. When the last slice of the frame is dropped, the buffer goes back to the pool and the bytes to the budget.
//!
//! Large frames share three quarters of the budget: clients that announce much and send nothing hold up others of their
//! kind until their time is over (`request.read.timeout.ms`), and never the small requests of everybody else. A frame
//! that is larger than that share takes all of it, so it is served, alone among the large ones.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget is counted in units of this many bytes, so that it fits a semaphore's counter.
const UNIT_BYTES: usize = 1024;
/// From this size on a frame is a large one.
const LARGE_BYTES_MIN: usize = 1 << 20;
/// Buffers come in powers of two between these bounds; larger ones are not kept.
const POOLED_BYTES_MIN: usize = 4 * 1024;
const POOLED_BYTES_MAX: usize = 4 * 1024 * 1024;
const CLASSES: usize = (POOLED_BYTES_MAX / POOLED_BYTES_MIN).ilog2() as usize + 1;

/// Shared by all connections.
#[derive(Debug)]
pub struct MemoryBudget {
    small: Share,
    large: Share,
    pool: Arc<BufferPool>,
    /// How often a request had to wait for memory.
    pub waits: IntCounter,
}

#[derive(Debug)]
struct Share {
    units: Arc<Semaphore>,
    units_max: u32,
}

impl Share {
    fn new(bytes: usize) -> Self {
        let units_max = u32::try_from((bytes / UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 3);
        Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
        }
    }

    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(u32::MAX)
            .clamp(1, self.units_max)
    }

    fn try_take(&self, bytes: usize) -> Option<MemoryPermit> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(self.units_of(bytes));
        permit.ok().map(|units| MemoryPermit { units })
    }

    fn used_units(&self) -> usize {
        self.units_max as usize - self.units.available_permits()
    }
}

/// Bytes taken from the budget; dropping gives them back.
#[derive(Debug)]
pub struct MemoryPermit {
    units: OwnedSemaphorePermit,
}

impl MemoryPermit {
    pub fn bytes(&self) -> usize {
        self.units.num_permits() * UNIT_BYTES
    }
}

impl MemoryBudget {
    /// `pooled_bytes_max` bounds the idle buffers that are kept for reuse.
    pub fn new(budget_bytes: usize, pooled_bytes_max: usize) -> Self {
        Self {
            small: Share::new(budget_bytes / 4),
            large: Share::new(budget_bytes - budget_bytes / 4),
            pool: Arc::new(BufferPool::new(pooled_bytes_max)),
            waits: IntCounter::new(
                "strandline_request_memory_waits_total",
                "Requests that had to wait for memory (queued.max.request.bytes).",
            )
            .expect("the name is valid"),
        }
    }

    /// Takes the bytes if they are free and nobody waits for them. A small request may use what large ones leave.
    pub fn try_take(&self, bytes: usize) -> Option<MemoryPermit> {
        if bytes >= LARGE_BYTES_MIN {
            return self.large.try_take(bytes);
        }
        self.small
            .try_take(bytes)
            .or_else(|| self.large.try_take(bytes))
    }

    /// Waits in line for the bytes.
    pub fn take(&self, bytes: usize) -> impl Future<Output = MemoryPermit> + Send + use<> {
        let share = match bytes >= LARGE_BYTES_MIN {
            true => &self.large,
            false => &self.small,
        };
        self.waits.inc();
        let acquire = Arc::clone(&share.units).acquire_many_owned(share.units_of(bytes));
        async move {
            let units = acquire.await.expect("the budget is never closed");
            MemoryPermit { units }
        }
    }

    /// An empty buffer with room for `bytes`.
    pub fn buffer(&self, bytes: usize) -> FrameBuffer {
        FrameBuffer {
            bytes: self.pool.take(bytes),
            pool: Arc::clone(&self.pool),
        }
    }

    /// Bytes that requests may hold.
    pub fn bytes_max(&self) -> usize {
        (self.small.units_max + self.large.units_max) as usize * UNIT_BYTES
    }

    /// Bytes of idle buffers that are kept for reuse.
    pub fn pooled_bytes(&self) -> usize {
        self.pool.idle.lock().bytes
    }

    /// Bytes that requests hold now.
    pub fn used_bytes(&self) -> usize {
        (self.small.used_units() + self.large.used_units()) * UNIT_BYTES
    }
}

/// A buffer that returns to its pool.
#[derive(Debug)]
pub struct FrameBuffer {
    pub bytes: Vec<u8>,
    pool: Arc<BufferPool>,
}

impl Drop for FrameBuffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

/// A whole frame: its bytes, and the budget they hold until the last slice is gone.
struct Frame {
    buffer: FrameBuffer,
    _permit: MemoryPermit,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.bytes
    }
}

/// Shares a frame without copying it.
pub fn share_frame(buffer: FrameBuffer, permit: MemoryPermit) -> Bytes {
    Bytes::from_owner(Frame {
        buffer,
        _permit: permit,
    })
}

#[derive(Debug)]
struct BufferPool {
    idle: Mutex<Idle>,
    pooled_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Idle {
    classes: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
}

fn class_of(capacity: usize) -> Option<usize> {
    let class_bytes = capacity.max(POOLED_BYTES_MIN).checked_next_power_of_two()?;
    let class = (class_bytes / POOLED_BYTES_MIN).ilog2() as usize;
    (class < CLASSES).then_some(class)
}

impl BufferPool {
    fn new(pooled_bytes_max: usize) -> Self {
        Self {
            idle: Mutex::default(),
            pooled_bytes_max,
        }
    }

    fn take(&self, bytes: usize) -> Vec<u8> {
        let Some(class) = class_of(bytes) else {
            return Vec::with_capacity(bytes);
        };
        let mut idle = self.idle.lock();
        if let Some(buffer) = idle.classes[class].pop() {
            idle.bytes -= buffer.capacity();
            return buffer;
        }
        drop(idle);
        Vec::with_capacity(POOLED_BYTES_MIN << class)
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        // Only buffers of exactly a class's size: a smaller one would be grown on its next use.
        let Some(class) = class_of(capacity).filter(|class| capacity == POOLED_BYTES_MIN << class)
        else {
            return;
        };
        buffer.clear();
        let mut idle = self.idle.lock();
        if idle.bytes + capacity <= self.pooled_bytes_max {
            idle.bytes += capacity;
            idle.classes[class].push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_when_the_last_slice_is_dropped() {
        let budget = MemoryBudget::new(64 * 1024, 1 << 20);
        let permit = budget.try_take(10_000).expect("free");
        let mut buffer = budget.buffer(10_000);
        buffer.bytes.extend_from_slice(&[7; 10_000]);
        let frame = share_frame(buffer, permit);
        let slice = frame.slice(9_000..);
        drop(frame);
        assert_eq!(budget.used_bytes(), 10 * 1024);
        assert_eq!(slice[0], 7);
        drop(slice);
        assert_eq!(budget.used_bytes(), 0);
        let reused = budget.buffer(9_000);
        assert_eq!(
            (reused.bytes.len(), reused.bytes.capacity()),
            (0, 16 * 1024)
        );
    }

    #[test]
    fn what_is_larger_than_its_share_takes_all_of_it_and_leaves_the_small_theirs() {
        let budget = MemoryBudget::new(8 << 20, 0);
        let large = budget.try_take(2 << 20).expect("free");
        assert!(budget.try_take(1 << 30).is_none());
        drop(large);
        let whole = budget.try_take(1 << 30).expect("free");
        assert!(budget.try_take(LARGE_BYTES_MIN).is_none());
        let small: Vec<_> = (0..4).filter_map(|_| budget.try_take(512 << 10)).collect();
        assert_eq!(small.len(), 4);
        assert!(budget.try_take(512 << 10).is_none());
        drop(whole);
        assert!(budget.try_take(512 << 10).is_some());
    }

    #[test]
    fn idle_buffers_are_bounded() {
        let budget = MemoryBudget::new(1 << 20, 8 * 1024);
        let many: Vec<_> = (0..4).map(|_| budget.buffer(4096)).collect();
        drop(many);
        assert_eq!(budget.pool.idle.lock().bytes, 8 * 1024);
        drop(budget.buffer(POOLED_BYTES_MAX * 2));
        assert_eq!(budget.pool.idle.lock().bytes, 8 * 1024);
    }
}
