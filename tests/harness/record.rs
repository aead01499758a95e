//! A record as the client drivers write and read it: a line of JSON, bytes as base64.

use serde::{Deserialize, Serialize};

/// What was produced or consumed. Equal when partition, timestamp, key, value and headers are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct TestRecord {
    pub partition: i32,
    pub timestamp: i64,
    #[serde(with = "base64_option")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "base64_option")]
    pub value: Option<Vec<u8>>,
    pub headers: Vec<TestHeader>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TestHeader(
    pub String,
    #[serde(with = "base64_option")] pub Option<Vec<u8>>,
);

/// A record with the place where a consumer found it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadRecord {
    pub topic: String,
    pub offset: i64,
    #[serde(flatten)]
    pub record: TestRecord,
}

impl TestRecord {
    /// One line for a driver.
    pub fn to_line(&self) -> String {
        serde_json::to_string(self).expect("a record is JSON")
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut word = 0u32;
        for at in 0..3 {
            word = word << 8 | u32::from(group.get(at).copied().unwrap_or(0));
        }
        for at in 0..4 {
            if at <= group.len() {
                text.push(ALPHABET[(word >> (18 - 6 * at)) as usize & 63] as char);
            } else {
                text.push('=');
            }
        }
    }
    text
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut word = 0u32;
        for at in 0..4 {
            let digit = match group.get(at) {
                None => 0,
                Some(b'A'..=b'Z') => group[at] - b'A',
                Some(b'a'..=b'z') => group[at] - b'a' + 26,
                Some(b'0'..=b'9') => group[at] - b'0' + 52,
                Some(b'+') => 62,
                Some(b'/') => 63,
                Some(other) => return Err(format!("no base64 digit: {other}")),
            };
            word = word << 6 | u32::from(digit);
        }
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Ok(bytes)
}

mod base64_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(
        bytes: &Option<Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.as_deref().map(super::encode).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::decode(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_goes_both_ways() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foobar", "Zm9vYmFy"),
            (&[0xff, 0xfe, 0x3e], "//4+"),
        ] {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).expect("decodes"), bytes);
        }
        assert!(decode("a b").is_err());
    }

    #[test]
    fn a_record_is_the_drivers_line() {
        let record = TestRecord {
            partition: 2,
            timestamp: 7,
            key: Some(Vec::new()),
            value: None,
            headers: vec![TestHeader("h".to_owned(), Some(b"foo".to_vec()))],
        };
        let line = record.to_line();
        assert_eq!(
            line,
            r#"{"partition":2,"timestamp":7,"key":"","value":null,"headers":[["h","Zm9v"]]}"#
        );
        assert_eq!(
            serde_json::from_str::<TestRecord>(&line).expect("parses"),
            record
        );
    }
}
