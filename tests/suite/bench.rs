//! The benchmark stays alive: it builds, and its smallest rows run against Strandline and a floor program.

use std::process::Command;
use std::time::Duration;

use strandline_tests::run_to_end;

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn the_benchmark_measures_strandline_and_the_floor() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_strandline-bench"));
    command
        .args(["--quick", "--no-touch", "--rounds", "1"])
        .args(["--contenders", "strandline,floor"])
        .args(["--only", "start", "--only", "one-record"])
        .arg("--folder")
        .arg(folder.path().join("data"))
        .arg("--output")
        .arg(folder.path().join("report"));
    let finished = run_to_end(&mut command, DEADLINE).expect_success("the benchmark");
    assert!(
        finished.stdout.contains("2 rows, 0 failures"),
        "{}",
        finished.stdout
    );
    let report = std::fs::read(folder.path().join("report/report.json")).expect("a report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("it is JSON");
    let lines = report["lines"].as_array().expect("it has lines");
    let line = lines
        .iter()
        .find(|line| line["row"] == "one-record" && line["figure"] == "broker CPU, us/request")
        .expect("the row is there");
    for who in ["strandline", "floor"] {
        let median = line[who]["median"].as_f64().expect("it was measured");
        assert!(median > 0.0, "{line}");
    }
    assert!(line["kafka"].is_null(), "nobody measured Kafka");
}
