//! Builds the S3 client: endpoint, addressing, TLS, timeouts. Makes no request.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{
    AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider,
    S3ConditionalPut,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig, StaticCredentialProvider};

use super::s3_credentials::ChainCredentials;
use super::s3_put::{S3Put, S3PutOptions};
use super::{ObjectSettings, StoreError};

/// What is used when an endpoint is given and a region is not: other servers than AWS take any.
const REGION_DEFAULT: &str = "us-east-1";

/// How to reach an S3-compatible store; from the remote.storage.s3.* configs.
#[derive(Clone)]
pub struct S3Options {
    /// For servers other than AWS: `http(s)://host:port`.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    /// `None`: path style exactly when an endpoint is given.
    pub path_style: Option<bool>,
    /// Plain http is taken when the endpoint says so.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    pub objects: ObjectSettings,
    pub connect_timeout_ms: u64,
    /// A request that receives nothing for this long is given up.
    pub read_timeout_ms: u64,
    /// From a request's first attempt; later failures are not retried here.
    pub retry_timeout_ms: u64,
    pub retries_max: usize,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            access_key_id: None,
            secret_access_key: None,
            objects: ObjectSettings::default(),
            connect_timeout_ms: 5_000,
            read_timeout_ms: 30_000,
            retry_timeout_ms: 60_000,
            retries_max: 4,
        }
    }
}

impl std::fmt::Debug for S3Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Options")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Makes ring the process's TLS provider. The HTTP client is built without one; a second call changes nothing.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(super) fn build(bucket: &str, options: &S3Options) -> Result<(AmazonS3, S3Put), StoreError> {
    install_tls_provider();
    let region = options
        .region
        .clone()
        .or_else(|| match options.endpoint {
            Some(_) => None,
            None => ["AWS_REGION", "AWS_DEFAULT_REGION"]
                .iter()
                .find_map(|name| variable(name))
                .or_else(region_of_profile),
        })
        .unwrap_or_else(|| REGION_DEFAULT.to_owned());
    let path_style = options.path_style.unwrap_or(options.endpoint.is_some());
    let client = ClientOptions::new()
        .with_connect_timeout(Duration::from_millis(options.connect_timeout_ms))
        .with_read_timeout(Duration::from_millis(options.read_timeout_ms))
        // A whole-request limit would cut large parts on slow links; progress is what counts.
        .with_timeout_disabled();
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&region)
        .with_virtual_hosted_style_request(!path_style)
        .with_client_options(client)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: options.retries_max,
            retry_timeout: Duration::from_millis(options.retry_timeout_ms),
        })
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Deletes are single here, and not every server has the bulk request.
        .with_disable_bulk_delete(true);
    if let Some(endpoint) = &options.endpoint {
        let plain = match endpoint.split_once("://") {
            Some(("http", _)) => true,
            Some(("https", _)) => false,
            _ => {
                return Err(StoreError::Invalid {
                    what: format!(
                        "endpoint \"{endpoint}\"; expected http://host:port or https://host"
                    ),
                });
            }
        };
        builder = builder
            .with_endpoint(endpoint.trim_end_matches('/'))
            .with_allow_http(plain);
    }
    let encryption = [
        ("aws_server_side_encryption", &options.objects.encryption),
        ("aws_sse_kms_key_id", &options.objects.kms_key_id),
    ];
    for (name, value) in encryption {
        if let Some(value) = value {
            let key: AmazonS3ConfigKey = name.parse().map_err(|e| StoreError::Invalid {
                what: format!("{name}: {e}"),
            })?;
            builder = builder.with_config(key, value.to_string());
        }
    }
    let credentials: AwsCredentialProvider =
        match (&options.access_key_id, &options.secret_access_key) {
            (Some(id), Some(secret)) => Arc::new(StaticCredentialProvider::new(AwsCredential {
                key_id: id.clone(),
                secret_key: secret.clone(),
                token: None,
            })),
            (None, None) => Arc::new(ChainCredentials::new(region.clone())),
            _ => {
                return Err(StoreError::Invalid {
                    what:
                        "an access key id and a secret access key belong together; one is missing"
                            .to_owned(),
                });
            }
        };
    let client = builder
        .with_credentials(Arc::clone(&credentials))
        .build()
        .map_err(|e| StoreError::Invalid {
            what: e.to_string(),
        })?;
    let base = match options.endpoint.as_deref().map(|e| e.trim_end_matches('/')) {
        Some(endpoint) if path_style => format!("{endpoint}/{bucket}"),
        // The endpoint names the bucket.
        Some(endpoint) => endpoint.to_owned(),
        None if path_style => format!("https://s3.{region}.amazonaws.com/{bucket}"),
        None => format!("https://{bucket}.s3.{region}.amazonaws.com"),
    };
    let put = S3Put::new(S3PutOptions {
        base,
        region,
        credentials,
        connect_timeout: Duration::from_millis(options.connect_timeout_ms),
        stall: Duration::from_millis(options.read_timeout_ms),
    })?;
    Ok((client, put))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The region of the profile in use. A small file; no network.
fn region_of_profile() -> Option<String> {
    let path = variable("AWS_CONFIG_FILE")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".aws").join("config")))?;
    let text = std::fs::read_to_string(path).ok()?;
    let profile = variable("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    region_in(&text, &profile)
}

fn region_in(text: &str, profile: &str) -> Option<String> {
    let mut here = false;
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        if let Some(section) = line.trim().strip_prefix('[') {
            let section = section.trim_end().trim_end_matches(']').trim();
            let name = section.strip_prefix("profile ").unwrap_or(section).trim();
            here = name == profile;
        } else if here
            && let Some((key, value)) = line.split_once('=')
            && key == key.trim_start()
            && key.trim() == "region"
        {
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_tells_its_region() {
        let text = "[default]\nregion = eu-central-1 # near\noutput=json\n\n[profile far]\ns3 =\n  region = no\nregion=ap-south-1\n[bare]\n";
        for (profile, region) in [
            ("default", Some("eu-central-1")),
            ("far", Some("ap-south-1")),
            ("bare", None),
            ("other", None),
        ] {
            assert_eq!(region_in(text, profile).as_deref(), region, "{profile}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_named_and_the_rest_builds_without_a_request() {
        let minio = S3Options {
            endpoint: Some("http://127.0.0.1:9000".to_owned()),
            ..S3Options::default()
        };
        assert!(build("bucket", &minio).is_ok());
        assert!(build("bucket", &S3Options::default()).is_ok());
        let no_scheme = S3Options {
            endpoint: Some("127.0.0.1:9000".to_owned()),
            ..S3Options::default()
        };
        let err = build("bucket", &no_scheme).expect_err("no scheme");
        assert!(err.to_string().contains("expected http://"), "{err}");
        let half = S3Options {
            access_key_id: Some("id".to_owned()),
            ..S3Options::default()
        };
        let err = build("bucket", &half).expect_err("no secret");
        assert!(err.to_string().contains("belong together"), "{err}");
        assert!(!format!("{half:?}").contains("secret_access_key"));
    }
}
