//! Walks the answers to Produce 13 and Fetch 17, as far as a load needs them, without copying or allocating.

use anyhow::{Context, bail, ensure};
use strandline_log::record::BatchHeader;
use strandline_wire::error_from_code;

pub const PRODUCE_VERSION: i16 = 13;
pub const FETCH_VERSION: i16 = 17;
const UUID_BYTES: usize = 16;

/// What is left of a frame.
struct Walk<'a>(&'a [u8]);

impl<'a> Walk<'a> {
    fn take(&mut self, count: usize) -> anyhow::Result<&'a [u8]> {
        let (head, rest) = self
            .0
            .split_at_checked(count)
            .context("the answer ends early")?;
        self.0 = rest;
        Ok(head)
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn i64(&mut self) -> anyhow::Result<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into()?))
    }

    fn uvarint(&mut self) -> anyhow::Result<usize> {
        let mut value = 0usize;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("a varint is too long")
    }

    /// Length of a compact array or string; null counts as empty.
    fn compact(&mut self) -> anyhow::Result<usize> {
        Ok(self.uvarint()?.saturating_sub(1))
    }

    fn tags(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.take(length)?;
        }
        Ok(())
    }
}

fn check(code: i16, what: &str) -> anyhow::Result<()> {
    match error_from_code(code) {
        None => Ok(()),
        Some(error) => bail!("{what} is answered with {error}"),
    }
}

/// The base offset that the one batch of a request was given. `frame` begins at the correlation id.
pub fn produce(frame: &[u8]) -> anyhow::Result<i64> {
    let mut walk = Walk(frame);
    walk.i32()?;
    walk.tags()?;
    ensure!(walk.compact()? == 1, "the answer is not about one topic");
    walk.take(UUID_BYTES)?;
    ensure!(
        walk.compact()? == 1,
        "the answer is not about one partition"
    );
    walk.i32()?;
    check(walk.i16()?, "Produce")?;
    walk.i64()
}

/// What a fetch brought of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub partition: i32,
    /// After the last complete batch; `None` when there is none.
    pub next_offset: Option<i64>,
    pub records: u64,
    /// Of complete batches.
    pub bytes: u64,
}

/// Calls `with` for each partition of the answer; returns the session. `frame` begins at the correlation id.
pub fn fetch(frame: &[u8], mut with: impl FnMut(Fetched)) -> anyhow::Result<i32> {
    let mut walk = Walk(frame);
    walk.i32()?;
    walk.tags()?;
    walk.i32()?;
    check(walk.i16()?, "Fetch")?;
    let session = walk.i32()?;
    for _ in 0..walk.compact()? {
        walk.take(UUID_BYTES)?;
        for _ in 0..walk.compact()? {
            let partition = walk.i32()?;
            check(walk.i16()?, "a partition's fetch")?;
            walk.take(3 * 8)?;
            for _ in 0..walk.compact()? {
                walk.take(2 * 8)?;
                walk.tags()?;
            }
            walk.i32()?;
            let length = walk.compact()?;
            with(batches(partition, walk.take(length)?)?);
            walk.tags()?;
        }
        walk.tags()?;
    }
    Ok(session)
}

/// Counts whole batches; what a size limit has cut off at the end is left.
fn batches(partition: i32, mut records: &[u8]) -> anyhow::Result<Fetched> {
    let mut fetched = Fetched {
        partition,
        next_offset: None,
        records: 0,
        bytes: 0,
    };
    while records.len() >= strandline_log::record::BATCH_HEADER_LEN {
        let header = BatchHeader::parse(records).context("a fetched batch")?;
        let Some(rest) = records.get(header.size()..) else {
            break;
        };
        fetched.next_offset = Some(header.last_offset() + 1);
        fetched.records += header.records_count.max(0) as u64;
        fetched.bytes += header.size() as u64;
        records = rest;
    }
    Ok(fetched)
}
