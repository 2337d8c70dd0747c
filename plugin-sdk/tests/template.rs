//! A plugin for the Nervewire MQTT broker.
// template {
//!
//! `nervewire plugin new` writes this file, without what stands between `// template {` and `// }`, without the hooks
//! nobody asked for, and without the other lines that mark them. Here it is compiled and tested.
// }

use nervewire_plugin_sdk::{export, prelude::*};
// authenticate {
use std::collections::BTreeMap;
// }

/// The `config` table of the plugin.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    // authenticate {
    /// Passwords by user name; `builtin:password` shows how to keep hashes instead.
    tokens: BTreeMap<String, String>,
    // }
    // authorize {
    /// Topic filters to which only `admins` publish.
    read_only: Vec<String>,
    /// User names.
    admins: Vec<String>,
    // }
    // transform {
    /// Larger payloads are rejected.
    max_payload_bytes: Option<usize>,
    // }
    // detect {
    /// More failed logins than these in a window are taken for guessing.
    max_failed_logins: Option<u32>,
    // }
}

/// What an instance of the plugin knows.
struct Policy {
    config: Config,
}

impl Plugin for Policy {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        // authorize {
        if let Some(filter) = config.read_only.iter().find(|filter| !topic::is_valid_filter(filter)) {
            return Err(format!("read_only: `{filter}` is no topic filter"));
        }
        // }
        Ok(Self { config })
    }
}

// authenticate {
impl Authenticate for Policy {
    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication {
        let Some(token) = credentials
            .username
            .as_ref()
            .and_then(|name| self.config.tokens.get(name))
        else {
            return Authentication::Abstain; // Not ours: the next authenticator decides.
        };
        if same(token.as_bytes(), credentials.password.as_deref().unwrap_or_default()) {
            return Authentication::allow();
        }
        log::warn!("wrong password from {}", client.address);
        metrics::counter!("wrong_passwords").increment(1);
        Authentication::Deny(Refusal::BadUserNameOrPassword)
    }
}

/// Looks at every byte, so that time does not tell where they begin to differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

// }
// authorize {
impl Authorize for Policy {
    /// Evaluated inside the broker: no call is made per message.
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        if client
            .username
            .as_ref()
            .is_some_and(|name| self.config.admins.contains(name))
        {
            return Some(Vec::new()); // No rule applies: left to other authorizers.
        }
        Some(
            self.config
                .read_only
                .iter()
                .map(|filter| Rule::deny().publish().topic(filter))
                .collect(),
        )
    }
}

// }
// transform {
impl Transform for Policy {
    fn transform(&mut self, _client: &Client, message: Message) -> Transformation {
        if self
            .config
            .max_payload_bytes
            .is_some_and(|limit| message.payload.len() > limit)
        {
            metrics::counter!("too_large").increment(1);
            return Transformation::Reject(Rejection::QuotaExceeded);
        }
        Transformation::Replace(message.user_property("checked", "yes"))
    }
}

// }
// detect {
impl Detect for Policy {
    fn detect(&mut self, windows: &[Window]) -> Vec<Finding> {
        let Some(limit) = self.config.max_failed_logins else {
            return Vec::new();
        };
        let guessing = windows.iter().filter(|window| window.failed_logins > limit);
        guessing
            .map(|window| Finding::alert(&window.client_id, format!("{} failed logins", window.failed_logins)))
            .collect()
    }
}

// }
export!(Policy: authenticate, authorize, transform, detect);

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_plugin_sdk::testing;

    #[test]
    fn unknown_configuration_is_refused() {
        let error = testing::load::<Policy>(r#"{"colour": "blue"}"#)
            .map(|_| ())
            .unwrap_err();
        assert!(error.starts_with("config.colour: unknown field `colour`"), "{error}");
    }
    // authenticate {

    #[test]
    fn the_right_password_lets_in_and_a_wrong_one_does_not() {
        let mut policy: Policy = testing::load(r#"{"tokens": {"ann": "secret"}}"#).unwrap();
        let mut answer =
            |name, password| policy.authenticate(&testing::client("7"), &testing::credentials(name, password));
        assert_eq!(answer("ann", "secret"), Authentication::allow());
        assert_eq!(
            answer("ann", "Secret"),
            Authentication::Deny(Refusal::BadUserNameOrPassword)
        );
        assert_eq!(answer("bob", "secret"), Authentication::Abstain);
        assert_eq!(testing::log_lines(), ["wrong password from 192.0.2.1"]);
        assert_eq!(testing::counter("wrong_passwords"), 1);
    }
    // }
    // authorize {

    #[test]
    fn only_admins_publish_to_read_only_topics() {
        let mut policy: Policy = testing::load(r##"{"read_only": ["cmd/#"], "admins": ["ann"]}"##).unwrap();
        let mut decide = |name, topic| {
            let client = testing::client("7").with_username(name);
            testing::decide(&mut policy, &client, &testing::request(Action::Publish, topic))
        };
        assert_eq!(decide("bob", "cmd/door"), Decision::Deny);
        assert_eq!(decide("bob", "a/b"), Decision::Abstain);
        assert_eq!(decide("ann", "cmd/door"), Decision::Abstain);
        assert!(testing::load::<Policy>(r##"{"read_only": ["cmd#"]}"##).is_err());
    }
    // }
    // transform {

    #[test]
    fn large_messages_are_rejected_and_others_are_marked() {
        let mut policy: Policy = testing::load(r#"{"max_payload_bytes": 4}"#).unwrap();
        let mut answer = |payload| policy.transform(&testing::client("7"), Message::new("a", payload));
        assert_eq!(answer("12345"), Transformation::Reject(Rejection::QuotaExceeded));
        let marked = Message::new("a", "1234").user_property("checked", "yes");
        assert_eq!(answer("1234"), Transformation::Replace(marked));
    }
    // }
    // detect {

    #[test]
    fn who_guesses_passwords_is_found() {
        let mut policy: Policy = testing::load(r#"{"max_failed_logins": 20}"#).unwrap();
        let window = |client_id, failed_logins| Window {
            failed_logins,
            ..testing::window(client_id)
        };
        let findings = policy.detect(&[window("calm", 20), window("guesser", 21)]);
        assert_eq!(findings, [Finding::alert("guesser", "21 failed logins")]);
    }
    // }
}
