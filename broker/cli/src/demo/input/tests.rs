use std::io::Write as _;
use std::path::PathBuf;

use indicatif::ProgressBar;

use super::columns::ColumnType;
use super::*;

struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

/// The name says nothing on purpose: what the bytes are counts.
fn file(bytes: &[u8]) -> File {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("input.dat");
    std::fs::write(&path, bytes).unwrap();
    File {
        path,
        _folder: folder,
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn inspect(file: &File, key: Option<&str>) -> anyhow::Result<Input> {
    Input::inspect(Origin::File(file.path.clone()), key, &ProgressBar::hidden())
}

/// Keys and values as text.
fn rows(input: &Input) -> Vec<(Option<String>, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    input
        .rows()
        .unwrap()
        .map(|row| {
            let row = row.unwrap();
            (row.key.map(text), text(row.value))
        })
        .collect()
}

fn refused(bytes: &[u8], key: Option<&str>, expected: &str) {
    let error = inspect(&file(bytes), key).err().expect("it is refused");
    let text = format!("{error:#}");
    assert!(text.contains(expected), "{text}");
    assert!(text.contains("input.dat"), "{text}");
}

const CSV: &str =
    "id,ratio,name,code,none\n1,0.5,\"a \"\"b\"\", c\",007,\n-2,3,höhe,12,\n,1e-3,,x,\n";

#[test]
fn csv_rows_become_objects_with_typed_columns() {
    let expected = [
        (
            Some("1"),
            r#"{"id":1,"ratio":0.5,"name":"a \"b\", c","code":"007","none":null}"#,
        ),
        (
            Some("-2"),
            r#"{"id":-2,"ratio":3.0,"name":"höhe","code":"12","none":null}"#,
        ),
        (
            None,
            r#"{"id":null,"ratio":1e-3,"name":null,"code":"x","none":null}"#,
        ),
    ];
    let expected = expected.map(|(key, value)| (key.map(str::to_owned), value.to_owned()));
    let two_members = [gzip(&CSV.as_bytes()[..30]), gzip(&CSV.as_bytes()[30..])].concat();
    let marked = [b"\xef\xbb\xbf", CSV.as_bytes()].concat();
    let stored = [
        (CSV.as_bytes().to_vec(), "CSV"),
        (marked, "CSV"),
        (CSV.replace('\n', "\r\n").into_bytes(), "CSV"),
        (gzip(CSV.as_bytes()), "CSV, gzip"),
        (two_members, "CSV, gzip"),
        (zstd::encode_all(CSV.as_bytes(), 3).unwrap(), "CSV, zstd"),
    ];
    for (bytes, layout) in stored {
        let file = file(&bytes);
        let input = inspect(&file, Some("id")).unwrap();
        assert_eq!(input.layout(), layout);
        assert_eq!(input.stored_bytes(), bytes.len() as u64);
        assert_eq!((input.facts().rows, input.facts().keyed_rows), (3, 2));
        let columns = input.facts().columns.as_deref().unwrap();
        assert_eq!(summary(columns), "1 integer, 1 float, 2 text, 1 empty");
        assert_eq!(rows(&input), expected, "{layout}");
        assert_eq!(rows(&input), expected, "a second time");
    }
}

#[test]
fn other_delimiters_are_seen_in_the_header() {
    for delimiter in [";", "\t", "|"] {
        let text = "a,b\n1,2\n".replace(',', delimiter);
        let input = inspect(&file(text.as_bytes()), None);
        // The temporary folder is gone by now, so only what the scan told is asked.
        assert_eq!(input.unwrap().facts().columns.as_ref().unwrap().len(), 2);
    }
}

#[test]
fn columns_without_a_name_of_their_own_get_one() {
    let file = file(b"a,,a\n1,2,3\n");
    let input = inspect(&file, None).unwrap();
    assert_eq!(
        rows(&input),
        [(None, r#"{"a":1,"column_2":2,"a_2":3}"#.to_owned())]
    );
}

#[test]
fn lines_of_json_are_kept_as_they_are() {
    let text = "{\"k\": \"x\", \"n\": 1.50}\n\n  {\"k\": 7}  \r\n{\"k\":null}\n{\"k\":[1,2]}";
    for bytes in [
        text.as_bytes().to_vec(),
        gzip(text.as_bytes()),
        zstd::encode_all(text.as_bytes(), 1).unwrap(),
    ] {
        let file = file(&bytes);
        let input = inspect(&file, Some("k")).unwrap();
        let expected = [
            (Some("x"), "{\"k\": \"x\", \"n\": 1.50}"),
            (Some("7"), "{\"k\": 7}"),
            (None, "{\"k\":null}"),
            (Some("[1,2]"), "{\"k\":[1,2]}"),
        ];
        let expected = expected.map(|(key, value)| (key.map(str::to_owned), value.to_owned()));
        assert_eq!(rows(&input), expected);
        assert_eq!(input.facts().keyed_rows, 3);
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let unclosed = [b"a,b\n1,\"".as_slice(), &vec![b'x'; 3 << 20]].concat();
    let long_line = [b"{\"a\":\"".as_slice(), &vec![b'x'; 2 << 20]].concat();
    let cases: [(&[u8], Option<&str>, &str); 14] = [
        (b"", None, "empty"),
        (b" \n", None, "empty"),
        (b"a,b\n", None, "no rows"),
        (b"a,b\n1,2\n1\n", None, "row 2"),
        (b"a,b\n1,\xff\n", None, "row 1"),
        (b"a,b\n1,2\n", Some("c"), "no column c; there are a, b"),
        (&unclosed, None, "row 1"),
        (b"[{}]", None, "array"),
        (b"{\"a\":1}\n{\"a\":", None, "line 2"),
        (b"{\"a\":1}\n3\n", None, "line 2"),
        (b"{\"a\":1}\n", Some("b"), "no row has the key field b"),
        (&long_line, None, "line 1"),
        (b"PK\x03\x04", None, "zip"),
        (&gzip(CSV.as_bytes())[..40], None, "cannot read"),
    ];
    for (bytes, key, expected) in cases {
        refused(bytes, key, expected);
    }
    assert!(Origin::File("missing.csv".into()).open().is_err());
}

#[test]
fn numbers_are_what_json_writes_the_same_way() {
    let cases = [
        ("", ColumnType::Null),
        ("0", ColumnType::Integer),
        ("-12", ColumnType::Integer),
        ("9223372036854775807", ColumnType::Integer),
        ("9223372036854775808", ColumnType::Text),
        ("-0", ColumnType::Float),
        ("1.0", ColumnType::Float),
        ("1e5", ColumnType::Float),
        ("-1.5E-7", ColumnType::Float),
        ("1e999", ColumnType::Text),
        ("007", ColumnType::Text),
        ("+5", ColumnType::Text),
        (".5", ColumnType::Text),
        ("5.", ColumnType::Text),
        ("1e", ColumnType::Text),
        ("-", ColumnType::Text),
        (" 5", ColumnType::Text),
        ("NaN", ColumnType::Text),
        ("1,000", ColumnType::Text),
    ];
    for (cell, expected) in cases {
        assert_eq!(ColumnType::of(cell), expected, "{cell:?}");
    }
}

#[test]
fn the_sample_is_whole() {
    let bar = ProgressBar::hidden();
    let input = Input::inspect(Origin::Sample, Some("tailnum"), &bar).unwrap();
    assert_eq!(input.facts().rows, 60_000);
    let columns = input.facts().columns.as_deref().unwrap();
    assert_eq!(summary(columns), "14 integer, 5 text");
    assert_eq!(rows(&input).len(), 60_000);
}
