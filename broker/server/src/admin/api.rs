//! The routes of the admin API: each turns a request into a question to the [`Backend`] and its answer into JSON.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode, request::Parts};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod alerts;
mod bans;
mod record;

use super::backend::{Backend, ErrorBody, Kicked, NamedClient, PageRequest, ReloadError};
use super::diff::DiffReset;
use super::explain::Wanted;
use super::guard::{self, HEALTH_PATH, Refusal, Token};
use super::metrics::{self, METRICS_CONTENT_TYPE};
pub(crate) use alerts::MAX_ALERTS;

/// Largest `limit` of `GET /v1/clients`.
pub(crate) const MAX_CLIENTS_PER_PAGE: u64 = 1_000;
/// Its `limit` when the request names none.
pub(crate) const DEFAULT_CLIENTS_PER_PAGE: u64 = 100;
/// Longest request body; no request needs one.
pub(crate) const MAX_BODY_BYTES: usize = 4 * 1024;
/// How long the broker may take to answer a question.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to reload: components are compiled.
pub(crate) const RELOAD_TIMEOUT: Duration = Duration::from_secs(120);

const RELOAD_PATH: &str = "/v1/reload";
const ROLLBACK_PATH: &str = "/v1/rollback";

/// How often the admin server's own bounds were hit. Handed to every server, so that the counts outlive a replacement.
#[derive(Debug, Default)]
pub(crate) struct AdminCounters {
    pub(super) connections: AtomicU64,
    pub(super) body_bytes: AtomicU64,
    pub(super) request_time: AtomicU64,
}

impl AdminCounters {
    /// Rows of `nervewire_bounds_hit_total`.
    fn bounds_hit(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("admin_connections", read(&self.connections)),
            ("admin_body_bytes", read(&self.body_bytes)),
            ("admin_request_time", read(&self.request_time)),
        ]
    }
}

/// The token in force, shared by the connections, so that a reload can change it without closing the listener.
pub(super) type SharedToken = Arc<RwLock<Option<Token>>>;

/// What every handler works with.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) counters: Arc<AdminCounters>,
    pub(super) bound: SocketAddr,
    pub(super) token: SharedToken,
    /// One permit: who holds it reloads.
    pub(super) reloading: Arc<Semaphore>,
}

/// All routes, behind the guard and the time limit.
pub(super) fn router(api: Api) -> Router {
    Router::new()
        .route(HEALTH_PATH, get(health))
        .route("/metrics", get(metrics_text))
        .route("/v1/status", get(status))
        .route("/v1/clients", get(clients))
        .route("/v1/clients/{id}", get(client))
        .route("/v1/clients/{id}/kick", post(kick))
        .route("/v1/clients/{id}/unthrottle", post(alerts::unthrottle))
        .route("/v1/alerts", get(alerts::alerts))
        .route("/v1/plugins", get(plugins))
        .route("/v1/plugins/{name}/diff", get(diff))
        .route("/v1/plugins/{name}/diff/reset", post(reset_diff))
        .route("/v1/explain", post(explain))
        .route(RELOAD_PATH, post(reload))
        .route(ROLLBACK_PATH, post(rollback))
        .route("/v1/bans", get(bans::list).post(bans::add))
        .route("/v1/bans/lift", post(bans::lift))
        .route("/v1/record", get(record::status))
        .route("/v1/record/start", post(record::start))
        .route("/v1/record/stop", post(record::stop))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(api.clone(), admit))
        .with_state(api)
}

/// The guard, then the handler under its time limit; the headers that every answer carries.
async fn admit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let checked = guard::check(&parts, api.bound, current_token(&api.token).as_ref());
    let answer = match checked {
        Ok(()) => in_time(&api, Request::from_parts(parts, body), next).await,
        Err(refusal) => refuse(refusal),
    };
    (
        [(CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")],
        answer,
    )
        .into_response()
}

/// Logged where nobody sees it by default: whoever reaches the listener could fill the log.
fn refuse(refusal: Refusal) -> Response {
    tracing::debug!(%refusal, "admin request refused");
    ApiError::from(refusal).into_response()
}

fn current_token(token: &SharedToken) -> Option<Token> {
    token.read().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn in_time(api: &Api, request: Request, next: Next) -> Response {
    let limit = if [RELOAD_PATH, ROLLBACK_PATH].contains(&request.uri().path()) {
        RELOAD_TIMEOUT
    } else {
        REQUEST_TIMEOUT
    };
    within(limit, &api.counters, next.run(request)).await
}

async fn within(limit: Duration, counters: &AdminCounters, answer: impl Future<Output = Response>) -> Response {
    if let Ok(answer) = tokio::time::timeout(limit, answer).await {
        return answer;
    }
    counters.request_time.fetch_add(1, Ordering::Relaxed);
    let error = format!(
        "the broker did not answer within {} s; look at its log",
        limit.as_secs()
    );
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error).into_response()
}

async fn health(State(api): State<Api>) -> Result<Response, ApiError> {
    if api.backend.healthy().await {
        return Ok(json(&BTreeMap::from([("status", "ok")])));
    }
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "the broker does not serve clients; look at its log",
    ))
}

async fn metrics_text(State(api): State<Api>) -> Result<Response, ApiError> {
    let mut snapshot = api.backend.metrics().await;
    snapshot.bounds_hit.extend(api.counters.bounds_hit());
    let text = metrics::render(snapshot).map_err(internal)?;
    Ok(([(CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response())
}

async fn status(State(api): State<Api>) -> Response {
    json(&api.backend.status().await)
}

async fn clients(State(api): State<Api>, page: PageRequest) -> Response {
    json(&api.backend.clients(page).await)
}

async fn client(State(api): State<Api>, key: NamedClient) -> Result<Response, ApiError> {
    match api.backend.client(key.clone()).await {
        Some(info) => Ok(json(&info)),
        None => Err(no_client(&key, "has a session")),
    }
}

async fn kick(State(api): State<Api>, key: NamedClient, body: EmptyBody) -> Result<Response, ApiError> {
    body.check(&api)?;
    let (backend, kicked) = (api.backend, key.clone());
    if !to_the_end(async move { backend.kick(kicked).await }).await? {
        return Err(no_client(&key, "is connected"));
    }
    tracing::info!(client_id = ?key.client_id, tenant = ?key.tenant, "client disconnected through the admin API");
    Ok(json(&Kicked {
        client_id: key.client_id,
        tenant: key.tenant,
    }))
}

async fn plugins(State(api): State<Api>) -> Response {
    json(&api.backend.plugins().await)
}

async fn diff(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    match api.backend.diff(name.clone()).await {
        Some(diff) => Ok(json(&diff)),
        None => Err(no_shadow(&name)),
    }
}

async fn reset_diff(State(api): State<Api>, Path(name): Path<String>, body: EmptyBody) -> Result<Response, ApiError> {
    body.check(&api)?;
    if !api.backend.reset_diff(name.clone()).await {
        return Err(no_shadow(&name));
    }
    Ok(json(&DiffReset { plugin: name }))
}

async fn explain(State(api): State<Api>, body: Result<Bytes, BytesRejection>) -> Result<Response, ApiError> {
    let body = body.map_err(|rejection| too_long(&api, &rejection))?;
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|error| {
        let example = r#"{"client_id": "c", "action": "publish", "topic": "t"}"#;
        bad_request(format!("{error}; send for example {example}"))
    })?;
    Ok(json(&api.backend.explain(wanted).await.map_err(bad_request)?))
}

fn no_shadow(name: &str) -> ApiError {
    let error = format!("no plugin {name:?} is in shadow mode; GET /v1/plugins (nervewire plugins) lists them");
    ApiError::new(StatusCode::NOT_FOUND, error)
}

async fn reload(State(api): State<Api>, body: EmptyBody) -> Result<Response, ApiError> {
    body.check(&api)?;
    let turn = turn(&api)?;
    let backend = api.backend;
    let report = to_the_end(async move {
        let report = backend.reload().await;
        drop(turn);
        report
    });
    Ok(json(&report.await??))
}

async fn rollback(State(api): State<Api>, body: EmptyBody) -> Result<Response, ApiError> {
    body.check(&api)?;
    let turn = turn(&api)?;
    let backend = api.backend;
    let report = to_the_end(async move {
        let report = backend.rollback().await;
        drop(turn);
        report
    });
    let impossible = |error: ReloadError| ApiError::new(StatusCode::CONFLICT, error.to_string());
    Ok(json(&report.await?.map_err(impossible)?))
}

/// One change of the generation at a time.
fn turn(api: &Api) -> Result<OwnedSemaphorePermit, ApiError> {
    let busy = "another reload is under way; repeat the request when it is done";
    let turn = api.reloading.clone().try_acquire_owned();
    turn.map_err(|_| ApiError::new(StatusCode::CONFLICT, busy))
}

/// Drives a change in a task of its own: a caller who leaves or a time limit must not stop it half way.
async fn to_the_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> Result<T, ApiError> {
    tokio::spawn(change).await.map_err(internal)
}

async fn no_such_path() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no such path; there are /v1/status, /v1/clients, /v1/alerts, /v1/plugins, /v1/bans, /v1/reload, /v1/rollback, /v1/record, /metrics and /healthz",
    )
}

async fn no_such_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path is for GET, or for POST if it changes something (kick, bans, reload, rollback, record)",
    )
}

fn no_client(key: &NamedClient, what: &str) -> ApiError {
    let tenant = key
        .tenant
        .as_ref()
        .map_or_else(|| "outside all tenants".into(), |t| format!("of tenant {t:?}"));
    let error = format!(
        "no client {:?} {tenant} {what}; GET /v1/clients (nervewire clients) lists them",
        key.client_id
    );
    ApiError::new(StatusCode::NOT_FOUND, error)
}

impl<S: Send + Sync> FromRequestParts<S> for NamedClient {
    type Rejection = ApiError;

    /// `/v1/clients/ID...?tenant=T`, both percent-encoded.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let id: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path(client_id) = id.map_err(|e| ApiError::new(e.status(), e.body_text()))?;
        let mut query = parse_query(parts.uri.query(), &["tenant"])?;
        Ok(Self {
            tenant: query.remove("tenant"),
            client_id,
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PageRequest {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = parse_query(parts.uri.query(), &["page", "limit"])?;
        Ok(Self {
            page: number(&query, "page", 1, u64::MAX)?,
            limit: number(&query, "limit", DEFAULT_CLIENTS_PER_PAGE, MAX_CLIENTS_PER_PAGE)?,
        })
    }
}

fn number(query: &BTreeMap<String, String>, key: &str, default: u64, max: u64) -> Result<u64, ApiError> {
    let Some(text) = query.get(key) else { return Ok(default) };
    let parsed = text.parse().ok().filter(|n| (1..=max).contains(n));
    parsed.ok_or_else(|| bad_request(format!("{key}={text} is not a number from 1 to {max}")))
}

/// The parameters of a query, percent-decoded. One that nobody reads is an error: its sender meant something by it.
fn parse_query(query: Option<&str>, known: &[&str]) -> Result<BTreeMap<String, String>, ApiError> {
    let mut parameters = BTreeMap::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| bad_request(format!("the value of {key} is not percent-encoded UTF-8")))?;
        if !known.contains(&key) || parameters.insert(key.into(), value.into()).is_some() {
            let known = known.join(", ");
            return Err(bad_request(format!(
                "unknown or repeated query parameter {key:?}; there are: {known}"
            )));
        }
    }
    Ok(parameters)
}

/// The body of a change that takes no parameters: nothing, or `{}`.
type EmptyBody = Result<Bytes, BytesRejection>;

trait CheckEmpty {
    fn check(self, api: &Api) -> Result<(), ApiError>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParameters {}

impl CheckEmpty for EmptyBody {
    fn check(self, api: &Api) -> Result<(), ApiError> {
        let body = self.map_err(|rejection| too_long(api, &rejection))?;
        if body.is_empty() || serde_json::from_slice::<NoParameters>(&body).is_ok() {
            return Ok(());
        }
        Err(bad_request(
            "this request takes no parameters: leave the body empty or send {}",
        ))
    }
}

fn too_long(api: &Api, rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        api.counters.body_bytes.fetch_add(1, Ordering::Relaxed);
    }
    ApiError::new(rejection.status(), rejection.body_text())
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody {
                error: error.into(),
                messages: Vec::new(),
            },
        }
    }
}

fn bad_request(error: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, error)
}

fn internal(error: impl std::fmt::Display) -> ApiError {
    tracing::error!(%error, "admin request failed");
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the broker failed to answer; its log says why",
    )
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::HostMissing => StatusCode::BAD_REQUEST,
            Refusal::HostForeign | Refusal::FromWebPage => StatusCode::FORBIDDEN,
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        Self::new(status, refusal.to_string())
    }
}

impl From<ReloadError> for ApiError {
    fn from(refused: ReloadError) -> Self {
        let error =
            "the new configuration was refused and the running one is unchanged; correct what the messages name";
        let body = ErrorBody {
            error: error.into(),
            messages: refused.messages,
        };
        Self {
            status: StatusCode::UNPROCESSABLE_ENTITY,
            body,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, json(&self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Indented, so that it reads well as it is: in a terminal behind `curl` and behind `--json`.
fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec_pretty(value) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "admin answer is not JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn a_broker_that_does_not_answer_is_reported_and_counted() {
        let counters = AdminCounters::default();
        let answer = within(Duration::ZERO, &counters, pending()).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(counters.bounds_hit().contains(&("admin_request_time", 1)));
    }

    #[tokio::test]
    async fn a_change_is_driven_to_its_end_when_who_asked_leaves() {
        let (go, gate) = oneshot::channel();
        let (done, ended) = oneshot::channel();
        let change = to_the_end(async move {
            let _ = gate.await;
            let _ = done.send("changed");
        });
        tokio::select! {
            biased;
            _ = change => panic!("it waits at the gate"),
            () = tokio::task::yield_now() => {} // Drops the asking side.
        }
        go.send(()).expect("the change still waits at the gate");
        assert_eq!(ended.await, Ok("changed"));
    }
}
