//! `builtin:webhook`: asks an HTTP backend who a client is and what it may do, in the words of EMQX 5, so that backends
//! written for its HTTP authentication and authorization work unchanged.
//!
//! ```toml
//! [[plugin]]
//! name = "webhook"
//! component = "builtin:webhook"
//! grants = ["http://auth.internal:8080"]
//! [plugin.config.authentication]
//! url = "http://auth.internal:8080/auth"
//! body = { username = "${username}", password = "${password}", clientid = "${clientid}" }
//! [plugin.config.authorization]
//! url = "http://auth.internal:8080/acl"
//! body = { username = "${username}", topic = "${topic}", action = "${action}" }
//! cache_ms = 60_000
//! ```
//!
//! | key of `authentication` and `authorization` | default | meaning |
//! |---|---|---|
//! | `method` | `"post"` | `"post"` or `"get"`; with `"get"` the `body` is sent as a query |
//! | `url` | required | placeholders in path and query are percent-encoded |
//! | `headers` | | with placeholders; of a post also `content-type`: `"application/json"` (the default) or `"application/x-www-form-urlencoded"` |
//! | `body` | `{}` | texts and names with placeholders, nested at will in JSON |
//! | `timeout_ms` | `3_000` | then the backend counts as not available; there is no second attempt |
//! | `on_unavailable` | `"deny"` | no answer, or one that cannot be read: `"deny"` or `"ignore"` |
//! | `on_status` | `"ignore"` | a status other than 200 and 204: `"ignore"`, as EMQX does, or `"deny"` |
//! | `cache_ms` | `0` | `authorization`: how long an answer holds for this client and topic |
//! | `tenant_attribute` | none | `authentication`: this one of `client_attrs` becomes the tenant |
//!
//! Placeholders: `${clientid}`, `${username}`, `${peerhost}`, `${peerport}`, `${cert_subject}`, `${cert_common_name}`,
//! `${client_attrs.NAME}`, `${proto_name}`, `${proto_ver}`, `${listener}`, `${tenant}`; in `authentication` `${password}`;
//! in `authorization` `${action}` (`publish` or `subscribe`), `${topic}`, `${qos}` and `${retain}`. What has no value is the
//! empty string. `${zone}` is `default`, `${mountpoint}` is empty.
//!
//! # Answers
//!
//! | answer | authentication | authorization |
//! |---|---|---|
//! | 204 | let in | allowed |
//! | 200, `"result": "allow"` | let in | allowed |
//! | 200, `"result": "deny"` | refused | denied |
//! | 200, `"result": "ignore"`, or no `result` | left to the next authenticator | left to other authorizers |
//! | another status | `on_status` | `on_status` |
//! | none, or not JSON (or a form) by its `content-type` | `on_unavailable` | `on_unavailable` |
//!
//! With `allow` an authentication may say more: `is_superuser` (this plugin allows everything and asks no more),
//! `client_attrs` (texts, which become attributes), `expire_at` (seconds of Unix time, from which on everything is denied),
//! `acl` (an access list in the form that `builtin:jwt` takes, heard before the authorization). A time that is over, an
//! access list that is not understood and `clientid_override` refuse the client.
//!
//! A client that uses enhanced authentication is left to the next authenticator. One whose name would be another path, or
//! whose name or password cannot be written (a control character in a header, a password in JSON that is not UTF-8), is
//! refused without asking.
//!
//! The request and its answers are described at <https://docs.emqx.com/en/emqx/latest/access-control/authn/http.html> and
//! <https://docs.emqx.com/en/emqx/latest/access-control/authz/http.html>.

mod answer;
mod config;
mod endpoint;
mod template;

use answer::Said;
pub use config::Config;
use config::{EndpointConfig, Fallback};
use endpoint::{Answer, Endpoint, NoAnswer};
use nervewire_plugin_sdk::{Decision, export, prelude::*};
use nervewire_rights::{AccessList, Rights, ask_for_everything};
use std::time::Duration;
use template::{Question, Values};

/// The prefix of the attributes that hold what a backend granted.
const PREFIX: &str = "webhook";
/// The attribute of a superuser.
const SUPERUSER: &str = "webhook.superuser";

/// The plugin: whom to ask what.
#[derive(Debug)]
pub struct Webhook {
    authentication: Option<Endpoint>,
    authorization: Option<Endpoint>,
    cache: Duration,
    tenant_attribute: Option<String>,
    rights: Rights,
}

impl Plugin for Webhook {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        if config.authentication.is_none() && config.authorization.is_none() {
            return Err(
                "config: write [plugin.config.authentication], [plugin.config.authorization] or both".to_owned(),
            );
        }
        let authorization = config.authorization.as_ref();
        if authorization.is_some_and(|endpoint| endpoint.tenant_attribute.is_some()) {
            return Err("config.authorization.tenant_attribute: only an authentication knows the tenant".to_owned());
        }
        if config
            .authentication
            .as_ref()
            .is_some_and(|endpoint| endpoint.cache_ms.is_some())
        {
            return Err("config.authentication.cache_ms: only answers to authorization are kept".to_owned());
        }
        let cache_ms = authorization.and_then(|endpoint| endpoint.cache_ms).unwrap_or(0);
        let endpoint = |name, endpoint: Option<EndpointConfig>, question| {
            let made = endpoint.map(|endpoint| Endpoint::new(endpoint, question)).transpose();
            made.map_err(|error| format!("config.{name}: {error}"))
        };
        Ok(Self {
            cache: Duration::from_millis(u64::from(cache_ms)),
            tenant_attribute: config
                .authentication
                .as_ref()
                .and_then(|endpoint| endpoint.tenant_attribute.clone()),
            authentication: endpoint("authentication", config.authentication, Question::Authentication)?,
            authorization: endpoint("authorization", config.authorization, Question::Authorization)?,
            rights: Rights::new(PREFIX),
        })
    }
}

impl Authenticate for Webhook {
    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication {
        let (Some(endpoint), None) = (&self.authentication, &credentials.method) else {
            return Authentication::Abstain;
        };
        let values = Values {
            client,
            credentials: Some(credentials),
            request: None,
        };
        match endpoint.ask(values) {
            Ok(Answer::NoContent) => self.let_in(client, Said::default()),
            Ok(Answer::Said(members)) => match Said::read(members) {
                Ok(said) if said.decision == Decision::Allow => self.let_in(client, said),
                Ok(said) if said.decision == Decision::Deny => Authentication::Deny(Refusal::NotAuthorized),
                Ok(_) => Authentication::Abstain,
                Err(error) => refuse(client, &error),
            },
            Err(NoAnswer::Unaskable(why)) => refuse(client, &why),
            Err(no_answer) => match fallback(endpoint, &no_answer) {
                Fallback::Deny => Authentication::Deny(Refusal::ServerUnavailable),
                Fallback::Ignore => Authentication::Abstain,
            },
        }
    }
}

impl Authorize for Webhook {
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        let expires = self.rights.expires_at_s(client).is_some();
        if is_superuser(client) && !expires {
            return Some(vec![Rule::allow().topic("#"), Rule::allow().topic("$SYS/#")]);
        }
        let own = self.rights.list(client);
        let lists: Vec<&AccessList> = own.as_deref().into_iter().collect();
        match &self.authorization {
            // Deliveries are asked for where they must end, or where the list may deny them.
            Some(_) if expires || !lists.is_empty() => Some(ask_for_everything(client, &lists)),
            Some(_) => None,
            None => Some(self.rights.rules(client, &lists)),
        }
    }

    fn authorize(&mut self, client: &Client, request: &Request) -> Verdict {
        let remaining = match self.rights.remaining(client) {
            Ok(remaining) => remaining,
            Err(over) => return over,
        };
        if is_superuser(client) {
            return Verdict::allow().cache(remaining).for_any_topic();
        }
        let own = self.rights.list(client);
        let lists: Vec<&AccessList> = own.as_deref().into_iter().collect();
        let verdict = self.rights.decide(client, request, &lists);
        match &self.authorization {
            Some(endpoint) if verdict.decision == Decision::Abstain && request.action != Action::Deliver => {
                let asked = ask(endpoint, client, request);
                asked.map_or_else(|uncached| uncached, |verdict| verdict.cache(self.cache.min(remaining)))
            }
            _ => verdict,
        }
    }
}

impl Webhook {
    fn let_in(&self, client: &Client, said: Said) -> Authentication {
        match said.identity(self.tenant_attribute.as_deref(), clock::now_ms() / 1000) {
            Ok(identity) => identity.into(),
            Err(error) => refuse(client, &error),
        }
    }
}

/// Asks the backend. In `Err` is what must not be kept: the next request may be answered.
fn ask(endpoint: &Endpoint, client: &Client, request: &Request) -> Result<Verdict, Verdict> {
    let values = Values {
        client,
        credentials: None,
        request: Some(request),
    };
    match endpoint.ask(values) {
        Ok(Answer::NoContent) => Ok(Verdict::allow()),
        Ok(Answer::Said(members)) => Ok(match Said::decision(&members) {
            Decision::Allow => Verdict::allow(),
            Decision::Deny => Verdict::deny(),
            Decision::Abstain => Verdict::abstain(),
        }),
        Err(NoAnswer::Unaskable(why)) => {
            log::info!("{:?}: not asked: {why}", client.client_id);
            Err(Verdict::deny())
        }
        Err(no_answer) => Err(match fallback(endpoint, &no_answer) {
            Fallback::Deny => Verdict::deny(),
            Fallback::Ignore => Verdict::abstain(),
        }),
    }
}

fn fallback(endpoint: &Endpoint, no_answer: &NoAnswer) -> Fallback {
    match no_answer {
        NoAnswer::Status(status) => {
            counters::add("unexpected_statuses", 1);
            log::debug!("{}: status {status}", endpoint.origin);
            endpoint.on_status
        }
        NoAnswer::Unavailable(why) | NoAnswer::Unaskable(why) => {
            counters::add("unavailable", 1);
            log::warn!("{}: {why}", endpoint.origin);
            endpoint.on_unavailable
        }
    }
}

fn refuse(client: &Client, why: &str) -> Authentication {
    log::info!("{:?}: refused: {why}", client.client_id);
    Authentication::Deny(Refusal::BadUserNameOrPassword)
}

fn is_superuser(client: &Client) -> bool {
    client.attribute(SUPERUSER) == Some("true")
}

export!(Webhook: authenticate, authorize);

#[cfg(test)]
mod tests;
