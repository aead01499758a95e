//! How long requests take, by API and by where the time goes: Kafka's RequestMetrics.
//!
//! Always: an observation costs no lock and no allocation; only APIs that were asked for are exported, so the page grows
//! with what is used, and never beyond the table of APIs.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, MetricFamily, MetricType};
use strandline_wire::Api;

use crate::time_histogram::TimeHistogram;

/// One request's time, split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestTimes {
    pub queue: Duration,
    pub local: Duration,
    pub remote: Duration,
    pub send: Duration,
}

const NAMES: [(&str, &str); 5] = [
    (
        "strandline_request_queue_time_seconds",
        "Seconds from a request's last byte until it was worked on: waiting for memory to decode it, and for the requests before it on its connection (Kafka's RequestQueueTimeMs).",
    ),
    (
        "strandline_request_local_time_seconds",
        "Seconds of work on a request by this broker, its log and disk included (Kafka's LocalTimeMs).",
    ),
    (
        "strandline_request_remote_time_seconds",
        "Seconds that a request waited for others: replicas for a Produce, new records or the object store for a Fetch, members for a JoinGroup, a commit of the metadata or offsets for the rest (Kafka's RemoteTimeMs).",
    ),
    (
        "strandline_request_send_time_seconds",
        "Seconds from an answer that was ready until the socket had taken all of it (Kafka's ResponseSendTimeMs).",
    ),
    (
        "strandline_request_total_time_seconds",
        "Seconds from a request's last byte until the socket had taken all of its answer (Kafka's TotalTimeMs).",
    ),
];

type OfApi = [TimeHistogram; NAMES.len()];

#[derive(Clone, Debug)]
pub struct RequestMetrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    descs: Vec<Desc>,
    /// By position in `Api::ALL`, which is the enum's order.
    by_api: Vec<OfApi>,
}

impl RequestMetrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let descs = NAMES
            .iter()
            .map(|(name, help)| {
                let labels = vec!["api".to_owned()];
                Desc::new(
                    (*name).to_owned(),
                    (*help).to_owned(),
                    labels,
                    Default::default(),
                )
            })
            .collect::<Result<_, _>>()?;
        let metrics = Self(Arc::new(Inner {
            descs,
            by_api: Api::ALL.iter().map(|_| OfApi::default()).collect(),
        }));
        registry.register(Box::new(metrics.clone()))?;
        Ok(metrics)
    }

    pub fn observe(&self, api: Api, times: RequestTimes) {
        let Some(of_api) = self.0.by_api.get(api as usize) else {
            return;
        };
        let RequestTimes {
            queue,
            local,
            remote,
            send,
        } = times;
        let total = queue + local + remote + send;
        for (histogram, time) in of_api.iter().zip([queue, local, remote, send, total]) {
            histogram.observe(time);
        }
    }
}

impl Collector for RequestMetrics {
    fn desc(&self) -> Vec<&Desc> {
        self.0.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let used: Vec<(&Api, &OfApi)> = Api::ALL
            .iter()
            .zip(&self.0.by_api)
            .filter(|(_, of_api)| of_api[0].count() > 0)
            .collect();
        if used.is_empty() {
            return Vec::new();
        }
        NAMES
            .iter()
            .enumerate()
            .map(|(part, (name, help))| {
                let metrics = used.iter().map(|(api, of_api)| {
                    let mut label = proto::LabelPair::default();
                    label.set_name("api".to_owned());
                    label.set_value(api.name().to_owned());
                    let mut metric = proto::Metric::from_label(vec![label]);
                    metric.set_histogram(of_api[part].to_proto());
                    metric
                });
                let mut family = MetricFamily::default();
                family.set_name((*name).to_owned());
                family.set_help((*help).to_owned());
                family.set_field_type(MetricType::HISTOGRAM);
                family.set_metric(metrics.collect());
                family
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_in_every_part_and_only_used_apis_are_shown() {
        let registry = Registry::new();
        let metrics = RequestMetrics::register(&registry).expect("registers");
        assert!(registry.gather().is_empty());
        let ms = Duration::from_millis;
        let times = RequestTimes {
            queue: ms(1),
            local: ms(2),
            remote: ms(4),
            send: ms(8),
        };
        metrics.observe(Api::Fetch, times);
        let families = registry.gather();
        assert_eq!(families.len(), NAMES.len());
        let mut sums: Vec<(String, f64)> = families
            .iter()
            .map(|family| {
                let [metric] = family.get_metric() else {
                    panic!("{}: one API was asked", family.name());
                };
                assert_eq!(metric.get_label()[0].value(), "Fetch");
                assert_eq!(metric.get_histogram().get_sample_count(), 1);
                (
                    family.name().to_owned(),
                    metric.get_histogram().get_sample_sum(),
                )
            })
            .collect();
        sums.sort_by(|a, b| a.1.total_cmp(&b.1));
        let seconds: Vec<f64> = sums.iter().map(|(_, sum)| *sum).collect();
        assert_eq!(seconds, [0.001, 0.002, 0.004, 0.008, 0.015]);
        assert_eq!(sums[4].0, "strandline_request_total_time_seconds");
    }
}
