//! Credentials from aws-config's default chain: environment, profiles, SSO, web identity, instance roles.
//!
//! Nothing is read before the first request that needs them. One load runs at a time, all others wait for it; its
//! result is kept until shortly before it expires, and a failure for a few seconds: the chain does not cache by
//! itself, and the instance-metadata time-out is long.
#![allow(clippy::disallowed_methods)] // A driver: credentials expire by the real clock.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::imds;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::ProvideCredentials;
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

const LOAD_TIMEOUT: Duration = Duration::from_secs(20);
const REFRESH_BEFORE_EXPIRY: Duration = Duration::from_secs(300);
/// On an instance the metadata service answers within a millisecond.
const IMDS_CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
const IMDS_ATTEMPTS: u32 = 2;
const FAILURE_KEPT: Duration = Duration::from_secs(5);

/// The chain behind one single-flight cache.
pub(super) struct ChainCredentials {
    region: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chain: Option<DefaultCredentialsChain>,
    current: Option<Loaded>,
    failed: Option<(Instant, String)>,
}

struct Loaded {
    credential: Arc<AwsCredential>,
    expires: Option<SystemTime>,
}

impl ChainCredentials {
    pub(super) fn new(region: String) -> Self {
        Self {
            region,
            state: Mutex::default(),
        }
    }

    async fn chain(&self) -> DefaultCredentialsChain {
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(aws_smithy_http_client::tls::Provider::Rustls(
                aws_smithy_http_client::tls::rustls_provider::CryptoMode::Ring,
            ))
            .build_https();
        let region = aws_config::Region::new(self.region.clone());
        let config = ProviderConfig::without_region()
            .with_region(Some(region.clone()))
            .with_http_client(http);
        // The chain would look for a region of its own and for instance roles with long time-outs, also where there is no
        // metadata service: told the region, and with short ones, it does not.
        let instance = imds::Client::builder()
            .configure(&config)
            .connect_timeout(IMDS_CONNECT_TIMEOUT)
            .max_attempts(IMDS_ATTEMPTS)
            .build();
        DefaultCredentialsChain::builder()
            .region(region)
            .imds_client(instance)
            .configure(config)
            .build()
            .await
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut state = self.state.lock().await;
        let now = SystemTime::now();
        let valid_for = |margin: Duration, loaded: &Loaded| {
            loaded
                .expires
                .is_none_or(|at| at.duration_since(now).is_ok_and(|left| left > margin))
        };
        if let Some(loaded) = &state.current
            && valid_for(REFRESH_BEFORE_EXPIRY, loaded)
        {
            return Ok(Arc::clone(&loaded.credential));
        }
        let still_usable = state
            .current
            .as_ref()
            .filter(|loaded| valid_for(Duration::ZERO, loaded))
            .map(|loaded| Arc::clone(&loaded.credential));
        if let Some((at, why)) = &state.failed
            && at.elapsed() < FAILURE_KEPT
        {
            return still_usable.map_or_else(|| Err(unauthenticated(why.clone())), Ok);
        }
        if state.chain.is_none() {
            state.chain = Some(self.chain().await);
        }
        let loading = async {
            match &state.chain {
                Some(chain) => chain.provide_credentials().await,
                None => unreachable!("set above"),
            }
        };
        let why = match tokio::time::timeout(LOAD_TIMEOUT, loading).await {
            Ok(Ok(credentials)) => {
                let credential = Arc::new(AwsCredential {
                    key_id: credentials.access_key_id().to_owned(),
                    secret_key: credentials.secret_access_key().to_owned(),
                    token: credentials.session_token().map(str::to_owned),
                });
                state.failed = None;
                state.current = Some(Loaded {
                    credential: Arc::clone(&credential),
                    expires: credentials.expiry(),
                });
                return Ok(credential);
            }
            Ok(Err(e)) => aws_text(&e),
            Err(_) => format!("no answer within {} s", LOAD_TIMEOUT.as_secs()),
        };
        tracing::warn!(cause = %why, "could not load AWS credentials");
        state.failed = Some((Instant::now(), why.clone()));
        still_usable.map_or_else(|| Err(unauthenticated(why)), Ok)
    }
}

fn aws_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

fn unauthenticated(why: String) -> object_store::Error {
    object_store::Error::Unauthenticated {
        path: String::new(),
        source: format!("no AWS credentials: {why}").into(),
    }
}

impl std::fmt::Debug for ChainCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainCredentials")
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
