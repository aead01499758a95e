//! `strandline tier why`: what blocks a topic's upload, from the broker that leads it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::Value;
use strandline_server::clock;

use crate::bucket::{Output, table};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Say what a topic's upload is doing, or what blocks it, since when and until when
#[derive(Debug, Args)]
pub struct WhyArguments {
    /// The topic
    topic: String,
    /// The broker's http.listener
    #[arg(long, default_value = "127.0.0.1:9644", value_name = "HOST:PORT")]
    http: String,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
}

pub fn run(arguments: &WhyArguments) -> anyhow::Result<()> {
    let page = get(&arguments.http, "/tier")
        .with_context(|| format!("cannot ask the broker at {}", arguments.http))?;
    let page: Value = serde_json::from_str(&page).context("the broker's answer")?;
    let partitions: Vec<&Value> = page["partitions"]
        .as_array()
        .map(|all| {
            all.iter()
                .filter(|p| p["topic"] == arguments.topic.as_str())
                .collect()
        })
        .unwrap_or_default();
    if partitions.is_empty() {
        bail!(
            "the broker at {} leads no tiered partition of {}",
            arguments.http,
            arguments.topic
        );
    }
    let mut out = std::io::stdout().lock();
    if arguments.output == Output::Json {
        serde_json::to_writer_pretty(&mut out, &partitions)?;
        writeln!(out)?;
        return Ok(());
    }
    let now_ms = clock::now_ms();
    let seconds = |value: &Value, sign: i64| match value.as_i64() {
        Some(ms) => format!("{} s", (sign * (now_ms - ms)).max(0) / 1_000),
        None => String::new(),
    };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let rows: Vec<Vec<String>> = partitions
        .iter()
        .map(|p| {
            vec![
                format!("{}-{}", arguments.topic, p["partition"]),
                text(&p["state"]),
                text(&p["uploaded_end"]),
                text(&p["lag_bytes"]),
                seconds(&p["trouble_since_ms"], 1),
                seconds(&p["next_try_ms"], -1),
                text(&p["error"]),
            ]
        })
        .collect();
    let head = [
        "partition",
        "state",
        "uploaded up to",
        "lag bytes",
        "since",
        "next try in",
        "error",
    ];
    write!(out, "{}", table(&head, &rows))?;
    Ok(())
}

/// A plain GET; the page is small.
pub(super) fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("that is no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200") {
        bail!("{status}");
    }
    Ok(body.to_owned())
}
