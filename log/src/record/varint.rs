//! Kafka's zigzag variable-length integers.
//!
//! Readers take a slice's front and never read past it: `None` means truncated or longer than the type allows.

/// Appends a zigzag varint of 1 to 5 bytes.
pub fn put_i32(out: &mut Vec<u8>, value: i32) {
    put_u64(out, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends a zigzag varint of 1 to 10 bytes.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)) as u64);
}

fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The value at the front of `bytes` and how many bytes it took.
pub fn read_i32(bytes: &[u8]) -> Option<(i32, usize)> {
    let mut raw: u32 = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        // The fifth byte holds the last 4 bits; like Kafka, what lies above them is dropped.
        raw |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((((raw >> 1) as i32) ^ -((raw & 1) as i32), i + 1));
        }
    }
    None
}

/// The value at the front of `bytes` and how many bytes it took.
pub fn read_i64(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut raw: u64 = 0;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((((raw >> 1) as i64) ^ -((raw & 1) as i64), i + 1));
        }
    }
    None
}

/// How many bytes [`put_i32`] writes.
pub fn len_i32(value: i32) -> usize {
    len_u64(u64::from(((value << 1) ^ (value >> 31)) as u32))
}

/// How many bytes [`put_i64`] writes.
pub fn len_i64(value: i64) -> usize {
    len_u64(((value << 1) ^ (value >> 63)) as u64)
}

fn len_u64(value: u64) -> usize {
    let bits = 64 - value.leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let table: &[(i64, &[u8])] = &[
            (0, &[0x00]),
            (-1, &[0x01]),
            (1, &[0x02]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
            (8191, &[0xfe, 0x7f]),
            (i32::MAX as i64, &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i32::MIN as i64, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in table {
            let mut out = Vec::new();
            put_i32(&mut out, *value as i32);
            assert_eq!(out, *bytes, "{value}");
            out.clear();
            put_i64(&mut out, *value);
            assert_eq!(out, *bytes, "{value}");
        }
        let mut out = Vec::new();
        put_i64(&mut out, i64::MIN);
        assert_eq!(
            out,
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]
        );
    }

    #[test]
    fn truncated_and_endless_values_are_refused() {
        assert_eq!(read_i32(&[]), None);
        assert_eq!(read_i32(&[0x80]), None);
        assert_eq!(read_i32(&[0x80; 6]), None);
        assert_eq!(read_i64(&[0x80; 11]), None);
    }

    proptest! {
        #[test]
        fn round_trip(a: i32, b: i64) {
            let mut out = Vec::new();
            put_i32(&mut out, a);
            prop_assert_eq!(out.len(), len_i32(a));
            prop_assert_eq!(read_i32(&out), Some((a, out.len())));
            out.clear();
            put_i64(&mut out, b);
            prop_assert_eq!(out.len(), len_i64(b));
            prop_assert_eq!(read_i64(&out), Some((b, out.len())));
        }
    }
}
