//! A guest that behaves: it implements all three hooks, and its answers say what it was asked.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:plain;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/authenticator@0.1.1;
            include nervewire:plugin/authorizer@0.1.1;
            include nervewire:plugin/transformer@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{authentication, authorization, lifecycle, transformation};
use nervewire::plugin::types::{Client, Message, Property, Qos};
use nervewire::plugin::{clock, counters, log};
use std::cell::RefCell;

struct Guest;

thread_local! {
    /// What `init` was given: configuration, then each file's name and contents.
    static INIT: RefCell<String> = const { RefCell::new(String::new()) };
}

impl lifecycle::Guest for Guest {
    fn init(config: String, files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        let files: Vec<String> = files
            .iter()
            .map(|f| format!("{}={}", f.name, String::from_utf8_lossy(&f.contents)))
            .collect();
        INIT.replace(format!("{config} {}", files.join(" ")));
        log::log(log::Level::Info, "plain guest started");
        Ok(lifecycle::Ready {
            tick_milliseconds: None,
        })
    }

    fn tick(_now: u64) -> Vec<Message> {
        Vec::new()
    }
}

impl authentication::Guest for Guest {
    /// Users `alice` (password `secret`) and, in two steps by the method `ECHO`, anybody who answers the challenge.
    fn authenticate(client: Client, credentials: authentication::Credentials) -> authentication::Outcome {
        use authentication::{Challenge, Outcome, Refusal};
        if credentials.method.as_deref() == Some("ECHO") {
            return match credentials.state {
                None => Outcome::Challenge(Challenge {
                    data: b"say please".to_vec(),
                    state: b"step one".to_vec(),
                }),
                Some(state) if state == b"step one" && credentials.data.as_deref() == Some(b"please") => {
                    Outcome::Allow(identity("echo", &client, Some(b"welcome".to_vec())))
                }
                Some(_) => Outcome::Deny(Refusal::NotAuthorized),
            };
        }
        match (credentials.username.as_deref(), credentials.password.as_deref()) {
            (Some("alice"), Some(b"secret")) => Outcome::Allow(identity("alice", &client, None)),
            (Some("alice"), _) => Outcome::Deny(Refusal::BadUserNameOrPassword),
            (Some("mallory"), _) => Outcome::Deny(Refusal::Banned),
            _ => Outcome::Abstain,
        }
    }
}

fn identity(name: &str, client: &Client, data: Option<Vec<u8>>) -> authentication::Identity {
    let quotas = authentication::Quotas {
        publish_rate_per_second: Some(10),
        queue_messages: None,
        queue_bytes: Some(1 << 33),
        subscriptions: Some(3),
    };
    let attributes = vec![
        Property {
            name: "client".into(),
            value: facts(client),
        },
        Property {
            name: "init".into(),
            value: INIT.with_borrow(Clone::clone),
        },
    ];
    authentication::Identity {
        username: Some(name.into()),
        attributes,
        tenant: client.tenant.clone(),
        quotas,
        data,
    }
}

/// Every fact about a client in one line.
fn facts(client: &Client) -> String {
    let certificate = client.certificate.as_ref().map(|c| {
        let names = c.alternative_names.join(",");
        let Certificate {
            subject,
            issuer,
            common_name,
            serial,
            fingerprint,
            not_before,
            not_after,
            ..
        } = c;
        format!("{subject}|{issuer}|{common_name:?}|{names}|{serial}|{fingerprint}|{not_before}|{not_after}")
    });
    let attributes: Vec<String> = client
        .attributes
        .iter()
        .map(|p| format!("{}={}", p.name, p.value))
        .collect();
    let Client {
        client_id,
        username,
        address,
        port,
        listener,
        protocol,
        tenant,
        ..
    } = client;
    format!(
        "{client_id} {username:?} {address} {port} {listener} {protocol:?} {certificate:?} {attributes:?} {tenant:?}"
    )
}
use nervewire::plugin::types::Certificate;

impl authorization::Guest for Guest {
    /// Clients `ruled` have rules, others are asked about.
    fn rules(client: Client) -> Option<Vec<authorization::Rule>> {
        use authorization::{Actions, Effect, Rule};
        let rule = |effect, actions, topic_filter: String, max_qos, retain| Rule {
            effect,
            actions,
            topic_filter,
            max_qos,
            retain,
        };
        (client.client_id == "ruled").then(|| {
            vec![
                rule(
                    Effect::Allow,
                    Actions::PUBLISH | Actions::SUBSCRIBE,
                    format!("dev/{}/#", client.client_id),
                    Qos::ExactlyOnce,
                    None,
                ),
                rule(
                    Effect::Ask,
                    Actions::DELIVER,
                    "ask/#".into(),
                    Qos::AtLeastOnce,
                    Some(true),
                ),
                rule(Effect::Deny, Actions::all(), "#".into(), Qos::AtMostOnce, Some(false)),
            ]
        })
    }

    /// Topics below `yes/` are allowed, below `no/` denied; what is cached says which parts of the request arrived.
    fn authorize(client: Client, request: authorization::Request) -> authorization::Verdict {
        use authorization::{Action, Decision, Dependencies};
        counters::add("asked", 1);
        let decision = match request.topic.split('/').next() {
            Some("yes") => Decision::Allow,
            Some("no") => Decision::Deny,
            _ => Decision::Abstain,
        };
        // More than the topic is declared only to be seen to arrive.
        let depends_on = match request.action {
            Action::Publish => Dependencies::CLIENT | Dependencies::TOPIC,
            Action::Subscribe => Dependencies::USER | Dependencies::TOPIC,
            Action::Deliver => Dependencies::TOPIC,
        };
        let cache_milliseconds =
            u32::from(client.port) + 100_000 * request.qos as u32 + 1_000_000 * u32::from(request.retain);
        authorization::Verdict {
            decision,
            cache_milliseconds,
            depends_on,
        }
    }
}

impl transformation::Guest for Guest {
    /// The first level of the topic says what is done.
    fn transform(_client: Client, message: Message) -> transformation::Outcome {
        use transformation::{Outcome, Rejection};
        match message.topic.split('/').next() {
            Some("echo") => Outcome::Replace(message),
            Some("replace") => Outcome::Replace(Message {
                topic: format!("new/{}", message.topic),
                qos: Qos::AtLeastOnce,
                ..message
            }),
            Some("emit") => Outcome::Emit(
                (0..3)
                    .map(|n| Message {
                        topic: format!("part/{n}"),
                        ..message.clone()
                    })
                    .collect(),
            ),
            Some("drop") => Outcome::Drop,
            Some("reject") => Outcome::Reject(Rejection::QuotaExceeded),
            Some("time") => Outcome::Replace(Message {
                payload: clock::now().to_string().into_bytes(),
                ..message
            }),
            _ => Outcome::Pass,
        }
    }
}

export!(Guest);
