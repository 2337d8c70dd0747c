//! What a call costs: a guest made with the SDK, and one that is bare of it; a fresh instance, and a replacement after a trap.
//!
//!     cargo bench -p nervewire-plugin-host

#[path = "../tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use divan::Bencher;
use nervewire_codec::{QoS, Version};
use nervewire_core::hook::{AppMessage, Client, Credentials, Request};
use nervewire_plugin_host::{Instance, Role};
use std::net::Ipv4Addr;
use support::{load, message, request, spec, text};

/// Made with the SDK, and with the bindings alone.
const GUESTS: [&str; 2] = ["measured", "plain"];
/// Calls between two looks at the clock.
const CALLS: u32 = 2_000;

fn main() {
    divan::main();
}

#[divan::bench(args = GUESTS, sample_size = CALLS)]
fn authorize(bencher: Bencher<'_, '_>, guest: &str) {
    let mut instance = instance(guest);
    let (client, request) = (client(), asked("yes/temperature"));
    bencher.bench_local(|| instance.authorize(&client, &request).expect("a verdict"));
}

#[divan::bench(args = GUESTS, sample_size = CALLS)]
fn rules_none(bencher: Bencher<'_, '_>, guest: &str) {
    let mut instance = instance(guest);
    let client = client();
    bencher.bench_local(|| instance.rules(&client).expect("an answer"));
}

#[divan::bench(args = GUESTS, sample_size = CALLS)]
fn authenticate_abstain(bencher: Bencher<'_, '_>, guest: &str) {
    let mut instance = instance(guest);
    let credentials = Credentials {
        username: Some(text("bob")),
        ..Credentials::default()
    };
    let client = client();
    bencher.bench_local(|| instance.authenticate(&client, &credentials).expect("an answer"));
}

#[divan::bench(args = GUESTS, consts = [64, 1024, 65_536], sample_size = CALLS)]
fn transform_pass<const BYTES: usize>(bencher: Bencher<'_, '_>, guest: &str) {
    transform(bencher, guest, "pass/temperature", BYTES);
}

#[divan::bench(args = GUESTS, consts = [64, 1024, 65_536], sample_size = CALLS)]
fn transform_replace<const BYTES: usize>(bencher: Bencher<'_, '_>, guest: &str) {
    let topic = if guest == "plain" {
        "echo/temperature"
    } else {
        "replace/temperature"
    };
    transform(bencher, guest, topic, BYTES);
}

fn transform(bencher: Bencher<'_, '_>, guest: &str, topic: &str, bytes: usize) {
    let mut instance = instance(guest);
    let (client, message) = (client(), filled(topic, bytes));
    // Dropped at once: what divan keeps until the end of a sample would be measured as fresh memory.
    bencher.bench_local(|| drop(instance.transform(&client, &message).expect("an answer")));
}

#[divan::bench]
fn fresh_instance(bencher: Bencher<'_, '_>) {
    let plugin = load(spec("measured"));
    bencher.bench_local(|| plugin.instance(Role::Shard).expect("an instance"));
}

/// Fewer failures than open the breaker.
#[divan::bench(sample_count = 4, sample_size = 1)]
fn trap_and_replacement(bencher: Bencher<'_, '_>) {
    let mut instance = instance("hostile");
    let (client, trap, fine) = (client(), asked("recurse"), asked("fine"));
    bencher.bench_local(|| {
        instance.authorize(&client, &trap).expect_err("a trap");
        instance.authorize(&client, &fine).expect("a replacement")
    });
}

fn instance(guest: &str) -> Instance {
    load(spec(guest)).instance(Role::Shard).expect("an instance")
}

fn client() -> Client {
    Client {
        username: Some("sensors".into()),
        address: Ipv4Addr::new(192, 168, 17, 42).into(),
        port: 49_152,
        listener: "0.0.0.0:1883".into(),
        protocol: Version::V5,
        ..support::client("sensor-0815")
    }
}

fn asked(topic: &str) -> Request {
    Request {
        qos: QoS::AtLeastOnce,
        ..request(topic)
    }
}

fn filled(topic: &str, bytes: usize) -> AppMessage {
    AppMessage {
        payload: Bytes::from(vec![b'x'; bytes]),
        qos: QoS::AtLeastOnce,
        ..message(topic)
    }
}
