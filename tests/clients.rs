//! MQTT clients that others wrote: mosquitto_pub, mosquitto_sub, paho-mqtt, MQTT.js and rumqttc, over TCP, TLS and WebSocket.
//! `tests/clients/setup.sh` installs those that cargo does not.

mod support;

use rumqttc::{TlsConfiguration, Transport};
use support::*;

/// Runs a test over TCP and over TLS; the path of the authority's certificate says that it is TLS.
fn each_transport(test: impl Fn(&Broker, Option<&str>)) {
    for shards in SHARD_COUNTS {
        test(&Setup::new().shards(shards).start(), None);
        let broker = Certificates::new().setup("none").shards(shards).start();
        let authority = broker.path("ca.pem").display().to_string();
        test(&broker, Some(&authority));
    }
}

fn tls_arguments(authority: Option<&str>) -> Vec<&str> {
    authority.map_or_else(Vec::new, |file| vec!["--cafile", file])
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn paho_speaks_3_1_1_and_5_0_in_full() {
    each_transport(|broker, authority| {
        for version in ["4", "5"] {
            let port = broker.port.to_string();
            script("paho_suite.py", &[&[&*port, version], authority.as_slice()].concat());
        }
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mqtt_js_makes_its_round_trip() {
    each_transport(|broker, authority| {
        let scheme = if authority.is_some() { "mqtts" } else { "mqtt" };
        let url = format!("{scheme}://localhost:{}", broker.port);
        for version in ["4", "5"] {
            script(
                "mqttjs_round_trip.js",
                &[&[&*url, version], authority.as_slice()].concat(),
            );
        }
    });
}

/// As [`each_transport`], over WebSocket, for programs, which are no pages.
fn each_web_transport(test: impl Fn(&Broker, Option<&str>)) {
    let web = "transport = \"ws\"\nanonymous = \"allow\"";
    for shards in SHARD_COUNTS {
        test(&Setup::new().shards(shards).listener(web).start(), None);
        let tls = "tls = { cert = \"server.pem\", key = \"server.key\" }";
        let secure = Certificates::new().setup("none").shards(shards);
        let broker = secure.listener(&format!("{web}\n{tls}")).start();
        let authority = broker.path("ca.pem").display().to_string();
        test(&broker, Some(&authority));
    }
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn paho_speaks_3_1_1_and_5_0_in_full_over_websocket() {
    each_web_transport(|broker, authority| {
        for version in ["4", "5"] {
            let port = broker.port.to_string();
            let args = [&[&*port, version, "websockets"], authority.as_slice()].concat();
            script("paho_suite.py", &args);
        }
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mqtt_js_makes_its_round_trip_over_websocket() {
    each_web_transport(|broker, authority| {
        let scheme = if authority.is_some() { "wss" } else { "ws" };
        let url = format!("{scheme}://localhost:{}/mqtt", broker.port);
        for version in ["4", "5"] {
            script(
                "mqttjs_round_trip.js",
                &[&[&*url, version], authority.as_slice()].concat(),
            );
        }
    });
}

const MOSQUITTO_VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// Every version to every version, at every QoS, with wildcards and a large payload.
#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mosquitto_clients_exchange_messages() {
    each_transport(|broker, authority| {
        for receiver in MOSQUITTO_VERSIONS {
            for sender in MOSQUITTO_VERSIONS {
                for qos in ["0", "1", "2"] {
                    let tls = tls_arguments(authority);
                    let args = [&["-t", "a/#", "-q", "2", "-C", "2", "-F", "%t %q %l %p"][..], &tls].concat();
                    let subscriber = Subscriber::start(broker, receiver, &args);
                    mosquitto_pub(
                        broker,
                        sender,
                        &[&["-t", "a/b", "-q", qos, "-m", "hi"][..], &tls].concat(),
                    );
                    let large = "x".repeat(50_000);
                    mosquitto_pub(
                        broker,
                        sender,
                        &[&["-t", "a", "-q", qos, "-m", &large][..], &tls].concat(),
                    );
                    assert_eq!(
                        subscriber.lines(),
                        [format!("a/b {qos} 2 hi"), format!("a {qos} 50000 {large}")]
                    );
                }
            }
        }
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mosquitto_sub_gets_retained_messages_and_wills() {
    each_transport(|broker, authority| {
        let tls = tls_arguments(authority);
        for version in MOSQUITTO_VERSIONS {
            mosquitto_pub(
                broker,
                version,
                &[&["-t", "kept", "-m", "still here", "-r", "-q", "1"][..], &tls].concat(),
            );
            let watcher = Subscriber::start(
                broker,
                version,
                &[&["-t", "kept", "-t", "will", "-C", "2", "-F", "%t %r %p"][..], &tls].concat(),
            );
            let will = [
                "-t",
                "unused",
                "--will-topic",
                "will",
                "--will-payload",
                "gone",
                "--will-qos",
                "1",
            ];
            drop(Subscriber::start(broker, version, &[&will[..], &tls].concat()));
            assert_eq!(watcher.lines(), ["kept 1 still here", "will 0 gone"]);
            mosquitto_pub(
                broker,
                version,
                &[&["-t", "kept", "-n", "-r", "-q", "1"][..], &tls].concat(),
            );
        }
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mosquitto_clients_resume_their_sessions() {
    each_transport(|broker, authority| {
        let tls = tls_arguments(authority);
        for (version, expiry) in [("mqttv311", &[][..]), ("mqttv5", &["-x", "3600"])] {
            let durable = ["-c", "-i", version, "-q", "2", "-t", "waiting"];
            let subscribe = [&durable[..], expiry, &tls, &["-E"]].concat();
            let output = mosquitto("mosquitto_sub", broker, version, &subscribe)
                .output()
                .expect("run mosquitto_sub");
            assert!(output.status.success(), "{output:?}");
            for qos in ["1", "2"] {
                mosquitto_pub(
                    broker,
                    version,
                    &[&["-t", "waiting", "-q", qos, "-m", qos][..], &tls].concat(),
                );
            }
            let receive = [&durable[..], expiry, &tls, &["-C", "2", "-F", "%q %p"]].concat();
            let output = mosquitto("mosquitto_sub", broker, version, &receive)
                .output()
                .expect("run mosquitto_sub");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "1 1\n2 2\n");
        }
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mosquitto_clients_share_a_subscription_and_send_properties() {
    each_transport(|broker, authority| {
        let tls = tls_arguments(authority);
        let shared = [&["-t", "$share/g/work", "-q", "1", "-C", "2", "-F", "%p"][..], &tls].concat();
        let members = [
            Subscriber::start(broker, "mqttv5", &shared),
            Subscriber::start(broker, "mqttv311", &shared),
        ];
        for number in ["1", "2", "3", "4"] {
            mosquitto_pub(
                broker,
                "mqttv5",
                &[&["-t", "work", "-q", "1", "-m", number][..], &tls].concat(),
            );
        }
        let mut seen: Vec<_> = members.into_iter().flat_map(Subscriber::lines).collect();
        seen.sort();
        assert_eq!(seen, ["1", "2", "3", "4"]);
        let format = ["-t", "p", "-C", "1", "-F", "%C|%R|%D|%P|%p"];
        let subscriber = Subscriber::start(broker, "mqttv5", &[&format[..], &tls].concat());
        let properties = [
            ["-D", "publish", "content-type", "text/plain"],
            ["-D", "publish", "response-topic", "r"],
            ["-D", "publish", "correlation-data", "abc"],
        ];
        let user_property = ["-D", "publish", "user-property", "k", "v"];
        let message = ["-t", "p", "-m", "x", "-q", "1"];
        mosquitto_pub(
            broker,
            "mqttv5",
            &[&message[..], &properties.concat(), &user_property, &tls].concat(),
        );
        assert_eq!(subscriber.lines(), ["text/plain|r|abc|k:v|x"]);
    });
}

/// A certificate, checked by the broker, in the hands of mosquitto_pub.
#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn mosquitto_pub_shows_its_certificate() {
    let certificates = Certificates::new();
    let identity = certificates.issue("sensor-1");
    let setup = certificates
        .setup("required")
        .file("client.pem", identity.certificate)
        .file("client.key", identity.key);
    let broker = setup.start();
    let file = |name: &str| broker.path(name).display().to_string();
    let (authority, certificate, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    for version in MOSQUITTO_VERSIONS {
        let message = ["-t", "t", "-m", "x", "-q", "1", "--cafile", &authority];
        mosquitto_pub(
            &broker,
            version,
            &[&message[..], &["--cert", &certificate, "--key", &key]].concat(),
        );
        let output = mosquitto("mosquitto_pub", &broker, version, &message)
            .output()
            .expect("run mosquitto_pub");
        assert!(!output.status.success(), "without a certificate: {output:?}");
    }
}

fn rumqttc_transport(authority: Option<&str>) -> Transport {
    authority.map_or_else(Transport::tcp, |file| {
        let ca = std::fs::read(file).expect("read the authority");
        Transport::tls_with_config(TlsConfiguration::Simple {
            ca,
            alpn: None,
            client_auth: None,
        })
    })
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn rumqttc_makes_its_round_trip_under_3_1_1() {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
    each_transport(|broker, authority| {
        let mut options = MqttOptions::new("rumqttc", "localhost", broker.port);
        options.set_transport(rumqttc_transport(authority));
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("round/+", QoS::ExactlyOnce).expect("subscribe");
        client
            .publish("round/trip", QoS::ExactlyOnce, false, "hi")
            .expect("publish");
        let arrived = connection.iter().find_map(|event| match event.expect("a connection") {
            Event::Incoming(Packet::Publish(publish)) => Some(publish),
            _ => None,
        });
        let arrived = arrived.expect("a message");
        assert_eq!(
            (&*arrived.topic, &arrived.payload[..], arrived.qos),
            ("round/trip", &b"hi"[..], QoS::ExactlyOnce)
        );
    });
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn rumqttc_makes_its_round_trip_under_5_0() {
    use rumqttc::v5::mqttbytes::{QoS, v5::Packet};
    use rumqttc::v5::{Client, Event, MqttOptions};
    each_transport(|broker, authority| {
        let mut options = MqttOptions::new("rumqttc", "localhost", broker.port);
        options.set_transport(rumqttc_transport(authority));
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe("round/+", QoS::ExactlyOnce).expect("subscribe");
        client
            .publish("round/trip", QoS::ExactlyOnce, false, "hi")
            .expect("publish");
        let arrived = connection.iter().find_map(|event| match event.expect("a connection") {
            Event::Incoming(Packet::Publish(publish)) => Some(publish),
            _ => None,
        });
        let arrived = arrived.expect("a message");
        assert_eq!(
            (&arrived.topic[..], &arrived.payload[..]),
            (&b"round/trip"[..], &b"hi"[..])
        );
    });
}
