//! A guest that ticks and detects. Its configuration says how: `{"every": 50, "topic": "a/b", "count": 2, "qos": 1, "retain":
//! true, "payload": "x"}` publishes two messages every 50 ms. Without `payload` they carry the number of the
//! tick. `"loop": true` does not come back from its first tick.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:ticking;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/transformer@0.1.1;
            include nervewire:plugin/detector@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{detection, lifecycle, transformation};
use nervewire::plugin::types::{Client, Message, Property, Qos};
use std::cell::{Cell, RefCell};
use std::hint::black_box;

struct Guest;

thread_local! {
    static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
    static TICKS: Cell<u32> = const { Cell::new(0) };
}

/// The value of a field of a flat JSON object without commas or colons in its strings; empty when there is none.
fn field(json: &str, name: &str) -> String {
    let mut pairs = json
        .trim_matches(['{', '}', ' '])
        .split(',')
        .filter_map(|pair| pair.split_once(':'));
    pairs
        .find(|(key, _)| key.trim().trim_matches('"') == name)
        .map_or_else(String::new, |(_, value)| value.trim().trim_matches('"').to_owned())
}

impl lifecycle::Guest for Guest {
    fn init(config: String, _files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        let tick_milliseconds = field(&config, "every").parse().ok();
        CONFIG.replace(config);
        Ok(lifecycle::Ready { tick_milliseconds })
    }

    fn tick(now: u64) -> Vec<Message> {
        let config = CONFIG.with_borrow(Clone::clone);
        let tick = TICKS.replace(TICKS.get() + 1);
        while field(&config, "loop") == "true" {
            black_box(());
        }
        let number = |name: &str, default: usize| field(&config, name).parse().unwrap_or(default);
        let payload = match field(&config, "payload") {
            empty if empty.is_empty() => tick.to_string(),
            payload => payload,
        };
        let message = Message {
            topic: field(&config, "topic"),
            payload: payload.into_bytes(),
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][number("qos", 0)],
            retain: field(&config, "retain") == "true",
            payload_is_utf8: false,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            message_expiry_seconds: None,
            user_properties: vec![Property {
                name: "now".into(),
                value: now.to_string(),
            }],
        };
        vec![message; number("count", 1)]
    }
}

impl transformation::Guest for Guest {
    /// Marks what it was asked about, with the client it is told of.
    fn transform(client: Client, mut message: Message) -> transformation::Outcome {
        message.user_properties.push(Property {
            name: "seen".into(),
            value: client.client_id,
        });
        transformation::Outcome::Replace(message)
    }
}

impl detection::Guest for Guest {
    /// Every client that was denied something is odd, and with `"most": 50` who sent more messages than that; with `"echo": true`
    /// everybody is. What is done is said by its user name, or by what its client identifier begins with.
    fn detect(windows: Vec<detection::Window>) -> Vec<detection::Finding> {
        let config = CONFIG.with_borrow(Clone::clone);
        let most: u64 = field(&config, "most").parse().unwrap_or(u64::MAX);
        let echo = field(&config, "echo") == "true";
        let odd = windows
            .into_iter()
            .filter(|window| echo || window.denials > 0 || window.messages_in > most);
        odd.map(|window| detection::Finding {
            response: match said(&window) {
                "throttle" => detection::Response::Throttle(7),
                "disconnect" => detection::Response::Disconnect,
                "ban" => detection::Response::Ban(60),
                _ => detection::Response::Alert,
            },
            evidence: format!(
                "{} denials from {} in {} ms since {}, mean payload {}",
                window.denials, window.address, window.milliseconds, window.started, window.payload_bytes_mean
            ),
            client_id: window.client_id,
        })
        .collect()
    }
}

fn said(window: &detection::Window) -> &str {
    let by_identifier = || window.client_id.split('-').next().unwrap_or_default();
    window.username.as_deref().unwrap_or_else(by_identifier)
}

export!(Guest);
