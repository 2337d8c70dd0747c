//! `/v1/bans`: what `nervewire bans` speaks to.

use super::super::bans::{BanRefused, BanTarget};
use super::{Api, ApiError, bad_request, json, to_the_end, too_long};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;

pub(super) async fn list(State(api): State<Api>) -> Response {
    json(&api.backend.bans().await)
}

pub(super) async fn add(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let target = target(&api, body)?;
    let backend = api.backend;
    Ok(json(&to_the_end(async move { backend.ban(target).await }).await??))
}

pub(super) async fn lift(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let target = target(&api, body)?;
    let backend = api.backend;
    Ok(json(&to_the_end(async move { backend.lift(target).await }).await??))
}

fn target(api: &Api, body: Result<Bytes, BytesRejection>) -> Result<BanTarget, ApiError> {
    let body = body.map_err(|rejection| too_long(api, &rejection))?;
    serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"client": "c"}, {"user": "u", "seconds": 3600}, {"address": "192.0.2.1"} or {"network": "192.0.2.0/24"}"#;
        bad_request(format!("{error}; send for example {example}"))
    })
}

impl From<BanRefused> for ApiError {
    fn from(refused: BanRefused) -> Self {
        let status = match refused {
            BanRefused::Request(_) => StatusCode::BAD_REQUEST,
            BanRefused::NotFound(_) => StatusCode::NOT_FOUND,
            BanRefused::Impossible(_) => StatusCode::CONFLICT,
        };
        Self::new(status, refused.to_string())
    }
}
