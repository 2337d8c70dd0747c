//! A guest that misbehaves on demand. What it does is named by the first level of the topic (`authenticate`: by the user name),
//! or else by its configuration: `{"behaviour": "panic", "every": 3}` panics on every third call.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:hostile;
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
use nervewire::plugin::{counters, log};
use std::cell::{Cell, RefCell};
use std::hint::black_box;

struct Guest;

thread_local! {
    static BEHAVIOUR: RefCell<String> = const { RefCell::new(String::new()) };
    static EVERY: Cell<u32> = const { Cell::new(1) };
    /// Calls of this instance, so that tests see when it was replaced.
    static CALLS: Cell<u32> = const { Cell::new(0) };
}

impl lifecycle::Guest for Guest {
    fn init(config: String, _files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        let behaviour = field(&config, "behaviour").trim_matches('"').to_owned();
        if let Some(at_init) = behaviour.strip_prefix("init-") {
            misbehave(at_init);
        }
        EVERY.set(field(&config, "every").parse().unwrap_or(1));
        BEHAVIOUR.replace(behaviour);
        Ok(lifecycle::Ready {
            tick_milliseconds: None,
        })
    }

    fn tick(_now: u64) -> Vec<Message> {
        call("");
        Vec::new()
    }
}

/// The value of a field of a flat JSON object without commas or colons in its strings; empty when there is none.
fn field<'a>(json: &'a str, name: &str) -> &'a str {
    let pairs = json
        .trim_matches(['{', '}', ' '])
        .split(',')
        .filter_map(|pair| pair.split_once(':'));
    pairs
        .into_iter()
        .find(|(key, _)| key.trim().trim_matches('"') == name)
        .map_or("", |(_, value)| value.trim())
}

/// Does what is named, or what is configured; comes back where that is nothing.
fn call(named: &str) {
    CALLS.set(CALLS.get() + 1);
    misbehave(named);
    if CALLS.get().is_multiple_of(EVERY.get()) {
        BEHAVIOUR.with_borrow(|behaviour| misbehave(behaviour));
    }
}

fn misbehave(how: &str) {
    match how {
        "loop" => loop {
            black_box(());
        },
        "bomb" => bomb(),
        "panic" => panic!("the guest panics on purpose"),
        "recurse" => _ = black_box(recurse(1)),
        "exit" => std::process::exit(3),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(3600)),
        "print" => println!("first line\nsecond line"),
        // Far more than the host is willing to copy.
        "shout" => log::log(log::Level::Info, &"x".repeat(8 << 20)),
        "shout a name" => counters::add(&"x".repeat(8 << 20), 1),
        "log" => (0..1000).for_each(|n| log::log(log::Level::Info, &format!("line {n}"))),
        "count" => (0..100).for_each(|n| counters::add(&format!("name_{n}"), 1)),
        "file" => _ = std::fs::read("/etc/passwd").map(|_| panic!("read a file")),
        "environment" => assert_eq!(std::env::vars().count(), 0),
        _ => {}
    }
}

/// Allocates until there is no more.
fn bomb() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; 1 << 20]));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(depth + 1) + frame[1]
}

fn first_level(topic: &str) -> &str {
    topic.split('/').next().unwrap_or_default()
}

impl authentication::Guest for Guest {
    fn authenticate(_client: Client, credentials: authentication::Credentials) -> authentication::Outcome {
        use authentication::{Challenge, Outcome};
        let name = credentials.username.unwrap_or_default();
        call(&name);
        match name.as_str() {
            "null" => Outcome::Allow(identity("a\0b".into(), None, 0)),
            "tenant" => Outcome::Allow(identity("x".into(), Some("a/b".into()), 0)),
            "attributes" => Outcome::Allow(identity("x".into(), None, 65)),
            "long" => Outcome::Allow(identity("x".repeat(65_536), None, 0)),
            "data" => Outcome::Challenge(Challenge {
                data: vec![0; 65_536],
                state: Vec::new(),
            }),
            _ => Outcome::Abstain,
        }
    }
}

fn identity(username: String, tenant: Option<String>, attributes: usize) -> authentication::Identity {
    let quotas = authentication::Quotas {
        publish_rate_per_second: None,
        queue_messages: None,
        queue_bytes: None,
        subscriptions: None,
    };
    let attribute = |n| Property {
        name: format!("n{n}"),
        value: String::new(),
    };
    authentication::Identity {
        username: Some(username),
        attributes: (0..attributes).map(attribute).collect(),
        tenant,
        quotas,
        data: None,
    }
}

impl authorization::Guest for Guest {
    fn rules(client: Client) -> Option<Vec<authorization::Rule>> {
        call(&client.client_id);
        let count = match client.client_id.as_str() {
            "many" => 1025,
            // More than the host is willing to copy, though it is little memory here.
            "flood" => 1_000_000,
            _ => return None,
        };
        let rule = authorization::Rule {
            effect: authorization::Effect::Allow,
            actions: authorization::Actions::all(),
            topic_filter: String::new(),
            max_qos: Qos::AtMostOnce,
            retain: None,
        };
        Some(vec![rule; count])
    }

    /// Allows, with the number of calls of this instance as the time to cache.
    fn authorize(_client: Client, request: authorization::Request) -> authorization::Verdict {
        call(first_level(&request.topic));
        authorization::Verdict {
            decision: authorization::Decision::Allow,
            cache_milliseconds: CALLS.get(),
            depends_on: authorization::Dependencies::empty(),
        }
    }
}

impl transformation::Guest for Guest {
    fn transform(_client: Client, message: Message) -> transformation::Outcome {
        use transformation::Outcome::{Emit, Pass, Replace};
        let what = first_level(&message.topic).to_owned();
        call(&what);
        match what.as_str() {
            "wildcard" => Replace(Message {
                topic: "a/+/b".into(),
                ..message
            }),
            "empty" => Replace(Message {
                topic: String::new(),
                ..message
            }),
            "null" => Replace(Message {
                topic: "a\0b".into(),
                ..message
            }),
            "response" => Replace(Message {
                response_topic: Some("a/#".into()),
                ..message
            }),
            "content" => Replace(Message {
                content_type: Some("\0".into()),
                ..message
            }),
            "correlation" => Replace(Message {
                correlation_data: Some(vec![0; 65_536]),
                ..message
            }),
            "large" => Replace(Message {
                payload: vec![0; 1 << 20],
                ..message
            }),
            "huge" => Replace(Message {
                payload: vec![0; 8 << 20],
                ..message
            }),
            "properties" => {
                let property = Property {
                    name: "n".into(),
                    value: String::new(),
                };
                Replace(Message {
                    user_properties: vec![property; 257],
                    ..message
                })
            }
            "flock" => Emit(vec![message; 17]),
            _ => Pass,
        }
    }
}

impl detection::Guest for Guest {
    fn detect(_windows: Vec<detection::Window>) -> Vec<detection::Finding> {
        call("");
        let finding = detection::Finding {
            client_id: "c".into(),
            response: detection::Response::Alert,
            evidence: "x".repeat(1000),
        };
        // More than the host is willing to take.
        vec![finding; BEHAVIOUR.with_borrow(|behaviour| if behaviour == "flood" { 5_000 } else { 0 })]
    }
}

export!(Guest);
