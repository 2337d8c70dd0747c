//! What a call costs: a guest made with the SDK, and one that is bare of it; a fresh instance, and a replacement after a trap.
//!
//!     cargo bench -p nervewire-plugin-host

#[path = "../tests/support/mod.rs"]
mod support;

use bytes::Bytes;
use divan::Bencher;
use nervewire_codec::{QoS, Version};
use nervewire_core::hook::{AppMessage, AppMessageRef, Client, Credentials, Request};
use nervewire_core::policy::RequestRef;
use nervewire_plugin_host::{Instance, Role};
use std::net::Ipv4Addr;
use support::{load, message, request, spec, text};
use wasmtime::Store;
use wasmtime::component::{Component, Linker, TypedFunc};

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

/// Per call, not per answer.
#[divan::bench(consts = [1, 16], sample_size = CALLS)]
fn authorize_all<const QUESTIONS: usize>(bencher: Bencher<'_, '_>) {
    let mut instance = instance("measured");
    let (client, request) = (client(), asked("yes/temperature"));
    let requests = [RequestRef::from(&request); QUESTIONS];
    bencher.bench_local(|| instance.authorize_all(&client, &requests).expect("verdicts"));
}

#[divan::bench(consts = [64, 1024], sample_size = CALLS)]
fn transform_all_pass<const BYTES: usize>(bencher: Bencher<'_, '_>) {
    let mut instance = instance("measured");
    let (client, message) = (client(), filled("pass/temperature", BYTES));
    let messages = [AppMessageRef::from(&message); 10];
    bencher.bench_local(|| instance.transform_all(&client, &messages).expect("answers"));
}

/// What wasmtime itself takes: a component without code of its own, and nothing of ours. No call can take less.
#[divan::bench(args = ["nothing", "bytes", "answer"], consts = [64, 1024], sample_size = CALLS)]
fn wasmtime_alone<const BYTES: usize>(bencher: Bencher<'_, '_>, function: &str) {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true).concurrency_support(false);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let component = wat::parse_str(BARE).expect("a component");
    let component = Component::new(&engine, component).expect("a component");
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(u64::MAX / 2);
    let linker = Linker::new(&engine);
    let instance = linker.instantiate(&mut store, &component).expect("an instance");
    let bytes = [b'x'; BYTES];
    if function == "nothing" {
        let call: TypedFunc<(), ()> = instance.get_typed_func(&mut store, function).expect("a function");
        return bencher.bench_local(|| call.call(&mut store, ()).expect("an answer"));
    }
    let call: TypedFunc<(&[u8],), ((u32, u32),)> = instance.get_typed_func(&mut store, function).expect("a function");
    bencher.bench_local(|| call.call(&mut store, (&bytes,)).expect("an answer"));
}

/// `answer` has its memory freed, `bytes` has not.
const BARE: &str = r#"(component
    (core module $module
        (memory (export "memory") 1)
        (func (export "nothing"))
        (func (export "bytes") (param i32 i32) (result i32) i32.const 8)
        (func (export "free") (param i32))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
    (core instance $guest (instantiate $module))
    (alias core export $guest "memory" (core memory $memory))
    (alias core export $guest "nothing" (core func $nothing))
    (alias core export $guest "bytes" (core func $bytes))
    (alias core export $guest "free" (core func $free))
    (alias core export $guest "realloc" (core func $realloc))
    (func (export "nothing") (canon lift (core func $nothing)))
    (func (export "bytes") (param "bytes" (list u8)) (result (tuple u32 u32))
        (canon lift (core func $bytes) (memory $memory) (realloc $realloc)))
    (func (export "answer") (param "bytes" (list u8)) (result (tuple u32 u32))
        (canon lift (core func $bytes) (memory $memory) (realloc $realloc) (post-return $free))))"#;

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
