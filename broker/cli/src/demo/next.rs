//! What to try after the demo: commands with the real paths and ports.

use std::path::Path;

use super::account::Account;
use super::folder::DemoFolder;

/// Where `strandline start` listens with the demo's server.properties.
const USUAL_BOOTSTRAP: &str = "127.0.0.1:9092";

/// `live` is the address of a broker that stays up.
pub fn print(
    account: &Account,
    folder: &DemoFolder,
    topic: &str,
    live: Option<&str>,
    is_sample: bool,
) {
    let us = strandline();
    let properties = quoted(&folder.properties().to_string_lossy());
    let (store, parquet) = (
        quoted(&folder.store().to_string_lossy()),
        quoted(&folder.parquet().to_string_lossy()),
    );
    let bootstrap = live.unwrap_or(USUAL_BOOTSTRAP);
    account.line(&format!(
        "The files stay in {}.",
        folder.absolute().display()
    ));
    account.blank();
    account.line("Next");
    if live.is_none() {
        account.line("  the broker again, on the same data:");
        account.line(&format!("    {us} start --config {properties}"));
    }
    account.line("  read with a stock client; these records come from the store:");
    account.line(&format!(
        "    kcat -b {bootstrap} -C -t {topic} -o beginning -c 5"
    ));
    account.line("  write more, and export what is new once it was sealed and tiered:");
    account.line(&format!(
        "    echo '{{\"hello\":\"tier\"}}' | kcat -b {bootstrap} -P -t {topic} -k key"
    ));
    account.line(&format!(
        "    {us} export {topic} --from {store} --to {parquet}"
    ));
    account.line("  query the Parquet files:");
    let files = folder.parquet().join(topic);
    account.line(&format!("    duckdb -c \"{}\"", query(&files, is_sample)));
    if is_sample {
        account.line("  the same with data of yours:");
        account.line(&format!("    {us} demo --input FILE.csv.gz --key FIELD"));
    }
}

fn query(table: &Path, is_sample: bool) -> String {
    let files = format!(
        "read_parquet('{}/data/*/*.parquet', union_by_name = true)",
        table.to_string_lossy().replace('\'', "''")
    );
    if is_sample {
        format!(
            "SELECT carrier, count(*) AS flights, round(avg(dep_delay), 1) AS minutes_late FROM {files} GROUP BY carrier ORDER BY minutes_late DESC"
        )
    } else {
        format!("SELECT * FROM {files} LIMIT 10")
    }
}

/// As it was called.
fn strandline() -> String {
    let name = std::env::args().next().unwrap_or_default();
    if name.is_empty() {
        "strandline".to_owned()
    } else {
        quoted(&name)
    }
}

/// For a shell, when it needs it.
fn quoted(text: &str) -> String {
    let plain = |char: char| char.is_alphanumeric() || matches!(char, '/' | '.' | '-' | '_');
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}
