//! The commands that speak to a running broker: `status`, `clients`, `kick`, `bans`, `plugins`, `reload`, `rollback`,
//! `record`.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use ureq::Agent;
use ureq::http::{Response, Uri};

use super::DEFAULT_ADMIN_ADDRESS;
use super::alerts::{AlertPage, Unthrottled};
use super::api::{RELOAD_TIMEOUT, REQUEST_TIMEOUT};
use super::backend::{
    ClientInfo, ClientPage, ErrorBody, Kicked, PluginInfo, RecordRequest, RecordStatus, ReloadReport, RollbackReport,
    Status,
};
use super::bans::{BanList, BanTarget, Banned, Lifted};
use super::diff::{DiffReset, PluginDiff};
use super::explain::Explained;
use super::guard::Token;
use super::table::printable;
use super::view::View;
use crate::cli::{
    AdminArgs, AdminCommand, BansArgs, BansCommand, ClientsArgs, KickArgs, PluginsArgs, PluginsCommand, RecordCommand,
};
use crate::unix_time::unix_s;

/// The broker's own limit comes first, so that its words are printed and not "timeout".
const MARGIN: Duration = Duration::from_secs(5);
/// Longest answer read: a page of clients is far below.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Everything but what RFC 3986 calls unreserved.
const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');

/// Where a configuration says that the admin API is.
#[derive(Clone, Debug)]
pub(crate) struct AdminEndpoint {
    /// `[admin] bind`.
    pub bind: SocketAddr,
    /// `[admin] token`.
    pub token: Option<Token>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The command line or the configuration must be changed.
    #[error("{0}")]
    Usage(String),
    /// The broker was not reached, or said no.
    #[error("{0}")]
    Failed(String),
    /// The answer could not be printed.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl ClientError {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Usage(_)) { 2 } else { 1 }
    }
}

/// Runs a command and prints its answer to `out`. `endpoint_of` reads `[admin]` of a configuration file.
///
/// # Errors
/// See [`ClientError`]. A reader of `out` who has seen enough (`| head`) is none.
pub(crate) fn run(
    command: &AdminCommand,
    endpoint_of: impl FnOnce(&Path) -> anyhow::Result<AdminEndpoint>,
    out: &mut dyn Write,
) -> Result<(), ClientError> {
    let text = answer(command, endpoint_of)?;
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn answer(
    command: &AdminCommand,
    endpoint_of: impl FnOnce(&Path) -> anyhow::Result<AdminEndpoint>,
) -> Result<String, ClientError> {
    let api = Connection::open(command.admin(), endpoint_of)?;
    match command {
        AdminCommand::Status(args) => present::<Status>(api.get("/v1/status")?, args.json),
        AdminCommand::Clients(args) => clients(&api, args),
        AdminCommand::Kick(args) => kick(&api, args),
        AdminCommand::Unthrottle(args) => {
            let path = client_path(&args.id, "/unthrottle", args.tenant.as_deref());
            present::<Unthrottled>(api.post(&path, REQUEST_TIMEOUT)?, false)
        }
        AdminCommand::Alerts(args) => {
            let limit = args.limit.map_or_else(String::new, |limit| format!("?limit={limit}"));
            present::<AlertPage>(api.get(&format!("/v1/alerts{limit}"))?, args.list.json)
        }
        AdminCommand::Explain(args) => {
            let wanted =
                serde_json::to_string(&args.wanted()).map_err(|error| ClientError::Failed(error.to_string()))?;
            present::<Explained>(api.send("/v1/explain", REQUEST_TIMEOUT, &wanted)?, args.list.json)
        }
        AdminCommand::Bans(args) => bans(&api, args),
        AdminCommand::Plugins(args) => plugins(&api, args),
        AdminCommand::Record(command) => record(&api, command),
        AdminCommand::Reload(args) => present::<ReloadReport>(api.post("/v1/reload", RELOAD_TIMEOUT)?, args.json),
        AdminCommand::Rollback(args) => present::<RollbackReport>(api.post("/v1/rollback", RELOAD_TIMEOUT)?, args.json),
    }
}

fn clients(api: &Connection, args: &ClientsArgs) -> Result<String, ClientError> {
    if let Some(id) = &args.id {
        return present::<ClientInfo>(api.get(&client_path(id, "", args.tenant.as_deref()))?, args.list.json);
    }
    let mut path = format!("/v1/clients?page={}", args.page.unwrap_or(1));
    if let Some(limit) = args.limit {
        let _ = write!(path, "&limit={limit}");
    }
    present::<ClientPage>(api.get(&path)?, args.list.json)
}

fn plugins(api: &Connection, args: &PluginsArgs) -> Result<String, ClientError> {
    let Some(PluginsCommand::Diff(diff)) = &args.command else {
        return present::<Vec<PluginInfo>>(api.get("/v1/plugins")?, args.list.json);
    };
    let path = format!("/v1/plugins/{}/diff", utf8_percent_encode(&diff.name, PATH_SEGMENT));
    if diff.reset {
        let body = api.post(&format!("{path}/reset"), REQUEST_TIMEOUT)?;
        return present::<DiffReset>(body, diff.list.json);
    }
    present::<PluginDiff>(api.get(&path)?, diff.list.json)
}

fn bans(api: &Connection, args: &BansArgs) -> Result<String, ClientError> {
    let send = |path: &str, target: &BanTarget| {
        let body = serde_json::to_string(target).map_err(io::Error::other)?;
        api.send(path, REQUEST_TIMEOUT, &body)
    };
    match &args.command {
        None => present::<BanList>(api.get("/v1/bans")?, args.list.json),
        Some(BansCommand::List(list)) => present::<BanList>(api.get("/v1/bans")?, list.json),
        Some(BansCommand::Add(add)) => present::<Banned>(send("/v1/bans", &add.target())?, add.list.json),
        Some(BansCommand::Lift(lift)) => {
            present::<Lifted>(send("/v1/bans/lift", &lift.subject.target())?, lift.list.json)
        }
    }
}

fn kick(api: &Connection, args: &KickArgs) -> Result<String, ClientError> {
    let path = client_path(&args.id, "/kick", args.tenant.as_deref());
    present::<Kicked>(api.post(&path, REQUEST_TIMEOUT)?, false)
}

fn record(api: &Connection, command: &RecordCommand) -> Result<String, ClientError> {
    let (answer, json) = match command {
        RecordCommand::Start(args) => {
            let request = RecordRequest {
                file: args.file.clone(),
                plugin: args.plugin.clone(),
                client: args.client.clone(),
                hook: args.hook.clone(),
                seconds: args.seconds,
                max_mib: args.max_mib,
                payloads: !args.no_payloads,
            };
            let body = serde_json::to_string(&request).map_err(io::Error::other)?;
            (api.send("/v1/record/start", REQUEST_TIMEOUT, &body)?, args.list.json)
        }
        RecordCommand::Stop(args) => (api.post("/v1/record/stop", REQUEST_TIMEOUT)?, args.json),
        RecordCommand::Status(args) => (api.get("/v1/record")?, args.json),
    };
    present::<RecordStatus>(answer, json)
}

fn client_path(id: &str, action: &str, tenant: Option<&str>) -> String {
    let encode = |text| utf8_percent_encode(text, PATH_SEGMENT);
    let query = tenant.map_or_else(String::new, |tenant| format!("?tenant={}", encode(tenant)));
    format!("/v1/clients/{}{action}{query}", encode(id))
}

/// The API's JSON as it came, or what it says as text.
fn present<T: DeserializeOwned + View>(body: String, json: bool) -> Result<String, ClientError> {
    if json {
        return Ok(body);
    }
    Ok(parse::<T>(&body)?.view(unix_s()))
}

fn parse<T: DeserializeOwned>(body: &str) -> Result<T, ClientError> {
    serde_json::from_str(body).map_err(|error| {
        ClientError::Failed(format!(
            "the answer is not one of this version's broker ({error}); is the address right?"
        ))
    })
}

/// A broker to talk to.
#[derive(Debug)]
struct Connection {
    agent: Agent,
    base: String,
    token: Option<Token>,
}

impl Connection {
    fn open(
        args: &AdminArgs,
        endpoint_of: impl FnOnce(&Path) -> anyhow::Result<AdminEndpoint>,
    ) -> Result<Self, ClientError> {
        let mut token = args.token_file.as_deref().map(read_token).transpose()?;
        let base = match (&args.admin, &args.config) {
            (Some(url), _) => base_of_url(url)?,
            (None, Some(file)) => {
                let endpoint = endpoint_of(file).map_err(|error| ClientError::Usage(format!("{error:#}")))?;
                token = endpoint.token;
                format!("http://{}", reachable(endpoint.bind))
            }
            (None, None) => format!("http://{DEFAULT_ADMIN_ADDRESS}"),
        };
        Ok(Self {
            agent: agent(),
            base,
            token,
        })
    }

    fn get(&self, path: &str) -> Result<String, ClientError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request.config().timeout_global(Some(REQUEST_TIMEOUT + MARGIN)).build();
        self.finish(self.authorized(request).call())
    }

    fn post(&self, path: &str, limit: Duration) -> Result<String, ClientError> {
        self.send(path, limit, "{}")
    }

    fn send(&self, path: &str, limit: Duration, body: &str) -> Result<String, ClientError> {
        let request = self
            .agent
            .post(format!("{}{path}", self.base))
            .content_type("application/json");
        let request = request.config().timeout_global(Some(limit + MARGIN)).build();
        self.finish(self.authorized(request).send(body))
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.expose())),
            None => request,
        }
    }

    fn finish(&self, result: Result<Response<ureq::Body>, ureq::Error>) -> Result<String, ClientError> {
        let mut response = result.map_err(|error| self.unreachable(&error))?;
        let body = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string();
        let body = body.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(body);
        }
        Err(ClientError::Failed(explain(response.status().as_u16(), &body)))
    }

    fn unreachable(&self, error: &ureq::Error) -> ClientError {
        let base = &self.base;
        ClientError::Failed(format!(
            "no answer from {base}: {error}; is the broker running, and is its [admin] there? --admin URL or --config FILE name another"
        ))
    }
}

/// Talks to the given address and to nobody else: no proxy of the environment and no redirect may see the token.
fn agent() -> Agent {
    Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into()
}

/// What the broker said, one finding per line.
fn explain(status: u16, body: &str) -> String {
    let Ok(refusal) = serde_json::from_str::<ErrorBody>(body) else {
        return format!("HTTP status {status} without an explanation; is this the admin API?");
    };
    let mut text = printable(&refusal.error).into_owned();
    for message in &refusal.messages {
        let _ = write!(text, "\n  {}", printable(message));
    }
    text
}

fn read_token(file: &Path) -> Result<Token, ClientError> {
    let usage = |what: String| ClientError::Usage(format!("--token-file {}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| usage(error.to_string()))?;
    let token = Some(text.trim())
        .filter(|token| token.bytes().all(|b| b.is_ascii_graphic()))
        .and_then(Token::new);
    token.ok_or_else(|| usage("expected the token alone: printable ASCII without spaces".into()))
}

fn base_of_url(url: &str) -> Result<String, ClientError> {
    let uri: Option<Uri> = url.parse().ok();
    let plain = uri.filter(|uri| uri.scheme_str() == Some("http") && uri.path() == "/" && uri.query().is_none());
    let authority = plain
        .as_ref()
        .and_then(Uri::authority)
        .filter(|authority| !authority.as_str().contains('@'));
    let wrong = || {
        ClientError::Usage(format!(
            "--admin {url}: expected http://HOST:PORT, for example http://{DEFAULT_ADMIN_ADDRESS}"
        ))
    };
    authority
        .map(|authority| format!("http://{authority}"))
        .ok_or_else(wrong)
}

/// A listener on every address is reached through loopback.
fn reachable(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_explained_and_made_harmless() {
        let check = |body: &str, expected: &str| assert_eq!(explain(418, body), expected);
        check(r#"{"error": "no"}"#, "no");
        check(
            r#"{"error": "no\u001b[2J", "messages": ["a", "b"]}"#,
            "no\\u{1b}[2J\n  a\n  b",
        );
        check(
            "<html>",
            "HTTP status 418 without an explanation; is this the admin API?",
        );
    }

    #[test]
    fn a_listener_on_every_address_is_reached_through_loopback() {
        let check = |bind: &str, expected: &str| {
            let bind = bind.parse().expect("a socket address");
            assert_eq!(reachable(bind).to_string(), expected);
        };
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:1", "[::1]:1");
        check("192.0.2.7:80", "192.0.2.7:80");
    }

    #[test]
    fn identifiers_survive_the_path() {
        let check = |id, tenant, expected: &str| assert_eq!(client_path(id, "/kick", tenant), expected);
        check("a-b_c~1", None, "/v1/clients/a-b_c~1/kick");
        check("a/b?c#d%", None, "/v1/clients/a%2Fb%3Fc%23d%25/kick");
        check("..", Some("x&y=z+"), "/v1/clients/%2E%2E/kick?tenant=x%26y%3Dz%2B");
    }
}
