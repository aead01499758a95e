//! Who may import whom, as the design says. Read from `cargo metadata`, so that no manifest can break it unseen.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, MetadataCommand};
use strandline_tests::workspace_root;

/// What each package may depend on among ours, and whether openraft, tokio and the network are its business.
const ALLOWED: &[(&str, &[&str])] = &[
    ("strandline-log", &[]),
    ("strandline-tiering", &["strandline-log"]),
    (
        "strandline-compaction",
        &["strandline-log", "strandline-tiering"],
    ),
    (
        "strandline-exporter",
        &["strandline-log", "strandline-tiering"],
    ),
    ("strandline-wire", &[]),
    ("strandline-core", &["strandline-log", "strandline-wire"]),
    (
        "strandline-metadata",
        &["strandline-log", "strandline-core"],
    ),
    ("strandline-client", &["strandline-log", "strandline-wire"]),
    (
        "strandline-server",
        &[
            "strandline-log",
            "strandline-tiering",
            "strandline-compaction",
            "strandline-wire",
            "strandline-core",
            "strandline-metadata",
            "strandline-client",
        ],
    ),
    (
        "strandline",
        &[
            "strandline-log",
            "strandline-tiering",
            "strandline-exporter",
            "strandline-wire",
            "strandline-core",
            "strandline-client",
            "strandline-server",
        ],
    ),
];

/// Registry packages that only some of ours may import.
const ONLY_BY: &[(&str, &[&str])] = &[
    ("openraft", &["strandline-metadata"]),
    ("opendal", &["strandline-exporter"]),
    ("parquet", &["strandline-exporter"]),
    ("object_store", &["strandline-tiering"]),
    ("axum", &["strandline-server"]),
    ("clap", &["strandline"]),
];

/// Packages that know no async runtime.
const WITHOUT_TOKIO: &[&str] = &[
    "strandline-log",
    "strandline-compaction",
    "strandline-wire",
    "strandline-core",
];

fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata");
    metadata
        .packages
        .iter()
        .map(|package| {
            let normal = package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind == DependencyKind::Normal)
                .map(|dependency| dependency.name.clone())
                .collect();
            (package.name.to_string(), normal)
        })
        .collect()
}

#[test]
fn packages_import_only_what_the_design_allows() {
    let found = dependencies();
    for (package, imports) in &found {
        if package == "strandline-tests" {
            continue;
        }
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| name == package)
            .unwrap_or_else(|| panic!("{package} has no import rule: add one"));
        for import in imports.iter().filter(|name| name.starts_with("strandline")) {
            assert!(
                allowed.contains(&import.as_str()),
                "{package} must not import {import}"
            );
        }
        for (library, users) in ONLY_BY {
            assert!(
                !imports.iter().any(|name| name == library) || users.contains(&package.as_str()),
                "{package} must not import {library}"
            );
        }
        if WITHOUT_TOKIO.contains(&package.as_str()) {
            assert!(
                !imports.iter().any(|name| name == "tokio"),
                "{package} must not import tokio"
            );
        }
    }
    assert_eq!(
        found.len(),
        ALLOWED.len() + 1,
        "a package of the design is missing"
    );
}
