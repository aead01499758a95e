//! The HTTP listener: `/metrics` for Prometheus, `/healthz` and `/readyz` for people and orchestrators.
//!
//! Plain HTTP/1.1 on an address of its own (`http.listener`), bounded in connections. It changes nothing.

mod health;
mod limited_listener;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Encoder, Registry, TextEncoder};
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

/// Binds `host:port`; the address is returned because port 0 takes any free one.
pub async fn bind(address: &str) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Serves until the flag is set.
pub async fn serve(
    listener: Arc<TcpListener>,
    connections_max: usize,
    state: HttpState,
    mut stop: StopFlag,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(state);
    axum::serve(LimitedListener::new(listener, connections_max), router)
        .with_graceful_shutdown(async move { stop.wait().await })
        .await
}

async fn metrics(State(state): State<HttpState>) -> Response {
    let mut page = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&state.registry.gather(), &mut page) {
        Ok(()) => (
            [(header::CONTENT_TYPE, encoder.format_type().to_owned())],
            page,
        )
            .into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
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

/// 200 once clients are served, and until the broker stops.
async fn readyz(State(state): State<HttpState>) -> Response {
    match state.health.report().ready {
        true => (StatusCode::OK, "ready\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
