//! The HTTP listener: `/metrics` for Prometheus, `/healthz` and `/readyz` for people and orchestrators,
//! `/tier` for `strandline tier why`.
//!
//! Plain HTTP/1.1 on an address of its own (`http.listener`), bounded in connections. It changes nothing.

mod health;
mod limited_listener;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TEXT_FORMAT, TextEncoder};
use tokio::net::TcpListener;

pub use health::{Health, HealthReport};
use limited_listener::LimitedListener;

use crate::supervisor::StopFlag;

/// What the pages are made of.
#[derive(Clone)]
pub struct HttpState {
    pub registry: Registry,
    pub health: Arc<dyn Health>,
}

#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    pub connections_max: usize,
    /// A connection on which nothing moves for this long is closed.
    pub idle: Duration,
}

/// Binds `host:port`; the address is returned because port 0 takes any free one.
pub async fn bind(address: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until the flag is set.
pub async fn serve(
    listener: Arc<TcpListener>,
    limits: HttpLimits,
    state: HttpState,
    mut stop: StopFlag,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/tier", get(tier))
        .with_state(state);
    let listener = LimitedListener::new(listener, limits.connections_max, limits.idle);
    axum::serve(listener, router)
        .with_graceful_shutdown(async move { stop.wait().await })
        .await
}

async fn metrics(State(state): State<HttpState>) -> Response {
    // Some of it walks all logs: not on a thread that serves clients.
    let gathered = tokio::task::spawn_blocking(move || {
        let mut page = Vec::new();
        TextEncoder::new()
            .encode(&state.registry.gather(), &mut page)
            .map(|()| page)
    });
    match gathered.await {
        Ok(Ok(page)) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], page).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(_) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "gathering the metrics failed by a bug\n",
        )
            .into_response(),
    }
}

/// 200 while nothing needs a person; else 503 with what does.
async fn healthz(State(state): State<HttpState>) -> Response {
    let report = state.health.report();
    let status = match report.problems.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, report.to_string()).into_response()
}

/// Each partition's upload, for `strandline tier why`.
async fn tier(State(state): State<HttpState>) -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, state.health.tier()).into_response()
}

/// 200 once clients are served, and until the broker stops.
async fn readyz(State(state): State<HttpState>) -> Response {
    match state.health.report().ready {
        true => (StatusCode::OK, "ready\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
