//! Which topics a consumer's metadata names: the one part of members' metadata that the coordinator reads, so that the
//! offsets of subscribed topics neither expire nor are deleted.
//!
//! The layout is that of ConsumerProtocolSubscription, every version: int16 version, then an array of topic names.

use std::collections::BTreeSet;

/// The protocol type of consumers.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The topics of one member's metadata; `None` when it is not a consumer's subscription.
pub fn subscribed_topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let rest = metadata.get(2..)?;
    let version = i16::from_be_bytes([*metadata.first()?, *metadata.get(1)?]);
    if version < 0 {
        return None;
    }
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = i32::from_be_bytes(*count);
    let mut topics = BTreeSet::new();
    for _ in 0..count.max(0) {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_and_garbage_is_not() {
        let metadata = b"\x00\x03\0\0\0\x02\x00\x01a\x00\x02bc\0\0\0\0";
        assert_eq!(
            subscribed_topics(metadata),
            Some(BTreeSet::from(["a".to_owned(), "bc".to_owned()]))
        );
        for bad in [
            &b""[..],
            b"\x00",
            b"\x00\x00\x7f\xff\xff\xff",
            b"\xff\xff\0\0\0\0",
            b"\0\0\0\0\0\x01\x00\x05a",
        ] {
            assert_eq!(subscribed_topics(bad), None, "{bad:?}");
        }
    }
}
