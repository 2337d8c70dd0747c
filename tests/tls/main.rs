//! TLS listeners: certificates of the broker, and of clients.

#[path = "../support/backend.rs"]
mod backend;
#[path = "../support/mod.rs"]
mod support;

mod mistakes;
mod names;
mod reload;
mod resumption;
mod revocation;
mod webhook;

use serde_json::Value;
use std::io::{Read, Write};
use support::*;

/// Sends a CONNECT over TLS; `None` where the connection ends without an answer.
fn connect(
    broker: &Broker,
    certificates: &Certificates,
    identity: Option<&Identity>,
    connect: Connect,
) -> Option<(Client, ConnAck)> {
    let mut stream = certificates.connect(broker, identity);
    let mut bytes = Vec::new();
    let version = connect.version;
    nervewire_codec::encode(&Packet::Connect(Box::new(connect)), version, &mut bytes).expect("encode");
    // A refused handshake shows here or at the first read.
    stream.write_all(&bytes).and_then(|()| stream.flush()).ok()?;
    let mut client = Client::over(stream, version);
    match client.next() {
        Some(Packet::ConnAck(answer)) => Some((client, *answer)),
        None => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_travel_over_tls() {
    let certificates = Certificates::new();
    for shards in SHARD_COUNTS {
        let broker = certificates.setup("none").shards(shards).start();
        for version in [Version::V311, Version::V5] {
            let (mut client, _) = connect(&broker, &certificates, None, hello(version, "c")).expect("an answer");
            client.subscribe("t", QoS::ExactlyOnce);
            for size in [0, 100, 16_384, 100_000] {
                for qos in QOS {
                    client.publish("t", vec![7; size], qos);
                    assert_eq!(client.receive().payload, vec![7; size]);
                }
            }
            client.disconnect();
        }
    }
}

/// The client trusts another authority, so it ends the handshake; the broker serves on.
#[test]
fn a_broker_of_another_authority_is_not_trusted() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let broker = certificates.setup("none").start();
    assert!(connect(&broker, &other, None, hello(Version::V5, "c")).is_none());
    connect(&broker, &certificates, None, hello(Version::V5, "c")).expect("an answer");
}

#[test]
fn bytes_that_are_not_tls_end_the_connection() {
    let certificates = Certificates::new();
    let broker = certificates.setup("none").start();
    let mut stream = std::net::TcpStream::connect(broker.address()).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream
        .write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'c'])
        .expect("send");
    let mut answer = Vec::new();
    // An alert may come before the end, a CONNACK may not; a reset is an end as well.
    if stream.read_to_end(&mut answer).is_ok() && !answer.is_empty() {
        assert_eq!(answer[0], 0x15, "a TLS alert: {answer:02x?}");
    }
    connect(&broker, &certificates, None, hello(Version::V5, "c")).expect("an answer");
}

#[test]
fn a_required_certificate_must_be_there_and_of_the_right_authority() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let broker = certificates.setup("required").start();
    assert!(connect(&broker, &certificates, None, hello(Version::V5, "none")).is_none());
    let stranger = other.issue("sensor-1");
    assert!(connect(&broker, &certificates, Some(&stranger), hello(Version::V5, "wrong")).is_none());
    let (_, answer) = connect(
        &broker,
        &certificates,
        Some(&certificates.issue("sensor-1")),
        hello(Version::V5, "right"),
    )
    .expect("an answer");
    assert_eq!(answer.reason, ReasonCode::Success);
}

/// `identity = "cn"`: the common name becomes the user name, and nobody else has to authenticate the client.
#[test]
fn the_common_name_of_a_certificate_is_the_user_name() {
    let certificates = Certificates::new();
    let broker = certificates
        .setup("required")
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .start();
    let (_client, answer) = connect(
        &broker,
        &certificates,
        Some(&certificates.issue("sensor-1")),
        hello(Version::V5, "c"),
    )
    .expect("an answer");
    assert_eq!(answer.reason, ReasonCode::Success);
    assert_eq!(get(&broker, "/v1/clients/c").json()["username"], "sensor-1");
}

#[test]
fn an_optional_certificate_is_used_where_there_is_one() {
    let (certificates, other) = (Certificates::new(), Certificates::new());
    let broker = certificates.setup("optional").start();
    let username = |identity: Option<&Identity>| {
        let (_client, answer) = connect(&broker, &certificates, identity, hello(Version::V5, "c")).expect("an answer");
        assert_eq!(answer.reason, ReasonCode::Success);
        get(&broker, "/v1/clients/c").json()["username"].clone()
    };
    assert_eq!(username(None), Value::Null);
    assert_eq!(username(Some(&certificates.issue("sensor-1"))), "sensor-1");
    assert!(
        connect(
            &broker,
            &certificates,
            Some(&other.issue("sensor-1")),
            hello(Version::V5, "c")
        )
        .is_none()
    );
}

/// Without certificate and password the client is nobody where anonymous clients are refused.
#[test]
fn an_optional_certificate_that_is_missing_proves_nothing() {
    let certificates = Certificates::new();
    let broker = certificates
        .setup("optional")
        .auth("anonymous = \"deny\"\ndefault = \"allow\"")
        .start();
    let (_, answer) = connect(&broker, &certificates, None, hello(Version::V5, "c")).expect("an answer");
    assert_eq!(answer.reason, ReasonCode::NotAuthorized);
}
