//! What the logs on disk amount to, by topic, summed up when the page is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use strandline_log::{Log, LogManager};

use crate::partition::TopicLabels;

struct Sum {
    name: &'static str,
    help: &'static str,
    of: fn(&Log) -> f64,
}

const SUMS: [Sum; 4] = [
    Sum {
        name: "strandline_log_size_bytes",
        help: "Bytes of record batches in the topic's logs on this broker's disks (Kafka's Log Size).",
        of: |log| log.size_bytes() as f64,
    },
    Sum {
        name: "strandline_log_segments",
        help: "Segments of the topic's logs on this broker's disks (Kafka's NumLogSegments).",
        of: |log| log.segment_count() as f64,
    },
    Sum {
        name: "strandline_log_unflushed_records",
        help: "Records of the topic's logs that no fsync has covered yet.",
        of: |log| log.unflushed_records().max(0) as f64,
    },
    Sum {
        name: "strandline_log_damaged_ranges",
        help: "Ranges of the topic's logs whose batches the disk has damaged; fetches of them get CORRUPT_MESSAGE.",
        of: |log| log.damage_count() as f64,
    },
];

pub struct LogMetrics {
    logs: Arc<LogManager>,
    labels: Arc<TopicLabels>,
    descs: Vec<Desc>,
}

impl LogMetrics {
    pub fn new(logs: Arc<LogManager>, labels: Arc<TopicLabels>) -> prometheus::Result<Self> {
        let descs = SUMS
            .iter()
            .map(|sum| {
                let labels = vec!["topic".to_owned()];
                Desc::new(
                    sum.name.to_owned(),
                    sum.help.to_owned(),
                    labels,
                    Default::default(),
                )
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            logs,
            labels,
            descs,
        })
    }
}

impl Collector for LogMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut by_label: BTreeMap<String, [f64; SUMS.len()]> = BTreeMap::new();
        for log in self.logs.logs() {
            let label = self.labels.of(&log.topic_partition().topic);
            let values = SUMS.each_ref().map(|sum| (sum.of)(&log));
            match by_label.get_mut(label) {
                Some(sums) => sums
                    .iter_mut()
                    .zip(values)
                    .for_each(|(sum, value)| *sum += value),
                None => {
                    by_label.insert(label.to_owned(), values);
                }
            }
        }
        if by_label.is_empty() {
            return Vec::new();
        }
        SUMS.iter()
            .enumerate()
            .map(|(index, sum)| {
                let metrics = by_label.iter().map(|(topic, sums)| {
                    let mut label = LabelPair::default();
                    label.set_name("topic".to_owned());
                    label.set_value(topic.clone());
                    let mut gauge = Gauge::default();
                    gauge.set_value(sums[index]);
                    let mut metric = Metric::from_label(vec![label]);
                    metric.set_gauge(gauge);
                    metric
                });
                let mut family = MetricFamily::default();
                family.set_name(sum.name.to_owned());
                family.set_help(sum.help.to_owned());
                family.set_field_type(MetricType::GAUGE);
                family.set_metric(metrics.collect());
                family
            })
            .collect()
    }
}
