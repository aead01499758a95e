//! The guard's tables against Kafka's own message schemas.
//!
//! `TEST_KAFKA_MESSAGES` names a directory with the JSON files of `common/message/` from the kafka-clients jar;
//! `tests/run` unpacks them. Without it there is nothing to compare with, and the test says so.

use std::path::Path;

use serde_json::Value;
use strandline_wire::Api;
use strandline_wire::guard::{Field, Item, Kind, Scalar, Versions};

const DIRECTORY: &str = "TEST_KAFKA_MESSAGES";

#[test]
fn tables_agree_with_kafkas_schemas() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        println!(
            "SKIPPED: {DIRECTORY} is not set, the guard's tables were not compared with Kafka's schemas"
        );
        return;
    };
    let mut differences = Vec::new();
    for api in Api::ALL {
        let json = read_json(&Path::new(&directory).join(format!("{}.json", api.schema().name)));
        compare_api(*api, &json, &mut differences);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Kafka's files are JSON with comments on lines of their own or behind a value.
fn read_json(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let without_comments: Vec<_> = text.lines().map(strip_comment).collect();
    serde_json::from_str(&without_comments.join("\n"))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn strip_comment(line: &str) -> &str {
    let mut in_text = false;
    let mut previous = ' ';
    for (place, letter) in line.char_indices() {
        match letter {
            '"' if previous != '\\' => in_text = !in_text,
            '/' if previous == '/' && !in_text => return &line[..place - 1],
            _ => {}
        }
        previous = letter;
    }
    line
}

fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {json}"))
}

fn versions(text: &str) -> Versions {
    let number = |text: &str| text.parse().expect("a version");
    if text == "none" {
        return Versions {
            min: i16::MAX,
            max: i16::MAX,
        };
    }
    if let Some(min) = text.strip_suffix('+') {
        return Versions {
            min: number(min),
            max: i16::MAX,
        };
    }
    let (min, max) = text.split_once('-').unwrap_or((text, text));
    Versions {
        min: number(min),
        max: number(max),
    }
}

fn optional_versions(json: &Value, key: &str) -> Option<Versions> {
    json.get(key)
        .map(|value| versions(value.as_str().expect("versions are text")))
}

fn compare_api(api: Api, json: &Value, differences: &mut Vec<String>) {
    let schema = api.schema();
    let path = schema.name;
    if json["apiKey"].as_i64() != Some(i64::from(api.key())) {
        differences.push(format!(
            "{path}: key {} against {}",
            api.key(),
            json["apiKey"]
        ));
    }
    let valid = versions(text(json, "validVersions"));
    let served = api.served();
    if served.min < valid.min || served.max > valid.max {
        differences.push(format!("{path}: serves {served}, Kafka has {valid:?}"));
    }
    let flexible_since = versions(text(json, "flexibleVersions")).min;
    if schema.flexible_since != flexible_since {
        differences.push(format!(
            "{path}: flexible since {}, Kafka {flexible_since}",
            schema.flexible_since
        ));
    }
    compare_fields(
        path,
        schema.fields,
        &json["fields"],
        &json["commonStructs"],
        differences,
    );
}

fn compare_fields(
    path: &str,
    fields: &[Field],
    json: &Value,
    common: &Value,
    differences: &mut Vec<String>,
) {
    let json = json
        .as_array()
        .unwrap_or_else(|| panic!("{path}: Kafka has no fields here"));
    let ours: Vec<_> = fields.iter().map(|field| field.name).collect();
    let kafkas: Vec<_> = json.iter().map(|field| text(field, "name")).collect();
    if ours != kafkas {
        differences.push(format!("{path}: fields {ours:?}, Kafka {kafkas:?}"));
        return;
    }
    for (field, json) in fields.iter().zip(json) {
        compare_field(
            &format!("{path}.{}", field.name),
            field,
            json,
            common,
            differences,
        );
    }
}

fn compare_field(
    path: &str,
    field: &Field,
    json: &Value,
    common: &Value,
    differences: &mut Vec<String>,
) {
    let mut expect = |what: &str, ours: String, kafkas: String| {
        if ours != kafkas {
            differences.push(format!("{path}: {what} {ours}, Kafka {kafkas}"));
        }
    };
    expect(
        "versions",
        format!("{:?}", field.versions),
        format!("{:?}", versions(text(json, "versions"))),
    );
    let nullable = (field.nullable.min <= field.nullable.max).then_some(field.nullable);
    expect(
        "nullable",
        format!("{nullable:?}"),
        format!("{:?}", optional_versions(json, "nullableVersions")),
    );
    let tag = json
        .get("tag")
        .map(|tag| tag.as_u64().expect("a tag is a number") as u32);
    expect(
        "tag",
        format!("{:?}", field.tag.map(|(tag, _)| tag)),
        format!("{tag:?}"),
    );
    let tagged = field.tag.map(|(_, versions)| versions);
    expect(
        "tagged",
        format!("{tagged:?}"),
        format!("{:?}", optional_versions(json, "taggedVersions")),
    );

    let kafkas_type = text(json, "type");
    let (ours, nested) = match &field.kind {
        Kind::Scalar(scalar) => (scalar_name(*scalar).to_owned(), None),
        Kind::String => ("string".to_owned(), None),
        Kind::Bytes => ("bytes".to_owned(), None),
        Kind::Records => ("records".to_owned(), None),
        Kind::Struct(fields) => (kafkas_type.to_owned(), Some(fields)),
        Kind::Array {
            item: Item::Scalar(scalar),
            ..
        } => (format!("[]{}", scalar_name(*scalar)), None),
        Kind::Array {
            item: Item::String, ..
        } => ("[]string".to_owned(), None),
        Kind::Array {
            item: Item::Struct(fields),
            ..
        } => (kafkas_type.to_owned(), Some(fields)),
    };
    expect("type", ours, kafkas_type.to_owned());
    let is_array = matches!(field.kind, Kind::Array { .. });
    expect(
        "array",
        is_array.to_string(),
        kafkas_type.starts_with("[]").to_string(),
    );
    if let Some(fields) = nested {
        let name = kafkas_type.trim_start_matches("[]");
        let shared = || {
            common
                .as_array()?
                .iter()
                .find(|shared| shared["name"] == name)?
                .get("fields")
        };
        match json.get("fields").or_else(shared) {
            Some(json) => compare_fields(path, fields, json, common, differences),
            None => differences.push(format!("{path}: a struct, Kafka {kafkas_type}")),
        }
    }
}

fn scalar_name(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::Bool => "bool",
        Scalar::Int8 => "int8",
        Scalar::Int16 => "int16",
        Scalar::Int32 => "int32",
        Scalar::Int64 => "int64",
        Scalar::Uuid => "uuid",
    }
}
