//! What a listener has of its own, beside others of the same broker; and both families of addresses on one.

mod support;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use support::*;

/// A second listener on a free port, with these keys, and what else there is.
fn second(keys: &str) -> (u16, String) {
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    (port, format!("[[listener]]\nbind = \"127.0.0.1:{port}\"\n{keys}\n"))
}

fn dial_port(port: u16) -> TcpStream {
    dial_address(SocketAddr::from(([127, 0, 0, 1], port)))
}

fn dial_address(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    stream
}

fn connect(port: u16, connect: Connect) -> (Client, ReasonCode) {
    let mut client = Client::over(dial_port(port), connect.version);
    client.send(Packet::Connect(Box::new(connect)));
    let reason = client.expect_connack().reason;
    (client, reason)
}

fn reason(port: u16, hello: Connect) -> ReasonCode {
    connect(port, hello).1
}

/// A plugin that knows this one user, whose password is the name; its file is written.
fn authenticator(setup: &Setup, name: &str, user: &str) -> String {
    let file = setup.path(name).display().to_string();
    let output = nervewire_with_input(&["passwd", &file, user], &format!("{user}\n"));
    assert!(output.status.success(), "{output:?}");
    format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"{name}\" }}\n{PATIENT}"
    )
}

/// Each listener by its own rule, whichever came first in the file.
#[test]
fn anonymous_clients_are_let_in_where_their_listener_says_so() {
    for shards in SHARD_COUNTS {
        let (open, more) = second("anonymous = \"allow\"");
        let (shut, rest) = second("anonymous = \"deny\"");
        let broker = Setup::new().shards(shards).toml(&(more + &rest)).start();
        assert_eq!(reason(broker.port, hello(Version::V5, "a")), ReasonCode::Success);
        assert_eq!(reason(open, hello(Version::V5, "b")), ReasonCode::Success);
        assert_eq!(reason(shut, hello(Version::V5, "c")), ReasonCode::NotAuthorized);
    }
}

#[test]
fn a_reload_changes_a_listener_for_new_connections() {
    let (port, shut) = second("anonymous = \"deny\"");
    let open = shut.replace("deny", "allow");
    let broker = Setup::new().shards(2).toml(&open).start();
    let (mut client, _) = connect(port, hello(Version::V5, "before"));
    client.subscribe("t", QoS::AtLeastOnce);
    // Accepted before the reload, heard of after it.
    let mut half_open = Client::over(dial_port(port), Version::V5);
    broker.replace_toml(&shut);
    broker.reloaded();
    assert_eq!(reason(port, hello(Version::V5, "after")), ReasonCode::NotAuthorized);
    half_open.send(Packet::Connect(Box::new(hello(Version::V5, "half-open"))));
    assert_eq!(half_open.expect_connack().reason, ReasonCode::NotAuthorized);
    client.publish("t", "still here", QoS::AtLeastOnce);
    client.expect_payload("still here");
}

/// A listener that ignores its rules lets in whom another one knows (CVE-2018-20145).
#[test]
fn only_a_listeners_own_authenticators_judge_its_clients() {
    let (port, more) = second("authenticators = [\"devices\"]");
    let (nobody, rest) = second("authenticators = []");
    let setup = Setup::new().shards(2);
    let plugins = authenticator(&setup, "staff", "ann") + &authenticator(&setup, "devices", "bob");
    let toml = more + &rest + &plugins;
    let broker = setup.toml(&toml).start();
    let login = |port: u16, user: &str| reason(port, login(Version::V5, user, user, user));
    assert_eq!(login(broker.port, "ann"), ReasonCode::Success);
    assert_eq!(login(broker.port, "bob"), ReasonCode::Success);
    assert_eq!(login(port, "bob"), ReasonCode::Success);
    assert_eq!(login(port, "ann"), ReasonCode::BadUserNameOrPassword);
    for user in ["ann", "bob"] {
        assert_eq!(login(nobody, user), ReasonCode::BadUserNameOrPassword);
    }
    broker.replace_toml(&toml.replace("[\"devices\"]", "[\"staff\"]"));
    broker.reloaded();
    assert_eq!(login(port, "ann"), ReasonCode::Success);
    assert_eq!(login(port, "bob"), ReasonCode::BadUserNameOrPassword);
}

#[test]
fn a_listener_names_authenticators_that_there_are() {
    let (_, more) = second("authenticators = [\"acl\"]");
    let acl = "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = []\n";
    let (_, _, log) = *Setup::new()
        .toml(&(more + acl))
        .try_start()
        .err()
        .expect("it is refused");
    assert!(
        log.contains("plugin \"acl\" has no hook `authenticate`; write others in `authenticators`"),
        "{log}"
    );
}

#[test]
fn a_listener_has_its_own_number_of_connections() {
    let (port, more) = second("max_connections = 2");
    let broker = Setup::new().shards(2).toml(&more).start();
    let two = ["a", "b"].map(|id| connect(port, hello(Version::V5, id)).0);
    let refused = || {
        metric(
            &broker,
            "nervewire_bounds_hit_total",
            &[("bound", "listener_max_connections")],
        )
    };
    let before = refused();
    assert!(!matches!(dial_port(port).read(&mut [0]), Ok(1..)), "closed at once");
    assert_eq!(refused(), before + 1.0);
    // Others have their own places; a reload counts on.
    assert_eq!(reason(broker.port, hello(Version::V5, "c")), ReasonCode::Success);
    broker.replace_toml(&more.replace("= 2", "= 3"));
    broker.reloaded();
    let third = connect(port, hello(Version::V5, "d"));
    assert_eq!(third.1, ReasonCode::Success);
    assert!(!matches!(dial_port(port).read(&mut [0]), Ok(1..)), "closed at once");
    // A place is given back when its connection ends.
    drop(two);
    wait_for("a place", || {
        let mut client = Client::over(dial_port(port), Version::V5);
        client
            .try_send(&Packet::Connect(Box::new(hello(Version::V5, "e"))))
            .ok()?;
        matches!(client.try_next(), Ok(Some(Packet::ConnAck(_)))).then_some(())
    });
}

/// It is told to clients of MQTT 5.0, and holds for all.
#[test]
fn a_listener_has_its_own_packet_size() {
    for shards in SHARD_COUNTS {
        let (port, more) = second("max_packet_bytes = 2_000");
        let broker = Setup::new().shards(shards).toml(&more).start();
        for (port, told) in [(port, 2_000), (broker.port, 1_048_576)] {
            let mut client = Client::over(dial_port(port), Version::V5);
            client.send(Packet::Connect(Box::new(hello(Version::V5, "c"))));
            let answer = client.expect_connack();
            let properties = answer.properties.expect("properties");
            assert_eq!(properties.maximum_packet_size, Some(told));
            client.publish("t", vec![0; 1_900], QoS::AtLeastOnce);
            client.send(Packet::Publish(message("t", vec![0; 2_100], QoS::AtMostOnce)));
            match told {
                2_000 => client.expect_disconnect(0x95),
                _ => client.expect_idle(),
            }
        }
        // In a CONNECT, too.
        let mut big = hello(Version::V5, "big");
        big.will = Some(Box::new(will("t", &"x".repeat(2_100), QoS::AtMostOnce)));
        assert_eq!(reason(broker.port, big.clone()), ReasonCode::Success);
        let mut client = Client::over(dial_port(port), Version::V5);
        client.send(Packet::Connect(Box::new(big)));
        assert!(!matches!(client.next(), Some(Packet::ConnAck(answer)) if answer.reason == ReasonCode::Success));
    }
}

#[test]
fn a_listener_has_its_own_patience() {
    let (port, more) = second("connect_timeout_ms = 200");
    let broker = Setup::new().toml(&more).start();
    let patient = dial_address(broker.address());
    let mut hasty = dial_port(port);
    assert_eq!(hasty.read(&mut [0]).expect("the end in time"), 0);
    let mut client = Client::over(patient, Version::V5);
    client.send(Packet::Connect(Box::new(hello(Version::V5, "patient"))));
    assert_eq!(client.expect_connack().reason, ReasonCode::Success);
}

/// `[::]` is every address of this machine, and IPv4 addresses are shown as what they are.
#[test]
fn both_families_of_addresses_reach_one_listener() {
    let port = TcpListener::bind("[::]:0")
        .and_then(|socket| socket.local_addr())
        .expect("a free port")
        .port();
    let more = format!("[[listener]]\nbind = \"[::]:{port}\"\nanonymous = \"allow\"\n");
    let broker = Setup::new().toml(&more).start();
    for (id, address) in [("four", format!("127.0.0.1:{port}")), ("six", format!("[::1]:{port}"))] {
        let stream = dial_address(address.parse().expect("an address"));
        let own = stream.local_addr().expect("an address");
        let mut client = Client::over(stream, Version::V5);
        client.send(Packet::Connect(Box::new(hello(Version::V5, id))));
        assert_eq!(client.expect_connack().reason, ReasonCode::Success);
        assert_eq!(
            get(&broker, &format!("/v1/clients/{id}")).json()["address"],
            own.to_string()
        );
    }
}

/// The status shows what each of them speaks.
#[test]
fn the_status_names_transports() {
    let (_, more) = second("transport = \"ws\"");
    let broker = Setup::new().toml(&more).start();
    let listeners = get(&broker, "/v1/status").json()["listeners"].clone();
    assert_eq!(
        (&listeners[0]["transport"], &listeners[1]["transport"]),
        (&"tcp".into(), &"ws".into())
    );
}
