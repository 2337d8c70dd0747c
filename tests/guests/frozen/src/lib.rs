//! Everything there is in `nervewire:plugin@0.1.0`: every hook, every function of the host, most fields and cases. Its
//! component of the day the contract was frozen lies in `tests/frozen/`.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:frozen;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/authenticator@0.1.1;
            include nervewire:plugin/authorizer@0.1.1;
            include nervewire:plugin/transformer@0.1.1;
            include nervewire:plugin/detector@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{authentication, authorization, detection, lifecycle, transformation};
use nervewire::plugin::types::{Client, Message, Property, Qos};
use nervewire::plugin::{clock, counters, kv, log, random};

struct Guest;

impl lifecycle::Guest for Guest {
    /// Ticks where the configuration says so, refuses one that says `refuse`.
    fn init(config: String, files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        if config.contains("refuse") {
            return Err(format!("refused {} and {} files", config, files.len()));
        }
        for file in &files {
            log::log(
                log::Level::Info,
                &format!("{} has {} bytes", file.name, file.contents.len()),
            );
        }
        Ok(lifecycle::Ready {
            tick_milliseconds: config.contains("tick").then_some(1000),
        })
    }

    fn tick(now: u64) -> Vec<Message> {
        vec![Message {
            retain: true,
            ..message("ticks", now.to_string().into_bytes())
        }]
    }
}

impl authentication::Guest for Guest {
    /// The user name says what is answered.
    fn authenticate(client: Client, credentials: authentication::Credentials) -> authentication::Outcome {
        use authentication::{Challenge, Outcome, Refusal};
        match credentials.username.as_deref() {
            Some("ann") => Outcome::Allow(identity(&client, &credentials)),
            Some("mallory") => Outcome::Deny(Refusal::Banned),
            Some("guess") => Outcome::Deny(Refusal::BadUserNameOrPassword),
            Some("more") => Outcome::Challenge(Challenge {
                data: credentials.method.unwrap_or_default().into_bytes(),
                state: credentials.data.unwrap_or_default(),
            }),
            _ => Outcome::Abstain,
        }
    }
}

fn identity(client: &Client, credentials: &authentication::Credentials) -> authentication::Identity {
    let certificate = client
        .certificate
        .as_ref()
        .map_or("none", |certificate| &certificate.subject);
    let facts = format!(
        "{} {} {} {} {:?} {}",
        client.client_id, client.address, client.port, client.listener, client.protocol, certificate
    );
    authentication::Identity {
        username: Some(format!("ann/{}", credentials.password.as_ref().map_or(0, Vec::len))),
        attributes: vec![property("facts", facts)],
        tenant: Some("lab".into()),
        quotas: authentication::Quotas {
            publish_rate_per_second: Some(1),
            queue_messages: Some(2),
            queue_bytes: Some(3),
            subscriptions: None,
        },
        data: credentials.state.clone(),
    }
}

impl authorization::Guest for Guest {
    /// Clients that are called `ruled` have rules.
    fn rules(client: Client) -> Option<Vec<authorization::Rule>> {
        use authorization::{Actions, Effect, Rule};
        let rule = |effect, actions, filter: &str, max_qos, retain| Rule {
            effect,
            actions,
            topic_filter: filter.to_owned(),
            max_qos,
            retain,
        };
        (client.client_id == "ruled").then(|| {
            vec![
                rule(Effect::Allow, Actions::PUBLISH, "a/#", Qos::AtLeastOnce, Some(true)),
                rule(
                    Effect::Ask,
                    Actions::SUBSCRIBE | Actions::DELIVER,
                    "+",
                    Qos::ExactlyOnce,
                    None,
                ),
                rule(Effect::Deny, Actions::all(), "#", Qos::AtMostOnce, Some(false)),
            ]
        })
    }

    fn authorize(_: Client, request: authorization::Request) -> authorization::Verdict {
        use authorization::{Action, Decision, Dependencies};
        counters::add("asked", 2);
        let (decision, depends_on) = match request.action {
            Action::Publish => (Decision::Allow, Dependencies::CLIENT | Dependencies::TOPIC),
            Action::Subscribe => (Decision::Deny, Dependencies::USER),
            Action::Deliver => (Decision::Abstain, Dependencies::empty()),
        };
        authorization::Verdict {
            decision,
            cache_milliseconds: u32::try_from(request.topic.len()).unwrap_or(0),
            depends_on,
        }
    }
}

impl transformation::Guest for Guest {
    /// The topic says what is done.
    fn transform(client: Client, received: Message) -> transformation::Outcome {
        use transformation::{Outcome, Rejection};
        match received.topic.as_str() {
            "replace" => Outcome::Replace(full(&client, received)),
            "emit" => Outcome::Emit(vec![message("one", vec![1]), message("two", vec![])]),
            "drop" => Outcome::Drop,
            "reject" => Outcome::Reject(Rejection::PayloadFormatInvalid),
            "host" => Outcome::Replace(message("host", host().into_bytes())),
            _ => Outcome::Pass,
        }
    }
}

/// A message with everything in it.
fn full(client: &Client, received: Message) -> Message {
    Message {
        topic: "replaced".into(),
        payload: received.payload.into_iter().rev().collect(),
        qos: Qos::ExactlyOnce,
        retain: !received.retain,
        payload_is_utf8: true,
        content_type: Some("text/plain".into()),
        response_topic: Some("answers".into()),
        correlation_data: Some(vec![7]),
        message_expiry_seconds: Some(60),
        user_properties: vec![property("by", client.client_id.clone())],
    }
}

/// What the functions of the host answer, in one line.
fn host() -> String {
    let show = |result: Result<i64, kv::Error>| result.map_or_else(|error| format!("{error:?}"), |sum| sum.to_string());
    let sum = show(kv::increment("n", 5, Some(60_000)));
    let swapped = kv::compare_and_swap("n", Some(b"5"), Some(b"x"), None).unwrap_or(false);
    let no_number = show(kv::increment("n", 1, None));
    let too_large = kv::set(&"k".repeat(2000), b"", None).is_err();
    let set = kv::set("s", b"set", None).is_ok() && kv::get("s").as_deref() == Some(b"set");
    kv::delete("s");
    let deleted = kv::get("s").is_none();
    let random = random::bytes(16).len();
    let this_century = clock::now() > 946_684_800_000;
    format!("{sum} {swapped} {no_number} {too_large} {set} {deleted} {random} {this_century}")
}

impl detection::Guest for Guest {
    /// The client identifier says what is found.
    fn detect(windows: Vec<detection::Window>) -> Vec<detection::Finding> {
        use detection::Response;
        windows
            .into_iter()
            .filter_map(|window| {
                let response = match window.client_id.as_str() {
                    "alert" => Response::Alert,
                    "throttle" => Response::Throttle(window.connects),
                    "disconnect" => Response::Disconnect,
                    "ban" => Response::Ban(window.failed_logins),
                    _ => return None,
                };
                Some(detection::Finding {
                    evidence: evidence(&window),
                    client_id: window.client_id,
                    response,
                })
            })
            .collect()
    }
}

fn evidence(window: &detection::Window) -> String {
    let counted = [
        window.started,
        window.milliseconds.into(),
        window.messages_in,
        window.messages_out,
        window.bytes_in,
        window.bytes_out,
        window.distinct_topics.into(),
        window.denials.into(),
        window.malformed_packets.into(),
        window.payload_bytes_min.into(),
        window.payload_bytes_max.into(),
        // Numbers with a fraction would bring the code that prints them.
        (window.payload_bytes_mean * 10.0) as u64,
        (window.payload_bytes_deviation * 10.0) as u64,
    ];
    let user = window.username.as_deref().unwrap_or("nobody");
    let counted: Vec<String> = counted.iter().map(u64::to_string).collect();
    format!("{user} {} {}", window.address, counted.join(" "))
}

fn message(topic: &str, payload: Vec<u8>) -> Message {
    Message {
        topic: topic.to_owned(),
        payload,
        qos: Qos::AtMostOnce,
        retain: false,
        payload_is_utf8: false,
        content_type: None,
        response_topic: None,
        correlation_data: None,
        message_expiry_seconds: None,
        user_properties: Vec::new(),
    }
}

fn property(name: &str, value: String) -> Property {
    Property {
        name: name.to_owned(),
        value,
    }
}

export!(Guest);
