//! Components of one's own, in all three hooks: enhanced authentication, identities with quotas, verdicts and transforms.
//! What the component answers is written in tests/guests/plain.

mod support;

use support::*;

/// A broker with the guest `plain` for these hooks; what it abstains from is allowed.
fn broker(shards: u16, hooks: &str) -> Broker {
    let toml = format!("[[plugin]]\nname = \"plain\"\ncomponent = \"plain.wasm\"\nhooks = {hooks}\n{PATIENT}");
    Setup::new()
        .shards(shards)
        .file("plain.wasm", guest("plain"))
        .toml(&toml)
        .start()
}

fn each(hooks: &str, test: impl Fn(&Broker)) {
    for shards in SHARD_COUNTS {
        test(&broker(shards, hooks));
    }
}

fn with_method(method: &str) -> Connect {
    Connect {
        properties: props(|p| p.authentication_method = Some(text(method))),
        ..hello(Version::V5, "c")
    }
}

fn auth(reason: ReasonCode, data: Option<&'static [u8]>) -> Packet {
    let properties = props(|p| {
        p.authentication_method = Some(text("ECHO"));
        p.authentication_data = data.map(bytes::Bytes::from_static);
    });
    Packet::Auth(Auth { reason, properties })
}

/// Expects the challenge of the method ECHO.
#[track_caller]
fn expect_challenge(client: &mut Client) {
    let challenge = client.expect_auth();
    assert_eq!(challenge.reason, ReasonCode::ContinueAuthentication);
    let seen = properties(&challenge.properties);
    assert_eq!(seen.authentication_method, Some(text("ECHO")), "[MQTT-4.12.0-5]");
    assert_eq!(seen.authentication_data.as_deref(), Some(&b"say please"[..]));
}

/// Connects by the method ECHO.
#[track_caller]
fn enter_by_echo(broker: &Broker) -> Client {
    let mut client = Client::open(broker, Version::V5);
    client.send(Packet::Connect(Box::new(with_method("ECHO"))));
    expect_challenge(&mut client);
    client.send(auth(ReasonCode::ContinueAuthentication, Some(b"please")));
    let answer = client.expect_connack();
    assert_eq!(answer.reason, ReasonCode::Success);
    let seen = properties(&answer.properties);
    assert_eq!(seen.authentication_method, Some(text("ECHO")), "[MQTT-4.12.0-5]");
    assert_eq!(seen.authentication_data.as_deref(), Some(&b"welcome"[..]));
    client
}

/// Section 4.12: CONNECT, AUTH, AUTH, CONNACK.
#[test]
fn enhanced_authentication_lets_in_whoever_answers() {
    each("[\"authenticate\"]", |broker| {
        let mut client = enter_by_echo(broker);
        client.expect_idle();
        assert_eq!(get(broker, "/v1/clients/c").json()["username"], "echo");
    });
}

/// [MQTT-4.12.0-1], [MQTT-4.12.0-4]: a wrong answer or an unknown method is refused with a CONNACK.
#[test]
fn enhanced_authentication_refuses_a_wrong_answer() {
    each("[\"authenticate\"]", |broker| {
        let mut client = Client::open(broker, Version::V5);
        client.send(Packet::Connect(Box::new(with_method("ECHO"))));
        expect_challenge(&mut client);
        client.send(auth(ReasonCode::ContinueAuthentication, Some(b"now")));
        assert_eq!(client.expect_connack().reason, ReasonCode::NotAuthorized);
        client.expect_end();
        let (mut client, answer) = Client::try_connect(broker, with_method("UNHEARD-OF"));
        assert!(matches!(
            answer.reason,
            ReasonCode::BadAuthenticationMethod | ReasonCode::NotAuthorized
        ));
        client.expect_end();
    });
}

/// Section 4.12.1: re-authentication while messages go on; a wrong answer ends the connection.
#[test]
fn a_connected_client_authenticates_again() {
    each("[\"authenticate\"]", |broker| {
        let mut client = enter_by_echo(broker);
        client.send(auth(ReasonCode::ReAuthenticate, None));
        expect_challenge(&mut client);
        client.publish("meanwhile", "x", QoS::AtLeastOnce);
        client.send(auth(ReasonCode::ContinueAuthentication, Some(b"please")));
        let done = client.expect_auth();
        assert_eq!(done.reason, ReasonCode::Success);
        assert_eq!(
            properties(&done.properties).authentication_data.as_deref(),
            Some(&b"welcome"[..])
        );
        client.send(auth(ReasonCode::ReAuthenticate, None));
        expect_challenge(&mut client);
        client.send(auth(ReasonCode::ContinueAuthentication, Some(b"now")));
        client.expect_disconnect(0x87);
    });
}

/// [MQTT-4.12.1-1]: only with the method of the CONNECT.
#[test]
fn authenticating_again_with_another_method_is_a_protocol_error() {
    each("[\"authenticate\"]", |broker| {
        let mut client = enter_by_echo(broker);
        let properties = props(|p| p.authentication_method = Some(text("OTHER")));
        client.send(Packet::Auth(Auth {
            reason: ReasonCode::ReAuthenticate,
            properties,
        }));
        client.expect_disconnect(0x82);
    });
}

/// The refusal's reason reaches the client: banned, wrong password.
#[test]
fn an_authenticators_refusal_reaches_the_client() {
    each("[\"authenticate\"]", |broker| {
        let rows = [
            ("mallory", "x", ReasonCode::Banned),
            ("alice", "guess", ReasonCode::BadUserNameOrPassword),
            ("alice", "secret", ReasonCode::Success),
        ];
        for (user, password, reason) in rows {
            let (_client, answer) = Client::try_connect(broker, login(Version::V5, "c", user, password));
            assert_eq!(answer.reason, reason, "{user}, {password}");
        }
    });
}

/// The identity allows three subscriptions; 0x97: quota exceeded.
#[test]
fn quotas_of_an_identity_hold() {
    each("[\"authenticate\"]", |broker| {
        let mut client = enter_by_echo(broker);
        for topic in ["a", "b", "c"] {
            client.subscribe(topic, QoS::AtLeastOnce);
        }
        assert_eq!(
            codes(&client.subscribe_with(vec![filter("d", QoS::AtLeastOnce)], None).reasons),
            [0x97]
        );
        client.subscribe("a", QoS::AtMostOnce); // Replaces one of the three.
    });
}

/// The component is asked for each request: `yes/` is allowed, `no/` denied, the rest is left to `[auth] default`.
#[test]
fn an_authorizer_without_rules_is_asked() {
    each("[\"authorize\"]", |broker| {
        let mut client = Client::new(broker, Version::V5, "c");
        let filters = ["yes/#", "no/#", "other/#"]
            .iter()
            .map(|text| filter(text, QoS::AtMostOnce))
            .collect();
        assert_eq!(codes(&client.subscribe_with(filters, None).reasons), [0, 0x87, 0]);
        for (topic, refused) in [("yes/x", false), ("no/x", true), ("other/x", false)] {
            let reason = client.deliver(message(topic, "x", QoS::AtLeastOnce));
            assert_eq!(reason == 0x87, refused, "{topic}: {reason:#x}");
        }
        assert!(
            metric(
                broker,
                "nervewire_plugin_counter_total",
                &[("plugin", "plain"), ("counter", "asked")]
            ) >= 6.0
        );
    });
}

/// A client with rules is judged by them: all is allowed below `dev/ruled/`, elsewhere QoS 0 is denied.
#[test]
fn an_authorizers_rules_decide_in_order() {
    each("[\"authorize\"]", |broker| {
        let mut observer = Client::new(broker, Version::V5, "observer");
        observer.subscribe("#", QoS::AtLeastOnce);
        let mut client = Client::new(broker, Version::V5, "ruled");
        client.publish("dev/ruled/x", "one", QoS::AtMostOnce);
        client.publish("elsewhere", "denied", QoS::AtMostOnce);
        client.publish("elsewhere", "two", QoS::AtLeastOnce);
        observer.expect_payload("one");
        observer.expect_payload("two");
    });
}

/// Replaced, split, dropped and rejected messages, and what their publisher hears of it.
#[test]
fn a_transform_decides_what_is_delivered() {
    each("[\"transform\"]", |broker| {
        let mut observer = Client::new(broker, Version::V5, "observer");
        observer.subscribe("#", QoS::ExactlyOnce);
        let mut client = Client::new(broker, Version::V5, "c");
        let rows: &[(&str, u8, &[&str])] = &[
            ("pass/x", 0, &["pass/x"]),
            ("echo/x", 0, &["echo/x"]),
            ("replace/x", 0, &["new/replace/x"]),
            ("emit/x", 0, &["part/0", "part/1", "part/2"]),
            ("drop/x", 0, &[]),
            ("reject/x", 0x97, &[]),
        ];
        for (topic, reason, delivered) in rows {
            assert_eq!(
                client.deliver(message(topic, "x", QoS::AtLeastOnce)),
                *reason,
                "{topic}"
            );
            let mut seen: Vec<_> = delivered
                .iter()
                .map(|_| observer.expect_payload("x").topic.to_string())
                .collect();
            seen.sort();
            assert_eq!(seen, *delivered, "{topic}");
        }
        client.publish("pass/end", "end", QoS::AtLeastOnce);
        observer.expect_payload("end");
    });
}
