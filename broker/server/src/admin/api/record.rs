//! `/v1/record`: what `nervewire record` speaks to.

use super::super::backend::{RecordError, RecordRequest};
use super::{Api, ApiError, CheckEmpty, EmptyBody, bad_request, json, to_the_end, too_long};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::Response;

pub(super) async fn status(State(api): State<Api>) -> Response {
    json(&api.backend.record_status().await)
}

pub(super) async fn start(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| too_long(&api, &rejection))?;
    let request: RecordRequest = serde_json::from_slice(&body)
        .map_err(|error| bad_request(format!("the body is no recording to start: {error}")))?;
    let backend = api.backend;
    let started = to_the_end(async move { backend.record_start(request).await }).await??;
    tracing::info!(file = ?started.file, "recording started through the admin API");
    Ok(json(&started))
}

pub(super) async fn stop(State(api): State<Api>, body: EmptyBody) -> Result<Response, ApiError> {
    body.check(&api)?;
    let backend = api.backend;
    Ok(json(&to_the_end(async move { backend.record_stop().await }).await??))
}

impl From<RecordError> for ApiError {
    fn from(refused: RecordError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, refused.0)
    }
}
