//! The text format of `server.properties`: Java's `Properties.load`, as `java.util.Properties` documents it.
//!
//! Keys and values are separated by `=`, `:` or white space; `#` and `!` begin a comment; a backslash escapes, and at
//! a line's end continues it. Bytes that are not UTF-8 are refused rather than guessed.

use std::iter::Peekable;
use std::str::Chars;

/// A malformed escape, with the line it stands in (counted from 1).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: \\u must be followed by four hexadecimal digits")]
pub struct PropertiesError {
    pub line: usize,
}

/// Reads all entries in the order of the text. A key given twice appears twice; the caller decides (Java: last wins).
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, PropertiesError> {
    let mut entries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let start = first.trim_start();
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_in_open_escape(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        entries.push(split_entry(&logical).ok_or(PropertiesError { line: index + 1 })?);
    }
    Ok(entries)
}

fn ends_in_open_escape(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

fn split_entry(line: &str) -> Option<(String, String)> {
    let mut chars = line.chars().peekable();
    let mut key = String::new();
    while let Some(&c) = chars.peek() {
        if c == '=' || c == ':' || c.is_whitespace() {
            break;
        }
        key.push(next_unescaped(&mut chars)?);
    }
    skip_blank(&mut chars);
    if chars.next_if(|c| *c == '=' || *c == ':').is_some() {
        skip_blank(&mut chars);
    }
    let mut value = String::new();
    while chars.peek().is_some() {
        value.push(next_unescaped(&mut chars)?);
    }
    Some((key, value))
}

fn skip_blank(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

fn next_unescaped(chars: &mut Peekable<Chars<'_>>) -> Option<char> {
    match chars.next()? {
        '\\' => match chars.next() {
            None => Some('\\'),
            Some('t') => Some('\t'),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('f') => Some('\u{c}'),
            Some('u') => {
                let mut code = 0;
                for _ in 0..4 {
                    code = code * 16 + chars.next()?.to_digit(16)?;
                }
                char::from_u32(code)
            }
            Some(other) => Some(other),
        },
        plain => Some(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_java_reads_them() {
        let text = "# comment\n! too\n\na=1\n  b : two words \nc\tx\nd\npath=C:\\\\x\nlong=a,\\\n   b,\\\n   c\nuni=\\u00e9\nkey\\ with\\=odd=v\n";
        let want = [
            ("a", "1"),
            ("b", "two words "),
            ("c", "x"),
            ("d", ""),
            ("path", "C:\\x"),
            ("long", "a,b,c"),
            ("uni", "é"),
            ("key with=odd", "v"),
        ];
        let got = parse_properties(text).expect("parses");
        let got: Vec<_> = got.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn a_bad_escape_names_its_line() {
        assert_eq!(
            parse_properties("a=1\nb=\\u12\n"),
            Err(PropertiesError { line: 2 })
        );
    }
}
