//! What a call costs: the median and the 99th percentile of warm calls, of a fresh instance, and of a replacement after a trap.
//!
//!     cargo run --release -p nervewire-plugin-host --example call_cost

#[path = "../../../tests/guests/build_guests.rs"]
mod guests;

use bytes::Bytes;
use nervewire_codec::{QoS, Utf8String, Version};
use nervewire_core::hook::{Action, AppMessage, Client, Credentials, Request};
use nervewire_plugin_host::{Host, HostConfig, Limits, Plugin, PluginSpec, Role};
use std::error::Error;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let host = Host::new(HostConfig::default())?;
    let plain = load(&host, "plain")?;
    let mut instance = plain.instance(Role::Shard)?;
    let (client, request) = (
        client(),
        Request {
            action: Action::Publish,
            ..request("yes/temperature")?
        },
    );
    measure("authorize", 100_000, || instance.authorize(&client, &request).is_ok());
    measure("rules, none", 100_000, || instance.rules(&client).is_ok());
    let credentials = Credentials {
        username: Some(Utf8String::try_from("bob")?),
        ..Credentials::default()
    };
    measure("authenticate, abstain", 100_000, || {
        instance.authenticate(&client, &credentials).is_ok()
    });
    for bytes in [64, 1024, 65_536] {
        for topic in ["pass/temperature", "echo/temperature"] {
            let message = message(topic, bytes)?;
            measure(&format!("transform {bytes} B, {topic}"), 50_000, || {
                instance.transform(&client, &message).is_ok()
            });
        }
    }
    measure("fresh instance", 5_000, || plain.instance(Role::Shard).is_ok());
    let hostile = load(&host, "hostile")?;
    let mut instance = hostile.instance(Role::Shard)?;
    let (exit, fine) = (self::request("recurse")?, self::request("fine")?);
    measure("one trap and one replacement", 4, || {
        instance.authorize(&client, &exit).is_err()
    });
    measure("call after a trap: replacement", 1, || {
        instance.authorize(&client, &fine).is_ok()
    });
    Ok(())
}

fn measure(what: &str, calls: usize, mut call: impl FnMut() -> bool) {
    let mut times: Vec<Duration> = (0..calls)
        .map(|_| {
            let start = Instant::now();
            assert!(call(), "{what} gave the wrong kind of answer");
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (median, p99) = (times[calls / 2].as_nanos(), times[calls * 99 / 100].as_nanos());
    println!("{what:40} {median:>9} ns median {p99:>9} ns p99");
}

fn load(host: &Host, name: &str) -> Result<Arc<Plugin>, Box<dyn Error>> {
    Ok(host.load(PluginSpec {
        name: name.to_owned(),
        component: guests::component(name).into(),
        hooks: None,
        grants: Vec::new(),
        limits: Limits {
            call_ms: 1000,
            ..Limits::default()
        },
        files: Vec::new(),
        config_json: "{}".to_owned(),
    })?)
}

fn client() -> Client {
    Client {
        client_id: "sensor-0815".into(),
        username: Some("sensors".into()),
        address: Ipv4Addr::new(192, 168, 17, 42).into(),
        port: 49_152,
        listener: "0.0.0.0:1883".into(),
        protocol: Version::V5,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    }
}

fn request(topic: &str) -> Result<Request, Box<dyn Error>> {
    Ok(Request {
        action: Action::Publish,
        topic: Utf8String::try_from(topic)?,
        qos: QoS::AtLeastOnce,
        retain: false,
    })
}

fn message(topic: &str, bytes: usize) -> Result<AppMessage, Box<dyn Error>> {
    Ok(AppMessage {
        topic: Utf8String::try_from(topic)?,
        payload: Bytes::from(vec![b'x'; bytes]),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: None,
    })
}
