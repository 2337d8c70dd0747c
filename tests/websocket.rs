//! MQTT over WebSocket, frame by frame: [RFC 6455], and section 6 of both MQTT specifications.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use support::*;

/// Any program may connect, and one page.
const LISTENER: &str = "transport = \"ws\"\nanonymous = \"allow\"\nallowed_origins = [\"https://app.example.com\"]";

fn broker(shards: u16) -> Broker {
    Setup::new().shards(shards).listener(LISTENER).start()
}

fn open(broker: &Broker) -> WebSocket<TcpStream> {
    WebSocket::open(dial(broker), "")
}

/// A client over any stream, connected.
#[track_caller]
fn connected(stream: impl Read + Write + Send + 'static, connect: Connect) -> Client {
    let mut client = Client::over(stream, connect.version);
    client.send(Packet::Connect(Box::new(connect)));
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    client
}

fn bytes_of(packets: &[Packet], version: Version) -> Vec<u8> {
    let mut bytes = Vec::new();
    for packet in packets {
        nervewire_codec::encode(packet, version, &mut bytes).expect("encode");
    }
    bytes
}

fn connect_bytes(id: &str) -> Vec<u8> {
    bytes_of(&[Packet::Connect(Box::new(hello(Version::V5, id)))], Version::V5)
}

fn exchange(client: &mut Client) {
    client.subscribe("t", QoS::ExactlyOnce);
    for size in [0, 1, 100, 16_384, 100_000] {
        for qos in QOS {
            client.publish("t", vec![7; size], qos);
            assert_eq!(client.receive().payload, vec![7; size]);
        }
    }
}

#[test]
fn messages_travel_over_websocket_and_over_secure_websocket() {
    let certificates = Certificates::new();
    for shards in SHARD_COUNTS {
        let plain = broker(shards);
        let tls = "tls = { cert = \"server.pem\", key = \"server.key\" }";
        let secure = certificates
            .setup("none")
            .shards(shards)
            .listener(&format!("{LISTENER}\n{tls}"))
            .start();
        for version in [Version::V311, Version::V5] {
            let mut client = connected(open(&plain), hello(version, "c"));
            exchange(&mut client);
            client.disconnect();
            let stream = WebSocket::open(certificates.connect(&secure, None), "");
            let mut client = connected(stream, hello(version, "c"));
            exchange(&mut client);
            client.disconnect();
        }
    }
}

/// [MQTT-6.0.0-2]: packets are not aligned with frames.
#[test]
fn packets_are_split_and_joined_across_frames() {
    let broker = broker(2);
    let mut socket = open(&broker);
    let publish = |payload: &'static str| Packet::Publish(message("t", payload, QoS::AtMostOnce));
    for byte in connect_bytes("split") {
        socket.send(FIN | BINARY, &[byte]);
    }
    let mut client = Client::over(socket, Version::V5);
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    client.subscribe("t", QoS::AtMostOnce);
    client.send_bytes(&bytes_of(
        &[publish("one"), publish("two"), publish("three")],
        Version::V5,
    ));
    for payload in ["one", "two", "three"] {
        client.expect_payload(payload);
    }
    // Everything in one frame, CONNECT included.
    let all = [connect_bytes("joined"), bytes_of(&[publish("four")], Version::V5)].concat();
    let mut joined = open(&broker);
    joined.send(FIN | BINARY, &all);
    client.expect_payload("four");
}

#[test]
fn a_message_may_be_fragmented_with_pings_in_between() {
    let broker = broker(1);
    let mut socket = open(&broker);
    let bytes = connect_bytes("fragments");
    socket.send(BINARY, &bytes[..3]);
    socket.send(FIN | PING, b"are you there");
    assert_eq!(
        socket.frame().expect("a frame"),
        Some((FIN | PONG, b"are you there".to_vec()))
    );
    socket.send(CONTINUATION, &bytes[3..7]);
    socket.send(FIN | PONG, b"nobody asked");
    socket.send(CONTINUATION, b"");
    socket.send(FIN | CONTINUATION, &bytes[7..]);
    let mut client = Client::over(socket, Version::V5);
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
    exchange(&mut client);
}

#[test]
fn what_breaks_the_protocol_is_closed_with_a_code_that_says_how() {
    let broker = broker(1);
    let claim = |len: u64| [&[FIN | BINARY, 0x80 | 127][..], &len.to_be_bytes(), &[0; 4]].concat();
    for (what, bytes, code) in [
        ("text [MQTT-6.0.0-1]", masked(FIN | TEXT, b"hi"), 1003),
        ("no mask", vec![FIN | BINARY, 1, 0], 1002),
        ("a compressed frame", masked(FIN | BINARY | 0x40, b"hi"), 1002),
        ("a fragment of nothing", masked(FIN | CONTINUATION, b"hi"), 1002),
        ("a fragmented ping", masked(PING, b"hi"), 1002),
        ("a length of 2^63", claim(1 << 63), 1002),
        ("a length of 2^63 - 1", claim((1 << 63) - 1), 1009),
        ("a code of nobody", masked(FIN | CLOSE, &[0, 1]), 1002),
    ] {
        eprintln!("-- {what}");
        let mut socket = open(&broker);
        socket.send_raw(&bytes);
        assert_eq!(socket.expect_close(), code);
        let mut stream = open(&broker);
        stream.write_all(&connect_bytes("let in")).expect("send");
        let (first, _) = stream.frame().expect("a frame").expect("a CONNACK");
        assert_eq!(first, FIN | BINARY);
        stream.send_raw(&bytes);
        assert_eq!(stream.expect_close(), code);
    }
    connected(open(&broker), hello(Version::V5, "still served"));
}

#[test]
fn a_close_is_answered_and_a_disconnect_before_it_counts() {
    let broker = broker(2);
    let mut watcher = connected(open(&broker), hello(Version::V5, "watcher"));
    watcher.subscribe("will", QoS::AtMostOnce);
    let with_will = |id: &str| {
        let mut connect = hello(Version::V5, id);
        connect.will = Some(Box::new(will("will", id, QoS::AtMostOnce)));
        let mut socket = open(&broker);
        socket
            .write_all(&bytes_of(&[Packet::Connect(Box::new(connect))], Version::V5))
            .expect("send");
        socket.frame().expect("a frame").expect("a CONNACK");
        socket
    };
    // In one segment, as browsers send it.
    let goodbye = Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: None,
    });
    let mut orderly = with_will("orderly");
    let disconnect = masked(FIN | BINARY, &bytes_of(&[goodbye], Version::V5));
    orderly.send_raw(&[disconnect, masked(FIN | CLOSE, &[0x03, 0xE8])].concat());
    while let Ok(Some((first, payload))) = orderly.frame() {
        assert_eq!((first, &payload[..]), (FIN | CLOSE, &[0x03, 0xE8][..]));
    }
    let mut sudden = with_will("sudden");
    sudden.send(FIN | CLOSE, &[0x0F, 0xA1]);
    assert_eq!(sudden.expect_close(), 4001);
    watcher.expect_payload("sudden");
}

/// A client that is thrown out gets its DISCONNECT, then a close frame.
#[test]
fn the_broker_closes_in_order() {
    let broker = broker(1);
    let mut socket = open(&broker);
    socket.write_all(&connect_bytes("kicked")).expect("send");
    socket.frame().expect("a frame").expect("a CONNACK");
    assert!(broker.cli(&["kick", "kicked"]).status.success());
    let (first, packet) = socket.frame().expect("a frame").expect("a DISCONNECT");
    assert_eq!((first, packet[0]), (FIN | BINARY, 0xE0));
    assert_eq!(socket.expect_close(), 1000);
}

#[test]
fn who_asks_for_something_else_is_told() {
    let broker = broker(1);
    let page = |origin: &str| format!("{UPGRADE}Origin: {origin}\r\n");
    for (what, path, headers, expected) in [
        ("the page", "/mqtt", page("https://app.example.com"), "101"),
        ("a program", "/mqtt", UPGRADE.to_owned(), "101"),
        ("a page of another origin", "/mqtt", page("https://evil.example"), "403"),
        ("a page of nowhere", "/mqtt", page("null"), "403"),
        ("another path", "/ws", UPGRADE.to_owned(), "404"),
        (
            "another subprotocol",
            "/mqtt",
            UPGRADE.replace(": mqtt", ": chat"),
            "400",
        ),
        (
            "no subprotocol",
            "/mqtt",
            UPGRADE.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""),
            "400",
        ),
        (
            "an older version",
            "/mqtt",
            UPGRADE.replace("Version: 13", "Version: 8"),
            "426",
        ),
        ("a body", "/mqtt", format!("{UPGRADE}Content-Length: 5\r\n"), "400"),
        (
            "many headers",
            "/mqtt",
            format!("{UPGRADE}{}", "X: y\r\n".repeat(64)),
            "431",
        ),
    ] {
        assert_eq!(status_of(&broker, path, &headers), expected, "{what}");
    }
    let browser = ask(
        &mut dial(&broker),
        "GET /mqtt HTTP/1.1\r\nHost: broker\r\nAccept: text/html\r\n\r\n",
    );
    assert!(browser.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{browser}");
    assert!(
        browser.ends_with("connect with an MQTT client, to a ws:// or wss:// address\n"),
        "{browser}"
    );
    let no_http = ask(&mut dial(&broker), "\u{10}\u{d}");
    assert!(no_http.starts_with("HTTP/1.1 400 "), "{no_http}");
    wait_for("ten refusals to be counted", || {
        let refused = metric(&broker, "nervewire_connects_total", &[("outcome", "upgrade")]);
        (refused == 10.0).then_some(())
    });
}

#[test]
fn a_slow_request_ends() {
    let broker = Setup::new()
        .listener(&format!("{LISTENER}\nconnect_timeout_ms = 2_000"))
        .start();
    let mut slow = dial(&broker);
    slow.write_all(b"GET /mqtt HTTP/1.1\r\nHost: br").expect("send");
    // One that is open and brings no CONNECT ends just so.
    let mut silent = open(&broker);
    silent.send(FIN | PING, b"");
    assert_eq!(silent.frame().expect("a frame"), Some((FIN | PONG, Vec::new())));
    assert_eq!(slow.read(&mut [0]).expect("the end in time"), 0);
    assert!(!matches!(silent.frame(), Ok(Some(_))));
    wait_for("both to be counted", || {
        let late = metric(
            &broker,
            "nervewire_bounds_hit_total",
            &[("bound", "connect_timeout_ms")],
        );
        (late == 2.0).then_some(())
    });
}

#[test]
fn a_request_has_a_bound_and_may_come_byte_by_byte() {
    let broker = broker(1);
    let mut endless = dial(&broker);
    let answer = ask(
        &mut endless,
        &format!("GET /mqtt HTTP/1.1\r\nX: {}", "a".repeat(8_192 - 23)),
    );
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let mut patient = dial(&broker);
    for byte in format!("GET /mqtt HTTP/1.1\r\n{UPGRADE}\r\n").into_bytes() {
        patient.write_all(&[byte]).expect("send");
    }
    assert!(read_answer(&mut patient).starts_with("HTTP/1.1 101 "));
}

/// Frames that carry nothing keep nobody's place before CONNECT.
#[test]
fn chatter_before_connect_is_refused() {
    let broker = broker(1);
    let mut socket = open(&broker);
    let mut answered = 0;
    // One at a time, so that each is a read of its own.
    while socket.try_send(FIN | PING, b"").is_ok()
        && matches!(socket.frame(), Ok(Some((first, _))) if first == FIN | PONG)
    {
        answered += 1;
        assert!(answered < 1_000, "it goes on for ever");
    }
    assert!(answered >= 32, "a few pings are fine: {answered}");
    connected(open(&broker), hello(Version::V5, "still served"));
}

/// Loopback anonymity is for people at this machine: over WebSocket for pages that the operator knows.
#[test]
fn without_credentials_only_an_allowed_page_is_let_in_on_loopback() {
    let listener = LISTENER.replace("anonymous = \"allow\"\n", "");
    let broker = Setup::new().listener(&listener).start();
    let page = WebSocket::open(dial(&broker), "Origin: https://app.example.com\r\n");
    connected(page, hello(Version::V5, "page"));
    let mut program = Client::over(open(&broker), Version::V5);
    program.send(Packet::Connect(Box::new(hello(Version::V5, "program"))));
    assert_eq!(program.expect_connack().reason, ReasonCode::NotAuthorized);
}

/// A receiver that stops reading in the middle of frames, and goes on, gets every byte; control frames stand between frames.
#[test]
fn a_write_that_is_cut_off_goes_on_where_it_was() {
    const MESSAGES: usize = 200;
    const BYTES: usize = 50_000;
    for shards in SHARD_COUNTS {
        let broker = Setup::new().shards(shards).listener(LISTENER).start();
        let mut socket = open(&broker);
        socket.write_all(&connect_bytes("slow")).expect("send");
        socket.frame().expect("a frame").expect("a CONNACK");
        let subscribe = Subscribe {
            packet_id: PacketId::new(1).expect("an identifier"),
            properties: None,
            filters: vec![filter("t", QoS::AtMostOnce)],
        };
        socket
            .write_all(&bytes_of(&[Packet::Subscribe(subscribe)], Version::V5))
            .expect("send");
        socket.frame().expect("a frame").expect("a SUBACK");
        let mut publisher = connected(open(&broker), hello(Version::V5, "publisher"));
        for n in 0..MESSAGES {
            publisher.publish("t", vec![n as u8; BYTES], QoS::AtLeastOnce);
        }
        // Asked for while its socket is full; answered between two frames.
        socket.send(FIN | PING, b"now");
        let (mut carried, mut pongs) = (Vec::new(), 0);
        let publish_bytes = 1 + 3 + 2 + 1 + 1 + BYTES;
        while carried.len() < MESSAGES * publish_bytes || pongs == 0 {
            match socket.frame().expect("a frame in time").expect("a frame") {
                (first, payload) if first == FIN | BINARY => carried.extend(payload),
                (first, payload) => {
                    assert_eq!((first, &payload[..]), (FIN | PONG, &b"now"[..]));
                    pongs += 1;
                }
            }
        }
        for (n, packet) in carried.chunks(publish_bytes).enumerate() {
            assert_eq!((packet[0], packet.len()), (0x30, publish_bytes), "message {n}");
            assert!(packet[8..].iter().all(|byte| *byte == n as u8), "message {n}");
        }
        assert_eq!((carried.len(), pongs), (MESSAGES * publish_bytes, 1));
    }
}

/// A packet over the listener's bound is refused as anywhere else, however it is cut into frames.
#[test]
fn the_packet_bound_holds_over_websocket() {
    let broker = Setup::new()
        .listener(&format!("{LISTENER}\nmax_packet_bytes = 2_000"))
        .start();
    let mut client = connected(open(&broker), hello(Version::V5, "c"));
    client.send(Packet::Publish(message("t", vec![0; 3_000], QoS::AtMostOnce)));
    client.expect_disconnect(0x95);
}
