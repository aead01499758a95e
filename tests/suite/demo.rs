//! The demo, on a small input of our own: it checks itself, so its exit status is the verdict.

use std::process::Command;
use std::time::Duration;

use strandline_tests::{Pattern, run_to_end, strandline_binary};

const RECORDS: usize = 5000;
const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn the_demo_goes_the_whole_way_and_gives_account() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut pattern = Pattern::new(1);
    let mut lines = String::new();
    for number in 0..RECORDS {
        let sensor = pattern.below(50);
        let text = pattern.text(40);
        lines.push_str(&format!(
            "{{\"number\":{number},\"sensor\":\"s{sensor}\",\"value\":{}.5,\"note\":\"{text}\"}}\n",
            pattern.below(1000)
        ));
    }
    let input = folder.path().join("events.ndjson");
    std::fs::write(&input, lines).expect("a file can be written");
    let mut command = Command::new(strandline_binary());
    command
        .current_dir(folder.path())
        .args(["demo", "--key", "sensor", "--input"])
        .arg(&input);
    let finished = run_to_end(&mut command, DEADLINE).expect_success("strandline demo");
    let account = finished.stdout;
    assert!(
        account.contains("5,000") || account.contains("5000"),
        "{account}"
    );
    let files = folder.path().join("strandline-demo");
    assert!(files.is_dir(), "{account}");
    println!("{account}");

    // An input that cannot be read is an end with a status and words.
    let mut command = Command::new(strandline_binary());
    command
        .current_dir(folder.path())
        .args(["demo", "--input", "missing.csv"]);
    let finished = run_to_end(&mut command, DEADLINE);
    assert!(!finished.status.success());
    assert!(
        finished.stderr.contains("missing.csv"),
        "{}",
        finished.stderr
    );
}
