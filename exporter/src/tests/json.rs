//! JSON fields as typed columns, over one run and over several.

use super::harness::World;
use crate::schema::ColumnType;

/// Exports `values` as one more segment; returns how many were rejected.
async fn add(world: &World, values: &[Option<&str>]) -> u64 {
    world.tier_values(0, values).await;
    world.export(&world.json()).await.expect("exports").rejects
}

#[tokio::test]
async fn fields_become_typed_columns() {
    let world = World::new(1).await;
    let rejects = add(
        &world,
        &[
            Some(r#"{"id":1,"name":"a","late":true,"delay":1.5,"tags":["x"],"at":"2013-01-01T05:00:00Z","gone":null}"#),
            Some(r#"{"id":2,"delay":3,"offset":7}"#),
            None,
            Some("{}"),
        ],
    )
    .await;
    assert_eq!(rejects, 0);
    let rows = world.table().rows();
    let columns: Vec<_> = rows[0].0.keys().map(String::as_str).collect();
    let expected = [
        "at",
        "delay",
        "headers",
        "id",
        "key",
        "late",
        "name",
        "offset",
        "partition",
        "tags",
        "timestamp",
        "topic",
    ];
    assert_eq!(columns, expected);
    for (column, value) in [
        ("id", "1"),
        ("name", "a"),
        ("late", "true"),
        ("delay", "1.5"),
        ("tags", r#"["x"]"#),
        ("at", "2013-01-01T05:00:00Z"),
        ("key", "k"),
    ] {
        assert_eq!(rows[0].get(column), Some(value), "{column}");
    }
    assert_eq!(rows[1].get("delay"), Some("3.0"));
    assert_eq!(
        rows[1].get("value_offset"),
        Some("7"),
        "a field that is named as a record's column"
    );
    for tombstone in &rows[2..] {
        assert_eq!(tombstone.get("id"), None);
        assert_eq!(tombstone.get("key"), Some("k"));
    }
    let last = world.table().entries().pop().expect("commits");
    let gone = last
        .columns
        .iter()
        .find(|column| column.field == "gone")
        .expect("is known");
    assert_eq!(gone.column_type, ColumnType::Null);
    let files: Vec<_> = last.files.iter().collect();
    assert_eq!(
        files.len(),
        1,
        "all columns were known before the file began"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_a_reject_with_its_offset_and_cause() {
    let world = World::new(1).await;
    let rejects = add(
        &world,
        &[
            Some(r#"{"id":1,"name":"a"}"#),
            Some("not json"),
            Some("[1,2]"),
            Some(""),
            Some(r#"{"id":"text","new":1}"#),
            Some(r#"{"id":18446744073709551615}"#),
            Some(r#"{"id":2,"name":"b"}"#),
        ],
    )
    .await;
    assert_eq!(rejects, 5);
    let table = world.table();
    assert_eq!(table.rows().len(), 2);
    let found = table.rejects();
    for ((_, offset, cause), (expected, part)) in found.iter().zip([
        (1, "expected ident"),
        (2, "expected a JSON object"),
        (3, "EOF"),
        (4, "field \"id\" is string, its column is int64"),
        (5, "does not fit"),
    ]) {
        assert_eq!(*offset, expected);
        assert!(cause.contains(part), "{cause}");
    }
    assert!(
        table
            .entries()
            .pop()
            .expect("commits")
            .columns
            .iter()
            .all(|c| c.field != "new")
    );
    let expected: Vec<_> = (0..7).map(|offset| (0, offset)).collect();
    assert_eq!(
        table.places(),
        expected,
        "each offset once, as a row or a reject"
    );
    // The value is all there.
    let file = table
        .files()
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "ndjson"));
    let text = std::fs::read_to_string(file.expect("is there")).expect("reads");
    assert!(
        text.lines()
            .next()
            .expect("a line")
            .contains("\"value\":\"bm90IGpzb24=\""),
        "{text}"
    );
}

#[tokio::test]
async fn the_schema_evolves_over_runs() {
    let world = World::new(1).await;
    assert_eq!(add(&world, &[Some(r#"{"a":1,"later":null}"#)]).await, 0);
    assert_eq!(
        add(&world, &[Some(r#"{"a":2,"b":"new","later":5}"#)]).await,
        0
    );
    assert_eq!(
        add(&world, &[Some(r#"{"a":2.5}"#), Some(r#"{"a":3}"#)]).await,
        0
    );
    // Types are the table's now, whatever a run sees first.
    assert_eq!(
        add(
            &world,
            &[
                Some(r#"{"b":1}"#),
                Some(r#"{"later":"x"}"#),
                Some(r#"{"a":4}"#)
            ]
        )
        .await,
        2
    );
    let last = world.table().entries().pop().expect("commits");
    let types: Vec<_> = last
        .columns
        .iter()
        .map(|c| (c.name.as_str(), c.column_type))
        .collect();
    assert_eq!(
        types,
        [
            ("a", ColumnType::Double),
            ("later", ColumnType::Int64),
            ("b", ColumnType::String)
        ]
    );
    let rows = world.table().rows();
    let column = |name: &str| -> Vec<_> {
        rows.iter()
            .map(|row| row.get(name).map(str::to_owned))
            .collect()
    };
    let text = |s: &str| Some(s.to_owned());
    // Files written before the widening keep their integers.
    assert_eq!(
        column("a"),
        [text("1"), text("2"), text("2.5"), text("3.0"), text("4.0")]
    );
    assert_eq!(column("b"), [None, text("new"), None, None, None]);
}

#[tokio::test]
async fn no_integer_loses_digits_when_its_column_widens() {
    let world = World::new(1).await;
    let rejects = add(
        &world,
        &[
            Some(r#"{"n":9007199254740993}"#),
            Some(r#"{"n":1}"#),
            Some(r#"{"n":0.5}"#),
            Some(r#"{"n":9007199254740993}"#),
            Some(r#"{"n":2}"#),
        ],
    )
    .await;
    assert_eq!(rejects, 1);
    let rows = world.table().rows();
    let values: Vec<_> = rows
        .iter()
        .map(|row| row.get("n").expect("is there"))
        .collect();
    assert_eq!(values, ["9007199254740993", "1", "0.5", "2.0"]);
    assert!(world.table().rejects()[0].2.contains("exactly"));
}
