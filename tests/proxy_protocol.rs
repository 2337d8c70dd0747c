//! Listeners behind proxies that say who the client is: the PROXY protocol, versions 1 and 2.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use support::*;

const BEHIND_PROXY: &str = "proxy_protocol = [\"127.0.0.1\"]\nanonymous = \"allow\"";

fn broker(shards: u16) -> Broker {
    Setup::new().shards(shards).listener(BEHIND_PROXY).start()
}

/// A stream whose first bytes are this header.
fn behind(broker: &Broker, header: &[u8]) -> TcpStream {
    let mut stream = dial(broker);
    stream.write_all(header).expect("send");
    stream
}

fn v1(address: &str, port: u16) -> Vec<u8> {
    let family = if address.contains(':') { "TCP6" } else { "TCP4" };
    let proxy = if address.contains(':') { "::1" } else { "127.0.0.1" };
    format!("PROXY {family} {address} {proxy} {port} 1883\r\n").into_bytes()
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, family], &len, body].concat()
}

/// 198.51.100.9:40000 of version 2, with what comes behind it.
fn v2_client(tlvs: &[u8]) -> Vec<u8> {
    v2(
        1,
        0x11,
        &[&[198, 51, 100, 9, 127, 0, 0, 1, 0x9C, 0x40, 0x07, 0x5B][..], tlvs].concat(),
    )
}

#[track_caller]
fn connected(stream: impl Read + Write + Send + 'static, id: &str) -> Client {
    let mut client = Client::over(stream, Version::V5);
    client.send(Packet::Connect(Box::new(hello(Version::V5, id))));
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    client
}

#[track_caller]
fn ends(mut stream: TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() != ErrorKind::WouldBlock => {}
        other => panic!("expected the end: {other:?}"),
    }
}

fn address_of(broker: &Broker, id: &str) -> String {
    get(broker, &format!("/v1/clients/{id}")).json()["address"]
        .as_str()
        .expect("an address")
        .to_owned()
}

fn refused(broker: &Broker) -> f64 {
    metric(broker, "nervewire_connects_total", &[("outcome", "proxy")])
}

#[test]
fn the_client_has_the_address_that_the_proxy_says() {
    for shards in SHARD_COUNTS {
        let broker = broker(shards);
        for (id, header, address) in [
            ("one", v1("203.0.113.7", 40_000), "203.0.113.7:40000"),
            ("two", v1("2001:db8::7", 1), "[2001:db8::7]:1"),
            ("mapped", v1("::ffff:203.0.113.7", 2), "203.0.113.7:2"),
            ("v2", v2_client(b""), "198.51.100.9:40000"),
            (
                "tls-facts",
                v2_client(b"\x20\x00\x0b\x01\0\0\0\0\x22\x00\x03a\r\n"),
                "198.51.100.9:40000",
            ),
        ] {
            let mut client = connected(behind(&broker, &header), id);
            assert_eq!(address_of(&broker, id), address);
            client.subscribe(id, QoS::AtLeastOnce);
            client.publish(id, "hi", QoS::AtLeastOnce);
            client.expect_payload("hi");
        }
        assert_eq!(refused(&broker), 0.0);
    }
}

/// The proxy's own connections, such as health checks: LOCAL and UNKNOWN.
#[test]
fn a_proxy_that_speaks_for_itself_has_its_own_address() {
    let broker = broker(1);
    for (id, header) in [
        ("local", v2(0, 0, b"")),
        ("local-with-body", v2(0, 0x11, &[7; 12])),
        ("unspecified", v2(1, 0, b"")),
        ("unknown", b"PROXY UNKNOWN\r\n".to_vec()),
        ("unknown-with-text", b"PROXY UNKNOWN ffff::1 anything\r\n".to_vec()),
    ] {
        let _client = connected(behind(&broker, &header), id);
        assert!(address_of(&broker, id).starts_with("127.0.0.1:"));
    }
}

#[test]
fn a_header_may_come_byte_by_byte_or_with_what_follows() {
    let broker = broker(2);
    for (id, header) in [("slow-1", v1("203.0.113.7", 9)), ("slow-2", v2_client(b"\x04\0\0"))] {
        let mut stream = dial(&broker);
        for byte in &header {
            stream.write_all(&[*byte]).expect("send");
        }
        connected(stream, id);
        let mut connect = Vec::new();
        let packet = Packet::Connect(Box::new(hello(Version::V5, id)));
        nervewire_codec::encode(&packet, Version::V5, &mut connect).expect("encode");
        let mut client = Client::over(behind(&broker, &[header, connect].concat()), Version::V5);
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    }
}

#[test]
fn a_connection_without_a_header_ends_and_is_counted() {
    let broker = broker(1);
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    let cases: &[&[u8]] = &[
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2 \r\n",
        b"PROXY TCP4 203.0.113.7\r\n127.0.0.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.7\0 127.0.0.1 1 2\r\n",
        b"PROXY UNKNOWN a\rb\r\n",
        long.as_bytes(),
        &v2(1, 0x12, &[0; 12]),
        &v2(1, 0x11, &[0; 11]),
        &v2(1, 0x11, &[0; 5_000]),
        &v2(2, 0x11, &[0; 12]),
    ];
    for header in cases {
        ends(behind(&broker, header));
    }
    wait_for("all to be counted", || {
        (refused(&broker) == cases.len() as f64).then_some(())
    });
    connected(behind(&broker, &v1("203.0.113.7", 1)), "still-served");
}

/// Whoever could send a header from elsewhere could be anybody.
#[test]
fn only_trusted_proxies_are_heard() {
    let listener = BEHIND_PROXY.replace("127.0.0.1", "10.0.0.0/8");
    let broker = Setup::new().listener(&listener).start();
    // Whoever looked whether the broker listens came from nowhere, too, and was counted before this one.
    ends(behind(&broker, &v1("10.0.0.1", 1)));
    let before = refused(&broker);
    ends(behind(&broker, &v1("10.0.0.1", 1)));
    wait_for("it to be counted", || (refused(&broker) == before + 1.0).then_some(()));
}

/// Without `proxy_protocol` a header is no MQTT, and changes nobody's address.
#[test]
fn a_header_where_none_is_expected_is_refused() {
    // The first line of version 1 is the beginning of a longer packet, which does not come.
    let broker = Setup::new().listener("connect_timeout_ms = 500").start();
    ends(behind(&broker, &v1("203.0.113.7", 1)));
    ends(behind(&broker, &v2_client(b"")));
    assert_eq!(
        get(&broker, "/v1/clients").json()["clients"].as_array().map(Vec::len),
        Some(0)
    );
}

/// The last hop is on loopback; the client is not.
#[test]
fn nobody_behind_a_proxy_is_on_this_machine() {
    let broker = Setup::new().listener("proxy_protocol = [\"127.0.0.0/8\"]").start();
    for header in [v1("127.0.0.1", 1), v1("203.0.113.7", 1), v2(0, 0, b"")] {
        let mut client = Client::over(behind(&broker, &header), Version::V5);
        client.send(Packet::Connect(Box::new(hello(Version::V5, "c"))));
        assert_eq!(client.expect_connack().reason, ReasonCode::NotAuthorized);
    }
}

#[test]
fn a_header_that_does_not_come_ends_after_the_connect_timeout() {
    let broker = Setup::new()
        .listener(&format!("{BEHIND_PROXY}\nconnect_timeout_ms = 300"))
        .start();
    let silent = dial(&broker);
    let half = behind(&broker, b"PROXY TCP4 203.0");
    ends(silent);
    ends(half);
    let late = metric(
        &broker,
        "nervewire_bounds_hit_total",
        &[("bound", "connect_timeout_ms")],
    );
    assert_eq!(late, 2.0);
}

/// In clear before TLS, and before the request of a WebSocket.
#[test]
fn the_header_comes_before_every_other_layer() {
    let certificates = Certificates::new();
    for shards in SHARD_COUNTS {
        let tls = "tls = { cert = \"server.pem\", key = \"server.key\" }";
        let broker = certificates
            .setup("none")
            .shards(shards)
            .listener(&format!("{BEHIND_PROXY}\n{tls}"))
            .start();
        let stream = certificates.over(behind(&broker, &v1("203.0.113.7", 3)), None);
        let _client = connected(stream, "tls");
        assert_eq!(address_of(&broker, "tls"), "203.0.113.7:3");
        let web = format!("{BEHIND_PROXY}\n{tls}\ntransport = \"ws\"");
        let broker = certificates.setup("none").shards(shards).listener(&web).start();
        let stream = certificates.over(behind(&broker, &v2_client(b"")), None);
        let _client = connected(WebSocket::open(stream, ""), "wss");
        assert_eq!(address_of(&broker, "wss"), "198.51.100.9:40000");
    }
}
