//! Requests and errors by API.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use strandline_wire::{Api, KafkaError};

pub struct ApiMetrics {
    /// By position in `Api::ALL`: looked up once.
    requests: Vec<IntCounter>,
    errors: IntCounterVec,
}

impl ApiMetrics {
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("strandline_requests_total", "Requests taken, by API."),
            &["api"],
        )?;
        let errors = IntCounterVec::new(
            Opts::new(
                "strandline_request_errors_total",
                "Errors in answers, by API and Kafka's name of the error. One answer may hold several.",
            ),
            &["api", "error"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        let requests = Api::ALL
            .iter()
            .map(|api| requests.with_label_values(&[api.name()]))
            .collect();
        Ok(Self { requests, errors })
    }

    pub fn request(&self, api: Api) {
        // The enum's order is that of `Api::ALL`: both come from one table.
        if let Some(counter) = self.requests.get(api as usize) {
            counter.inc();
        }
    }

    pub fn error(&self, api: Api, error: KafkaError) {
        self.errors
            .with_label_values(&[api.name(), &kafka_name(error)])
            .inc();
    }
}

/// The error's name in Kafka's documentation: the variant's, in capitals.
fn kafka_name(error: KafkaError) -> String {
    let mut name = String::new();
    for letter in format!("{error:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_names_of_the_documentation() {
        for (error, name) in [
            (
                KafkaError::UnknownTopicOrPartition,
                "UNKNOWN_TOPIC_OR_PARTITION",
            ),
            (KafkaError::CorruptMessage, "CORRUPT_MESSAGE"),
            (
                KafkaError::FetchSessionIdNotFound,
                "FETCH_SESSION_ID_NOT_FOUND",
            ),
        ] {
            assert_eq!(kafka_name(error), name);
        }
    }

    #[test]
    fn an_api_is_where_the_table_has_it() {
        for (position, api) in Api::ALL.iter().enumerate() {
            assert_eq!(*api as usize, position);
        }
    }
}
