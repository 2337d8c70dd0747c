//! `/v1/alerts`: what detectors found; and the end of what they asked for.

use super::{Api, ApiError, CheckEmpty, EmptyBody, NamedClient, json, no_client, number, parse_query, to_the_end};
use crate::admin::alerts::Unthrottled;
use axum::extract::{RawQuery, State};
use axum::response::Response;

/// Largest `limit`.
pub(crate) const MAX_ALERTS: u64 = 100_000;
/// `limit` when the request names none.
const DEFAULT_ALERTS: u64 = 100;

pub(super) async fn alerts(State(api): State<Api>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let query = parse_query(query.as_deref(), &["limit"])?;
    let limit = number(&query, "limit", DEFAULT_ALERTS, MAX_ALERTS)?;
    Ok(json(&api.backend.alerts(limit).await))
}

pub(super) async fn unthrottle(
    State(api): State<Api>,
    key: NamedClient,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    body.check(&api)?;
    let (backend, lifted) = (api.backend, key.clone());
    if !to_the_end(async move { backend.unthrottle(lifted).await }).await? {
        return Err(no_client(&key, "is throttled"));
    }
    tracing::info!(client_id = ?key.client_id, tenant = ?key.tenant, "client no longer throttled, by the admin API");
    Ok(json(&Unthrottled {
        client_id: key.client_id,
        tenant: key.tenant,
    }))
}
