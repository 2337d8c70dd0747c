//! What `builtin:rewrite` itself takes of a message, native: the component takes as many times more as its code is slower.
//!
//!     cargo bench -p nervewire-plugin-rewrite --bench transform
//!
//! Each message is made for its call, which "a message alone" measures.

#[path = "../../../broker/codec/benches/operation/mod.rs"]
mod operation;

use divan::{Bencher, black_box};
use nervewire_plugin_rewrite::Rewrite;
use nervewire_plugin_sdk::{prelude::*, testing};
use operation::Operation;

const OPERATIONS: [Operation; 6] = [
    Operation::new("a message alone, 1 KiB", || {
        let payload = vec![b'x'; 1_024];
        Box::new(move || drop(black_box(Message::new("legacy/north/sensors/hall/1", payload.clone()))))
    }),
    Operation::new("a message that no rule is about, 1 KiB", || {
        rewriting("other/7", &text(1_024), Kind::Passed)
    }),
    Operation::new("a topic made of captures, 1 KiB", || {
        rewriting("legacy/north/sensors/hall/1", &text(1_024), Kind::Replaced)
    }),
    Operation::new("three changes to JSON, 100 bytes", || {
        rewriting("dev/7/telemetry", &json(100), Kind::Replaced)
    }),
    Operation::new("three changes to JSON, 1 KiB", || {
        rewriting("dev/7/telemetry", &json(1_024), Kind::Replaced)
    }),
    Operation::new("JSON without a field to change, 1 KiB", || {
        rewriting("lenient/7", &json(1_024), Kind::Passed)
    }),
];

const RULES: &str = r#"{"rules": [
    {"match": "legacy/+/sensors/#", "topic": "site/${1}/${#}"},
    {"match": "dev/+/telemetry", "json": [
        {"rename": "reading.tmp", "to": "celsius"},
        {"drop": "debug"},
        {"scale": "outside_f", "factor": 0.5556, "offset": -17.78, "round": 2}
    ]},
    {"match": "lenient/#", "json": [{"drop": "x"}]}
]}"#;

fn main() {
    operation::main(&OPERATIONS);
}

#[divan::bench(args = OPERATIONS)]
fn transform(bencher: Bencher<'_, '_>, operation: &Operation) {
    bencher.bench_local((operation.prepare)());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Passed,
    Replaced,
}

fn rewriting(topic: &'static str, payload: &str, expected: Kind) -> Box<dyn FnMut()> {
    let mut plugin: Rewrite = testing::load(RULES).expect("the rules are valid");
    let client = testing::client("7");
    let payload = payload.as_bytes().to_vec();
    Box::new(move || {
        let kind = match plugin.transform(&client, black_box(Message::new(topic, payload.clone()))) {
            Transformation::Pass => Kind::Passed,
            Transformation::Replace(message) => {
                drop(black_box(message));
                Kind::Replaced
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, expected);
    })
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

/// Telemetry of about this length: what is changed, and readings that are not.
fn json(length: usize) -> String {
    let mut json = r#"{"reading":{"tmp":21.50,"hum":40.1},"debug":[1],"outside_f":71.2"#.to_owned();
    for number in 0.. {
        if json.len() + 20 > length {
            break;
        }
        json += &format!(r#","sensor_{number:02}":{}.25"#, 100 + number);
    }
    json + "}"
}
