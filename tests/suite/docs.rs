//! Prose is checked: what ARCHITECTURE.md names exists, and what README.md shows in `sh` blocks runs.
//!
//! All `sh` blocks of the README are one session: they run in their order, in one bash with -euo pipefail, in an empty
//! folder, so a later block sees what an earlier one has started. Blocks of other kinds (`console`) are only shown.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use strandline_tests::{
    kafka_classpath, minio_binary, require_env, run_to_end, strandline_binary, workspace_root,
};

/// The README's session starts brokers, MinIO and Kafka's tools.
const SESSION_SECONDS: &str = "300";
const SESSION_DEADLINE: Duration = Duration::from_secs(330);

/// Kafka's scripts as a user of Kafka knows them, and the class each of them starts.
const KAFKA_SCRIPTS: &[(&str, &str)] = &[
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
    (
        "kafka-get-offsets.sh",
        "org.apache.kafka.tools.GetOffsetShell",
    ),
    (
        "kafka-console-producer.sh",
        "org.apache.kafka.tools.ConsoleProducer",
    ),
    (
        "kafka-console-consumer.sh",
        "org.apache.kafka.tools.consumer.ConsoleConsumer",
    ),
    (
        "kafka-consumer-groups.sh",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    ),
];

fn read(name: &str) -> String {
    let path = workspace_root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands in backticks outside of code blocks.
fn in_backticks(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Whether it names a path of the checkout: only letters that paths are made of, and a folder or a known ending.
fn is_path(word: &str) -> bool {
    let endings = [".rs", ".md", ".toml", ".json", ".py", ".js", ".java"];
    word.chars()
        .all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter))
        && !word.starts_with(['/', '.'])
        && (word.contains('/') || endings.iter().any(|ending| word.ends_with(ending)))
}

#[test]
fn every_path_in_architecture_exists() {
    let text = read("ARCHITECTURE.md");
    let paths: Vec<String> = in_backticks(&text)
        .into_iter()
        .filter(|word| is_path(word))
        .collect();
    assert!(!paths.is_empty(), "ARCHITECTURE.md names no path");
    let missing: Vec<&String> = paths
        .iter()
        .filter(|path| !workspace_root().join(path).exists())
        .collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names what is not there: {missing:?}"
    );
    println!("ARCHITECTURE.md: {} paths exist", paths.len());
}

/// The blocks that are fenced as `language`.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == language, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = open.take() {
                    blocks.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

fn write_script(folder: &Path, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a script can be written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        .expect("a script can be made executable");
}

/// The programs that the README takes for granted, under their usual names.
fn programs(folder: &Path) -> PathBuf {
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    for (name, class) in KAFKA_SCRIPTS {
        write_script(
            &bin,
            name,
            &format!(
                "#!/bin/sh\nexec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp '{}' {class} \"$@\"\n",
                kafka_classpath()
            ),
        );
    }
    let python = require_env("TEST_STRANDLINE_PYTHON");
    write_script(
        &bin,
        "python3",
        &format!("#!/bin/sh\nexec '{python}' \"$@\"\n"),
    );
    // duckdb's command line is not on PyPI; its library is.
    write_script(
        &bin,
        "duckdb",
        &format!(
            "#!/bin/sh\nexec '{python}' -c 'import sys, duckdb; print(duckdb.sql(sys.argv[-1]))' \"$@\"\n"
        ),
    );
    // In the checkout this builds first; here it is built.
    write_script(
        &bin,
        "cargo",
        "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || { echo \"not in a test: cargo $*\" >&2; exit 1; }\n\
         shift 3\nexec strandline \"$@\"\n",
    );
    bin
}

#[test]
fn every_command_in_the_readme_runs() {
    let blocks = blocks(&read("README.md"), "sh");
    assert!(!blocks.is_empty(), "README.md has no sh block");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bin = programs(folder.path());
    let here = folder.path().join("session");
    std::fs::create_dir(&here).expect("a folder");
    // Whatever runs in the background ends with the session.
    let mut session = "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n".to_owned();
    for (number, block) in blocks.iter().enumerate() {
        session.push_str(&format!("echo '--- block {}' >&2\n{block}", number + 1));
    }
    let parent = |path: PathBuf| path.parent().expect("a file has a folder").to_path_buf();
    let mut path = vec![bin, parent(strandline_binary()), parent(minio_binary())];
    path.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    // `timeout` ends the whole process group, brokers included.
    let mut command = Command::new("timeout");
    command
        .current_dir(&here)
        .env("PATH", std::env::join_paths(path).expect("paths"))
        .args(["--kill-after=10", SESSION_SECONDS])
        .args(["bash", "-euo", "pipefail", "-c", &session]);
    let finished = run_to_end(&mut command, SESSION_DEADLINE).expect_success("README.md");
    println!(
        "README.md: {} blocks ran\n{}",
        blocks.len(),
        finished.stdout
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_paths_are_found() {
        let text = "a `log/src/lib.rs` b `x y/z`\n```sh\nls `pwd`\n```\n```console\n$ no\n```\n`Cargo.toml` `fn`\n";
        assert_eq!(blocks(text, "sh"), ["ls `pwd`\n"]);
        let paths: Vec<String> = in_backticks(text)
            .into_iter()
            .filter(|word| is_path(word))
            .collect();
        assert_eq!(paths, ["log/src/lib.rs", "Cargo.toml"]);
    }
}
