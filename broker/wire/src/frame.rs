//! Frames: four bytes of length, then that many bytes.
//!
//! Pure: the caller owns the buffer and the socket. A size is refused before memory is reserved for it. What a frame
//! holds is not looked at here.

use bytes::{Buf, Bytes, BytesMut};

/// The bytes of a frame's length.
pub const FRAME_LENGTH_BYTES: usize = 4;

/// Why a stream of frames cannot go on. The connection is lost: nothing says where the next frame begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of negative size {size}")]
    Negative { size: i32 },
    #[error(
        "a frame of {size} bytes is larger than the limit of {size_max} bytes (socket.request.max.bytes)"
    )]
    TooLarge { size: usize, size_max: usize },
}

/// Cuts frames off a buffer of received bytes.
#[derive(Clone, Copy, Debug)]
pub struct FrameSplitter {
    frame_bytes_max: usize,
}

impl FrameSplitter {
    pub fn new(frame_bytes_max: usize) -> Self {
        Self { frame_bytes_max }
    }

    /// Checks a frame's length as it stands on the wire.
    pub fn parse_size(&self, length: [u8; FRAME_LENGTH_BYTES]) -> Result<usize, FrameError> {
        let size = i32::from_be_bytes(length);
        let Ok(size) = usize::try_from(size) else {
            return Err(FrameError::Negative { size });
        };
        if size > self.frame_bytes_max {
            return Err(FrameError::TooLarge {
                size,
                size_max: self.frame_bytes_max,
            });
        }
        Ok(size)
    }

    /// The size of the first frame in the buffer, once its length has arrived.
    pub fn peek_size(&self, buffer: &[u8]) -> Result<Option<usize>, FrameError> {
        match buffer.first_chunk::<FRAME_LENGTH_BYTES>() {
            Some(length) => self.parse_size(*length).map(Some),
            None => Ok(None),
        }
    }

    /// Takes the first frame, without its length, out of the buffer; `None` while it is not complete.
    pub fn next_frame(&self, buffer: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self.peek_size(buffer)? else {
            return Ok(None);
        };
        if buffer.len() - FRAME_LENGTH_BYTES < size {
            return Ok(None);
        }
        buffer.advance(FRAME_LENGTH_BYTES);
        Ok(Some(buffer.split_to(size).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    #[test]
    fn frames_are_cut_off_one_by_one() {
        let splitter = FrameSplitter::new(10);
        let mut buffer = BytesMut::new();
        buffer.put_i32(3);
        buffer.put_slice(b"abc");
        buffer.put_i32(0);
        buffer.put_i32(2);
        buffer.put_slice(b"d");
        assert_eq!(
            splitter.next_frame(&mut buffer),
            Ok(Some(Bytes::from_static(b"abc")))
        );
        assert_eq!(splitter.next_frame(&mut buffer), Ok(Some(Bytes::new())));
        assert_eq!(splitter.next_frame(&mut buffer), Ok(None));
        buffer.put_slice(b"e");
        assert_eq!(
            splitter.next_frame(&mut buffer),
            Ok(Some(Bytes::from_static(b"de")))
        );
        assert!(buffer.is_empty());
        buffer.put_slice(&[0, 0, 0]);
        assert_eq!(splitter.peek_size(&buffer), Ok(None));
    }

    #[test]
    fn sizes_are_refused_with_the_limit_in_the_text() {
        let splitter = FrameSplitter::new(10);
        let negative = splitter.parse_size((-1i32).to_be_bytes()).unwrap_err();
        assert_eq!(negative.to_string(), "a frame of negative size -1");
        let large = splitter.parse_size(11i32.to_be_bytes()).unwrap_err();
        assert_eq!(
            large.to_string(),
            "a frame of 11 bytes is larger than the limit of 10 bytes (socket.request.max.bytes)"
        );
        assert_eq!(splitter.parse_size(10i32.to_be_bytes()), Ok(10));
    }
}
