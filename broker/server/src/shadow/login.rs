//! Who would be let in: the outcome of the chain of authenticators, compared with the one in which a plugin in shadow mode stands
//! in its place. The client was answered before.

use super::exchange::Exchanges;
use super::place;
use crate::generation::LoadedPlugin;
use nervewire_codec::QoS;
use nervewire_core::fold::{failed_authentication, fold_authentication};
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::{Authentication, CallFailed, Client, Credentials, OnFailure};
use nervewire_core::policy::Place;
use nervewire_core::shadow::{Differences, Kind, Noticed, ShadowHook, Words};
use nervewire_core::time::Millis;
use nervewire_plugin_host::{Hook, Plugin};
use std::sync::Arc;

/// A question to the authenticators whose outcome is to be compared.
pub(crate) struct Watched {
    pub(crate) client: Arc<Client>,
    pub(crate) credentials: Credentials,
    /// Only this authenticator is asked, which challenged before.
    pub(crate) only: Option<usize>,
}

impl Watched {
    /// `unanswered`: what holds where every authenticator abstains.
    pub(crate) fn decided(self, outcome: ChainOutcome, unanswered: Authentication) -> Login {
        Login {
            watched: self,
            outcome,
            unanswered,
        }
    }
}

/// A client that was let in or not, or a step on the way.
pub(crate) struct Login {
    pub(crate) watched: Watched,
    /// What the chain said.
    pub(crate) outcome: ChainOutcome,
    /// What holds where every authenticator abstains.
    pub(crate) unanswered: Authentication,
}

/// The authenticators of one generation: those that are obeyed, in order, and those in shadow mode.
#[derive(Default)]
pub(super) struct Logins {
    obeyed: Vec<(Arc<Plugin>, OnFailure)>,
    watching: Vec<Watching>,
}

struct Watching {
    plugin: Arc<Plugin>,
    since: u64,
    on_failure: OnFailure,
    place: Place,
}

impl Logins {
    pub(super) fn new(plugins: &[LoadedPlugin]) -> Self {
        let mut logins = Self::default();
        for (at, loaded) in plugins.iter().enumerate() {
            let on_failure = loaded.settings.on_failure;
            match (loaded.plugin.has_hook(Hook::Authenticate), loaded.is_enforced()) {
                (false, _) => {}
                (true, true) => logins.obeyed.push((loaded.plugin.clone(), on_failure)),
                (true, false) => logins.watching.push(Watching {
                    plugin: loaded.plugin.clone(),
                    since: loaded.since,
                    on_failure,
                    place: place(plugins, at, Hook::Authenticate),
                }),
            }
        }
        logins
    }

    /// Whether anybody in shadow mode authenticates.
    pub(super) fn is_watched(&self) -> bool {
        !self.watching.is_empty()
    }

    /// What was seen of those that stayed as they are; of the others nothing yet.
    pub(super) fn succeed(&self, mut known: Vec<Differences>) -> Vec<Differences> {
        let watching = self.watching.iter().map(|watching| {
            let at = known.iter().position(|known| *known.plugin == *watching.plugin.name());
            let mut seen = match at {
                Some(at) => known.swap_remove(at),
                None => Differences::new(watching.plugin.name().into(), watching.since),
            };
            if seen.since != watching.since {
                seen.reset();
                seen.since = watching.since;
            }
            seen
        });
        watching.collect()
    }

    /// Compares one login for every plugin in shadow mode, and says so to `seen`, with its position.
    pub(super) fn compare(
        &self,
        login: &Login,
        exchanges: &mut Exchanges,
        mut ask: impl FnMut(&Arc<Plugin>, &Credentials) -> Result<Authentication, CallFailed>,
        mut seen: impl FnMut(usize, Option<(Kind, Words)>),
    ) {
        let watched = &login.watched;
        let decided = (login.outcome.answer != Authentication::Abstain).then_some(login.outcome.authenticator);
        let unanswered = || (login.unanswered.clone(), "");
        let by = decided
            .and_then(|at| self.obeyed.get(at))
            .map_or("", |(plugin, _)| plugin.name());
        let enforced = match login.outcome.answer {
            Authentication::Abstain => unanswered(),
            ref answer => (answer.clone(), by),
        };
        for (position, watching) in self.watching.iter().enumerate() {
            let (Place::Before(at) | Place::InsteadOf(at)) = watching.place;
            let state = exchanges.take(position, &watched.client);
            let is_asked = match watched.only {
                None => decided.is_none_or(|decided| decided >= at),
                // It challenged as well, and with the same data.
                Some(_) => state.is_some(),
            };
            if !is_asked {
                continue;
            }
            let credentials = &Credentials {
                state: watched.only.and(state),
                ..watched.credentials.clone()
            };
            let name = watching.plugin.name();
            let said = ask(&watching.plugin, credentials);
            let said = fold_authentication(said, watching.on_failure).map(|answer| (answer, name));
            let supposed = match (said, watching.place, watched.only) {
                // Who abstains in the middle of its own exchange refuses.
                (None, _, Some(_)) => Some((failed_authentication(OnFailure::Deny), name)),
                (None, Place::InsteadOf(at), None) if decided == Some(at) => {
                    self.rest(at + 1, |plugin| ask(plugin, &watched.credentials))
                }
                (None, _, None) => continue, // The others decide as they did.
                (said, ..) => said,
            };
            if let Some((Authentication::Challenge { data, state }, by)) = &supposed
                && *by == name
                && matches!(&login.outcome.answer, Authentication::Challenge { data: told, .. } if told == data)
            {
                exchanges.put(position, &watched.client, state.clone());
            }
            let supposed = supposed.unwrap_or_else(&unanswered);
            let difference = difference(&enforced.0, &supposed.0).map(|kind| {
                let words = Words {
                    enforced: in_words(&enforced),
                    shadow: in_words(&supposed),
                };
                (kind, words)
            });
            seen(position, difference);
        }
    }

    /// Those behind a plugin that had decided.
    fn rest(
        &self,
        from: usize,
        mut ask: impl FnMut(&Arc<Plugin>) -> Result<Authentication, CallFailed>,
    ) -> Option<(Authentication, &str)> {
        let mut rest = self.obeyed.iter().skip(from);
        rest.find_map(|(plugin, on_failure)| Some((fold_authentication(ask(plugin), *on_failure)?, plugin.name())))
    }
}

fn difference(enforced: &Authentication, supposed: &Authentication) -> Option<Kind> {
    match (enforced, supposed) {
        (Authentication::Allow(a), Authentication::Allow(b)) => {
            let is_same =
                (&a.username, &a.attributes, &a.tenant, a.quotas) == (&b.username, &b.attributes, &b.tenant, b.quotas);
            (!is_same).then_some(Kind::WouldIdentify)
        }
        (Authentication::Challenge { .. }, Authentication::Challenge { .. }) => None,
        (_, Authentication::Allow(_)) => Some(Kind::WouldAllow),
        (_, Authentication::Challenge { .. }) => Some(Kind::WouldChallenge),
        (Authentication::Deny(_) | Authentication::Abstain, _) => None,
        (_, _) => Some(Kind::WouldDeny),
    }
}

fn in_words((answer, by): &(Authentication, &str)) -> String {
    let what = match answer {
        Authentication::Allow(identity) => match &identity.username {
            Some(name) => format!("let in as {name}"),
            None => "let in".to_owned(),
        },
        Authentication::Deny(reason) => format!("refused: {reason:?}"),
        Authentication::Challenge { .. } => "challenged".to_owned(),
        Authentication::Abstain => "refused".to_owned(),
    };
    match *by {
        "" => format!("{what}, no authenticator decides"),
        by => format!("{what} by {by}"),
    }
}

/// Enters what was seen about a login.
pub(super) fn enter(known: &mut Differences, now: Millis, client: &Client, difference: Option<(Kind, Words)>) {
    known.compared(ShadowHook::Authenticate);
    let Some((kind, words)) = difference else { return };
    let noticed = Noticed {
        hook: ShadowHook::Authenticate,
        kind,
        client,
        action: None,
        topic: "",
        qos: QoS::AtMostOnce,
        retain: false,
        payload: None,
    };
    known.note(now, &noticed, || words);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_codec::ReasonCode;
    use nervewire_core::hook::Identity;

    #[test]
    fn outcomes_differ_in_who_is_let_in_and_as_whom() {
        let allow = |name: &str| {
            Authentication::Allow(Identity {
                username: Some(name.into()),
                ..Identity::default()
            })
        };
        let deny = Authentication::Deny(ReasonCode::NotAuthorized);
        let challenge = Authentication::Challenge {
            data: "d".into(),
            state: "s".into(),
        };
        let check =
            |a: &Authentication, b: &Authentication, expected| assert_eq!(difference(a, b), expected, "{a:?}, {b:?}");
        check(&allow("a"), &allow("a"), None);
        check(&allow("a"), &allow("b"), Some(Kind::WouldIdentify));
        check(&allow("a"), &deny, Some(Kind::WouldDeny));
        check(&challenge, &deny, Some(Kind::WouldDeny));
        check(&deny, &allow("a"), Some(Kind::WouldAllow));
        check(&deny, &Authentication::Deny(ReasonCode::Banned), None);
        check(&deny, &challenge, Some(Kind::WouldChallenge));
        check(&challenge, &challenge, None);
    }
}
