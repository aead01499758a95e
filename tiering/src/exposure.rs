//! What would be lost with this machine now: committed records that are in no manifest and in no tail object yet. Worked out when it is asked for.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::sync::atomic::Ordering;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};
use strandline_log::TimestampMs;

use crate::remote_partition::RemotePartition;
use crate::tier::Tier;

/// Topics with series of their own; the rest share one.
const TOPICS_MAX: usize = 1_000;
const OTHERS: &str = "(others)";

/// Of a partition, what only local disks hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    pub records: u64,
    pub bytes: u64,
    /// When the oldest of them was written, by our clock.
    pub since_ms: Option<TimestampMs>,
}

impl RemotePartition {
    /// Whether its topic is tiered and copied.
    pub(crate) fn is_copied(&self) -> bool {
        let config = self.log().config();
        config.remote_storage_enable && !config.remote_log_copy_disable && !self.is_gone()
    }

    /// What would be lost of it now. Until the manifest was seen, that is everything that is local.
    pub fn unprotected(&self) -> Exposure {
        let log = self.log();
        let named = self.manifest().map_or(0, |m| m.end_offset());
        let from = named
            .max(self.tail_end.load(Ordering::Acquire))
            .max(log.local_log_start_offset());
        let end = log.high_watermark().min(log.last_stable_offset());
        let Ok(records @ 1..) = u64::try_from(end - from) else {
            return Exposure::default();
        };
        let now_ms = self.core.clock.now_ms();
        let mut exposure = Exposure {
            records,
            ..Exposure::default()
        };
        for segment in log.log_segments().iter() {
            let (base, next) = (segment.base_offset(), segment.next_offset());
            if next <= from || base >= end {
                continue;
            }
            // Of a segment that is named in part, the share of its offsets.
            let share = u128::from(segment.size()) * (next - from.max(base)) as u128
                / (next - base).max(1) as u128;
            exposure.bytes += share as u64;
            exposure
                .since_ms
                .get_or_insert_with(|| now_ms - segment.age_ms(now_ms).max(0));
        }
        exposure
    }
}

const NAMES: [(&str, &str); 4] = [
    (
        "strandline_remote_unprotected_records",
        "Committed records of tiered topics that the object store does not have: what would be lost with this machine now.",
    ),
    (
        "strandline_remote_unprotected_bytes",
        "Bytes of committed records of tiered topics that the object store does not have.",
    ),
    (
        "strandline_remote_unprotected_seconds",
        "Seconds since the oldest record was written that the object store does not have, at most.",
    ),
    (
        "strandline_remote_copy_lag_seconds",
        "Seconds that the oldest sealed segment has waited for its upload.",
    ),
];

pub(crate) struct ExposureMetrics {
    tier: Weak<Tier>,
    descs: Vec<Desc>,
}

impl ExposureMetrics {
    pub fn new(tier: Weak<Tier>) -> prometheus::Result<Self> {
        let desc = |(name, help): &(&str, &str)| {
            let labels = vec!["topic".to_owned()];
            Desc::new(
                (*name).to_owned(),
                (*help).to_owned(),
                labels,
                Default::default(),
            )
        };
        Ok(Self {
            tier,
            descs: NAMES.iter().map(desc).collect::<Result<_, _>>()?,
        })
    }
}

impl Collector for ExposureMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(tier) = self.tier.upgrade() else {
            return Vec::new();
        };
        let now_ms = tier.now_ms();
        let mut topics: BTreeMap<String, [f64; NAMES.len()]> = BTreeMap::new();
        for partition in tier.partitions() {
            let exposed = partition.unprotected();
            let exposed_ms = exposed.since_ms.map_or(0, |since| now_ms - since);
            let topic = &*partition.topic_partition().topic;
            let label = if topics.len() < TOPICS_MAX || topics.contains_key(topic) {
                topic
            } else {
                OTHERS
            };
            let values = topics.entry(label.to_owned()).or_default();
            values[0] += exposed.records as f64;
            values[1] += exposed.bytes as f64;
            values[2] = values[2].max(exposed_ms as f64 / 1e3);
            values[3] = values[3].max(partition.status().lag_ms(now_ms) as f64 / 1e3);
        }
        if topics.is_empty() {
            return Vec::new();
        }
        let families = NAMES.iter().enumerate().map(|(place, (name, help))| {
            let metrics = topics.iter().map(|(topic, values)| {
                let mut label = LabelPair::default();
                label.set_name("topic".to_owned());
                label.set_value(topic.clone());
                let mut gauge = Gauge::default();
                gauge.set_value(values[place]);
                let mut metric = Metric::from_label(vec![label]);
                metric.set_gauge(gauge);
                metric
            });
            let mut family = MetricFamily::default();
            family.set_name((*name).to_owned());
            family.set_help((*help).to_owned());
            family.set_field_type(MetricType::GAUGE);
            family.set_metric(metrics.collect());
            family
        });
        families.collect()
    }
}
