//! `strandline tier status`: topics and partitions in the store, from their manifests.

use anyhow::Context;
use clap::Args;
use indicatif::HumanBytes;
use serde_json::Value;

use super::cost::Prices;
use crate::bucket::{BucketArguments, block_on, table};

/// Show what of each partition is in the store
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Only this topic
    topic: Option<String>,
    /// A broker's http.listener: then the cost of its requests is shown too, as they were since its start
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// Prices per 1,000 writes and reads, per GiB and month of storage, per GiB that is read; the defaults are those of S3
    /// Standard in us-east-1 in USD
    #[arg(
        long,
        value_name = "write=,read=,storage=,transfer=",
        default_value = ""
    )]
    prices: Prices,
    #[command(flatten)]
    bucket: BucketArguments,
}

pub fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let (_, reader) = arguments.bucket.open()?;
    let page: Option<Value> = match &arguments.http {
        Some(http) => {
            let page = super::why::get(http, "/tier")
                .with_context(|| format!("cannot ask the broker at {http}"))?;
            Some(serde_json::from_str(&page).context("the broker's answer")?)
        }
        None => None,
    };
    block_on(async {
        let mut reports = Vec::new();
        for topic in super::topics(&reader, arguments.topic.as_deref()).await? {
            reports.extend(reader.report(&topic).await?);
        }
        let stored = reports.iter().map(|report| report.bytes).sum();
        let cost = arguments.prices.cost(stored, page.as_ref());
        let answer = serde_json::json!({
            "partitions": reports,
            "prices": arguments.prices,
            "month": cost,
            "broker": page,
        });
        arguments.bucket.print(&answer, || {
            let rows: Vec<Vec<String>> = reports
                .iter()
                .map(|report| {
                    vec![
                        format!("{}-{}", report.topic, report.partition),
                        report.start.to_string(),
                        report.end.to_string(),
                        report.objects.to_string(),
                        HumanBytes(report.bytes).to_string(),
                        report.gaps.len().to_string(),
                        if report.deleted { "deleted" } else { "live" }.to_owned(),
                    ]
                })
                .collect();
            let head = [
                "partition",
                "start",
                "end",
                "objects",
                "bytes",
                "gaps",
                "state",
            ];
            let mut text = table(&head, &rows);
            text.push_str(&format!("\na month of storage costs {:.2}", cost.storage));
            if page.is_some() {
                text.push_str(&format!(
                    ", of {:.0} writes {:.2}, of {:.0} reads {:.2}: {:.2} in all",
                    cost.write_requests, cost.writes, cost.read_requests, cost.reads, cost.total
                ));
            }
            text.push('\n');
            text
        })
    })
}
