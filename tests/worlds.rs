//! The five worlds of plugins/worlds: each configuration as it stands there, with other ports and with patience. What it is for
//! arrives as it promises, and what it forbids is refused. Mosquitto's clients and paho say the same, in tests
//! that are ignored where nobody asks for them.

mod support;

use support::*;
use toml::{Table, Value};

const NAMES: [&str; 5] = ["city", "industry", "health", "home", "vehicle"];
const REFUSED: u8 = 0x87;
const INVALID: u8 = 0x99;

/// A running broker with the configuration of a world.
struct World {
    broker: Broker,
    certificates: Certificates,
    is_tls: bool,
}

fn file(name: &str) -> String {
    let path = repository().join("plugins/worlds").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn password(user: &str) -> String {
    format!("the password of {user}")
}

/// Everything that a configuration of a world names lies beside it.
fn with_files(setup: Setup, certificates: &Certificates, users: &[&str]) -> Setup {
    let server = certificates.issue("broker");
    let setup = setup
        .file("ca.pem", certificates.authority())
        .file("server.pem", server.certificate)
        .file("server.key", server.key)
        .file("pseudonym.key", "0123456789abcdef".repeat(4))
        .file("weld.schema.json", file("weld.schema.json"))
        .file("units.schema.json", file("units.schema.json"));
    let passwd = setup.path("passwd").display().to_string();
    for user in users {
        let output = nervewire_with_input(&["passwd", &passwd, user], &format!("{}\n", password(user)));
        assert!(output.status.success(), "{output:?}");
    }
    setup
}

impl World {
    fn start(name: &str, users: &[&str]) -> Self {
        let certificates = Certificates::new();
        let text = file(&format!("{name}.toml"));
        let setup = with_files(Setup::new(), &certificates, users).configuration(&on_any_port(&text));
        Self {
            broker: setup.start(),
            certificates,
            is_tls: text.contains("\ntls = "),
        }
    }

    /// A client with the password of its user.
    fn enter(&self, version: Version, id: &str, user: &str) -> Client {
        self.connect(login(version, id, user, &password(user)), None)
    }

    /// A client with a certificate of this common name.
    fn enter_with_certificate(&self, version: Version, name: &str) -> Client {
        self.connect(hello(version, name), Some(&self.certificates.issue(name)))
    }

    fn connect(&self, connect: Connect, identity: Option<&Identity>) -> Client {
        let (client, answer) = self.try_connect(connect, identity);
        assert_eq!(answer.reason, ReasonCode::Success);
        client
    }

    fn try_connect(&self, connect: Connect, identity: Option<&Identity>) -> (Client, ConnAck) {
        let version = connect.version;
        let mut client = match self.is_tls {
            true => Client::over(self.certificates.connect(&self.broker, identity), version),
            false => Client::open(&self.broker, version),
        };
        client.send(Packet::Connect(Box::new(connect)));
        let answer = *client.expect_connack();
        (client, answer)
    }

    /// Nobody enters without a name, and nobody with somebody else's.
    fn check_strangers(&self, user: &str) {
        for connect in [
            hello(Version::V5, "c"),
            login(Version::V5, "c", user, "a guess of mine"),
        ] {
            let (_, answer) = self.try_connect(connect, None);
            assert!(answer.reason as u8 >= 0x80, "{answer:?}");
        }
    }
}

/// As the file says, but for the ports, and with time for a machine that runs tests.
fn on_any_port(text: &str) -> String {
    let mut configuration: Table = text.parse().expect("TOML");
    let listeners = configuration["listener"].as_array_mut().expect("[[listener]]");
    assert_eq!(listeners.len(), 1);
    listeners[0]["bind"] = "127.0.0.1:{PORT}".into();
    configuration["admin"]["bind"] = "127.0.0.1:{ADMIN_PORT}".into();
    for plugin in configuration["plugin"].as_array_mut().expect("[[plugin]]") {
        let plugin = plugin.as_table_mut().expect("a table");
        let limits = plugin.entry("limits").or_insert_with(|| Value::Table(Table::new()));
        let limits = limits.as_table_mut().expect("a table");
        limits.insert("call_ms".to_owned(), 1000.into());
        limits.insert("authenticate_call_ms".to_owned(), 10_000.into());
        limits.insert("tick_call_ms".to_owned(), 10_000.into());
    }
    toml::to_string(&configuration).expect("TOML")
}

#[track_caller]
fn check_delivery(from: &mut Client, topic: &str, payload: &str, reason: u8) {
    assert_eq!(
        from.deliver(message(topic, payload.to_owned(), QoS::AtLeastOnce)),
        reason,
        "{topic} {payload}"
    );
}

/// The refused ones among these filters are refused.
#[track_caller]
fn check_subscriptions(client: &mut Client, rows: &[(&str, u8)]) {
    for (text, code) in rows {
        let answer = client.subscribe_with(vec![filter(text, QoS::AtLeastOnce)], None);
        assert_eq!(codes(&answer.reasons), [*code], "{text}");
    }
}

#[track_caller]
fn expect(client: &mut Client, topic: &str, payload: &str) -> Publish {
    let publish = client.expect_payload(payload);
    assert_eq!(&*publish.topic, topic);
    publish
}

/// Word for word: nothing is replaced, but the files it names are there.
#[test]
fn every_world_passes_the_check() {
    for name in NAMES {
        let setup = with_files(Setup::new(), &Certificates::new(), &["somebody"]);
        let setup = setup.file("world.toml", file(&format!("{name}.toml")));
        let output = nervewire()
            .args(["check", "--config"])
            .arg(setup.path("world.toml"))
            .output()
            .expect("run nervewire");
        assert!(output.status.success(), "{name}: {output:?}");
    }
}

#[test]
fn city_operators_share_a_broker_and_nothing_else() {
    let world = World::start("city", &["lights", "waste", "town-hall"]);
    world.check_strangers("lights");
    let mut control = world.enter(Version::V5, "control-1", "lights");
    check_subscriptions(
        &mut control,
        &[("city/lights/#", 1), ("city/waste/#", REFUSED), ("city/#", REFUSED)],
    );
    let mut town_hall = world.enter(Version::V311, "hall", "town-hall");
    check_subscriptions(&mut town_hall, &[("city/+/+/telemetry", 1), ("city/#", 0x80)]);
    for version in [Version::V311, Version::V5] {
        let mut lamp = world.enter(version, "lamp-7", "lights");
        check_subscriptions(&mut lamp, &[("city/lights/lamp-7/command", 1)]);
        lamp.publish("city/lights/lamp-7/telemetry", "one", QoS::AtLeastOnce);
        expect(&mut control, "city/lights/lamp-7/telemetry", "one");
        expect(&mut town_hall, "city/lights/lamp-7/telemetry", "one");
        control.publish("city/lights/lamp-7/command", "dim", QoS::AtLeastOnce);
        expect(&mut control, "city/lights/lamp-7/command", "dim");
        expect(&mut lamp, "city/lights/lamp-7/command", "dim");
    }
    let mut lamp = world.enter(Version::V5, "lamp-7", "lights");
    for topic in [
        "city/lights/lamp-8/telemetry",
        "city/waste/bin-1/telemetry",
        "city/lights/lamp-7/command",
    ] {
        check_delivery(&mut lamp, topic, "forged", REFUSED);
    }
    check_delivery(&mut control, "city/waste/bin-1/command", "forged", REFUSED);
    check_delivery(
        &mut world.enter(Version::V5, "h", "town-hall"),
        "city/lights/lamp-7/command",
        "x",
        REFUSED,
    );
    // An old sensor finds its place, which is its own.
    lamp.publish("sensor/7", r#"{"t":214,"id":7}"#, QoS::AtLeastOnce);
    let seen = expect(
        &mut control,
        "city/lights/lamp-7/telemetry",
        r#"{"celsius":21.4,"id":7}"#,
    );
    let kind = &properties(&seen.properties).user_properties[0];
    assert_eq!((&*kind.0, &*kind.1), ("kind", "legacy"));
    // And was not sent twice to one who may see it.
    expect(
        &mut town_hall,
        "city/lights/lamp-7/telemetry",
        r#"{"celsius":21.4,"id":7}"#,
    );
    control.expect_idle();
    town_hall.expect_idle();
}

const WELD: &str = r#"{"part":"00A1B2C3","ampere":180.50,"started":"2024-05-17T08:15:00Z"}"#;

#[test]
fn industry_data_has_the_form_that_was_agreed() {
    let world = World::start("industry", &[]);
    let mut mes = world.enter_with_certificate(Version::V5, "mes");
    check_subscriptions(&mut mes, &[("plant/#", 1)]);
    let mut robot = world.enter_with_certificate(Version::V5, "robot-7");
    check_subscriptions(
        &mut robot,
        &[("plant/robot-7/order", 1), ("plant/robot-8/order", REFUSED)],
    );
    check_delivery(&mut robot, "plant/robot-7/weld", WELD, 0);
    expect(&mut mes, "plant/robot-7/weld", WELD);
    check_delivery(&mut robot, "plant/robot-8/weld", WELD, REFUSED);
    for invalid in [
        "",
        "weld",
        r#"{"part":"00A1B2C3","ampere":180.5}"#,
        r#"{"part":"00A1B2C3","ampere":401,"started":"2024-05-17T08:15:00Z"}"#,
        r#"{"part":"00A1B2C3","ampere":1,"started":"2024-05-17T08:15:00Z","spots":[{"x":1,"y":5001}]}"#,
    ] {
        check_delivery(&mut robot, "plant/robot-7/weld", invalid, INVALID);
    }
    // What only people read is marked, and nobody can mark it himself.
    check_delivery(&mut robot, "plant/robot-7/temperature", r#"{"celsius":"hot"}"#, 0);
    let marked = expect(&mut mes, "plant/robot-7/temperature", r#"{"celsius":"hot"}"#);
    let mark = properties(&marked.properties).user_properties;
    assert_eq!(
        (&*mark[0].0, &*mark[0].1),
        ("schema-error", "/celsius: want number, but got string")
    );
    check_delivery(
        &mut mes,
        "plant/robot-7/order",
        r#"{"order":"AB-000123","pieces":12}"#,
        0,
    );
    expect(&mut mes, "plant/robot-7/order", r#"{"order":"AB-000123","pieces":12}"#);
    expect(
        &mut robot,
        "plant/robot-7/order",
        r#"{"order":"AB-000123","pieces":12}"#,
    );
    check_delivery(
        &mut mes,
        "plant/robot-7/order",
        r#"{"order":"AB-000123","pieces":0}"#,
        INVALID,
    );
    check_delivery(&mut mes, "plant/robot-7/weld", WELD, REFUSED);
    mes.expect_idle();
    robot.expect_idle();
}

/// Without a certificate of the plant there is not even a CONNACK.
#[test]
fn industry_machines_have_certificates_of_the_plant() {
    let world = World::start("industry", &[]);
    let stranger = Certificates::new().issue("mes");
    for identity in [None, Some(&stranger)] {
        let mut stream = world.certificates.connect(&world.broker, identity);
        let mut bytes = Vec::new();
        let hello = Packet::Connect(Box::new(hello(Version::V5, "c")));
        nervewire_codec::encode(&hello, Version::V5, &mut bytes).expect("encode");
        // A refused handshake shows here or at the first read.
        if std::io::Write::write_all(&mut stream, &bytes).is_ok() {
            assert!(Client::over(stream, Version::V5).next().is_none());
        }
    }
}

const PATIENT_DATA: &str = r#"{"patient":{"id":"P-17","name":"Ann","born":"1984-05-17","postcode":"80331","weight_kg":71.8,"contacts":[{"phone":1}]},"taken":"2024-05-17T08:15:00Z","spo2":98.50,"note":{"comment":"Ann coughs","code":3}}"#;

/// What a researcher sees of it.
fn redacted() -> String {
    let key = "0123456789abcdef".repeat(4);
    let pseudonym = "65f58200135ecd157c8849ff1ced6446"; // Of P-17, by `openssl dgst -sha256 -hmac KEY`.
    assert_eq!(key.len(), 64);
    format!(
        r#"{{"patient":{{"id":"{pseudonym}","born":"1984","postcode":"80","weight_kg":70}},"taken":"2024-05","spo2":98.50,"note":{{"code":3}}}}"#
    )
}

#[test]
fn health_research_learns_no_names() {
    let world = World::start("health", &["bed-3", "nurse-kim", "psychiatry", "his", "research-heart"]);
    world.check_strangers("his");
    let mut research = world.enter(Version::V5, "r", "research-heart");
    check_subscriptions(&mut research, &[("research/#", 1), ("ward/#", REFUSED), ("#", REFUSED)]);
    let mut his = world.enter(Version::V5, "h", "his");
    check_delivery(&mut his, "research/cardiology/vitals", PATIENT_DATA, 0);
    expect(&mut research, "research/cardiology/vitals", &redacted());
    check_delivery(&mut his, "research/cardiology/vitals", "Ann, 1984-05-17", INVALID);
    let mut again = world.enter(Version::V311, "h2", "his");
    again.publish(
        "research/cardiology/other",
        r#"[{"patient":{"id":"P-17"}}]"#,
        QoS::ExactlyOnce,
    );
    expect(
        &mut research,
        "research/cardiology/other",
        r#"[{"patient":{"id":"65f58200135ecd157c8849ff1ced6446"}}]"#,
    );
    research.expect_idle();
}

#[test]
fn health_staff_gets_what_it_may_see() {
    let world = World::start("health", &["bed-3", "nurse-kim", "psychiatry"]);
    let mut nurse = world.enter(Version::V5, "n", "nurse-kim");
    check_subscriptions(&mut nurse, &[("ward/#", 1), ("research/#", REFUSED)]);
    let mut psychiatry = world.enter(Version::V5, "p", "psychiatry");
    check_subscriptions(&mut psychiatry, &[("ward/+/+/psychiatry", 1), ("ward/#", REFUSED)]);
    let mut bed = world.enter(Version::V5, "b", "bed-3");
    bed.publish("ward/2/bed-3/psychiatry", "private", QoS::AtLeastOnce);
    bed.publish("ward/2/bed-3/vitals", PATIENT_DATA, QoS::AtLeastOnce);
    // What treats a patient is as it was, and what is private was not delivered before it.
    expect(&mut nurse, "ward/2/bed-3/vitals", PATIENT_DATA);
    expect(&mut psychiatry, "ward/2/bed-3/psychiatry", "private");
    check_delivery(&mut bed, "ward/2/bed-4/vitals", "forged", REFUSED);
    check_delivery(&mut bed, "research/x", "{}", REFUSED);
    check_delivery(&mut nurse, "ward/2/bed-3/alarm", "off", REFUSED);
    nurse.expect_idle();
    psychiatry.expect_idle();
}

#[test]
fn home_speaks_one_language() {
    let world = World::start("home", &["zigbee2mqtt", "tasmota", "ann", "guest", "automation"]);
    world.check_strangers("ann");
    let mut ann = world.enter(Version::V5, "phone", "ann");
    check_subscriptions(&mut ann, &[("home/#", 1), ("zigbee2mqtt/#", REFUSED)]);
    let mut zigbee = world.enter(Version::V5, "z2m", "zigbee2mqtt");
    check_subscriptions(&mut zigbee, &[("zigbee2mqtt/+/set", 1), ("home/#", REFUSED)]);
    let mut lamp = world.enter(Version::V311, "tasmota_8F3A21", "tasmota");
    check_subscriptions(&mut lamp, &[("cmnd/tasmota_8F3A21/#", 1), ("cmnd/other/#", 0x80)]);
    // Two vendors, one language.
    zigbee.publish(
        "zigbee2mqtt/0x00158d0001a2b3c4",
        r#"{"state":"ON","power":4.20}"#,
        QoS::AtLeastOnce,
    );
    expect(&mut ann, "home/kitchen/plug/switch", "true");
    expect(&mut ann, "home/kitchen/plug/power_w", "4.20");
    lamp.publish("stat/tasmota_8F3A21/POWER", "ON", QoS::AtLeastOnce);
    expect(&mut ann, "home/living-room/light/switch", "true");
    // And back.
    ann.publish("home/kitchen/plug/switch/set", "off", QoS::AtLeastOnce);
    expect(&mut zigbee, "zigbee2mqtt/0x00158d0001a2b3c4/set", r#"{"state":"OFF"}"#);
    ann.publish("home/living-room/light/switch/set", "false", QoS::AtLeastOnce);
    expect(&mut lamp, "cmnd/tasmota_8F3A21/POWER", "OFF");
    check_delivery(&mut ann, "home/kitchen/plug/switch/set", "perhaps", INVALID);
    check_delivery(&mut ann, "zigbee2mqtt/0x00158d0001a2b3c4/set", "{}", REFUSED);
    let mut guest = world.enter(Version::V5, "guest", "guest");
    check_subscriptions(&mut guest, &[("home/living-room/#", 1), ("home/#", REFUSED)]);
    check_delivery(&mut guest, "home/kitchen/plug/switch/set", "on", REFUSED);
    check_delivery(&mut guest, "home/living-room/light/switch/set", "on", 0);
    expect(&mut lamp, "cmnd/tasmota_8F3A21/POWER", "ON");
    check_delivery(
        &mut world.enter(Version::V5, "a", "automation"),
        "home/hall/door/lock/set",
        "unlock",
        REFUSED,
    );
    check_delivery(&mut ann, "home/hall/door/lock/set", "unlock", 0);
    expect(
        &mut zigbee,
        "zigbee2mqtt/0x00158d0002b3c4d5/set",
        r#"{"state":"UNLOCK"}"#,
    );
    ann.expect_idle();
    zigbee.expect_idle();
}

/// So many in one go that not each of them can find a period that has just ended.
const POSITIONS: usize = 500;

#[test]
fn vehicle_positions_are_thinned_and_the_last_arrives() {
    let world = World::start("vehicle", &["fleet", "map"]);
    world.check_strangers("fleet");
    let mut map = world.enter(Version::V5, "m", "map");
    check_subscriptions(&mut map, &[("vehicles/+/position", 1), ("vehicles/#", REFUSED)]);
    let mut car = world.enter_with_certificate(Version::V5, "WVW123");
    let mut bytes = Vec::new();
    for number in 1..=POSITIONS {
        let position = message("vehicles/WVW123/position", number.to_string(), QoS::AtMostOnce);
        nervewire_codec::encode(&Packet::Publish(position), Version::V5, &mut bytes).expect("encode");
    }
    car.send_bytes(&bytes);
    expect(&mut map, "vehicles/WVW123/position", "1");
    let mut seen = vec![1];
    while seen.last() != Some(&POSITIONS) {
        let publish = map.receive();
        seen.push(String::from_utf8_lossy(&publish.payload).parse().expect("a number"));
    }
    assert!(seen.is_sorted() && seen.len() < POSITIONS / 2, "{seen:?}");
    let counter = |name| {
        metric(
            &world.broker,
            "nervewire_plugin_counter_total",
            &[("plugin", "throttle"), ("counter", name)],
        )
    };
    assert!(counter("superseded") > 0.0);
}

#[test]
fn vehicle_alarms_are_not_held_and_commands_come_from_the_fleet_only() {
    let world = World::start("vehicle", &["fleet", "map"]);
    let mut fleet = world.enter(Version::V5, "f", "fleet");
    check_subscriptions(&mut fleet, &[("vehicles/#", 1)]);
    let mut car = world.enter_with_certificate(Version::V311, "WVW123");
    check_subscriptions(
        &mut car,
        &[("vehicles/WVW123/command/#", 1), ("vehicles/WVW456/command/#", 0x80)],
    );
    for number in ["1", "2", "3"] {
        car.publish("vehicles/WVW123/telemetry/alarm", number, QoS::AtLeastOnce);
        expect(&mut fleet, "vehicles/WVW123/telemetry/alarm", number);
    }
    check_delivery(&mut fleet, "vehicles/WVW123/command/unlock", "now", 0);
    expect(&mut fleet, "vehicles/WVW123/command/unlock", "now");
    expect(&mut car, "vehicles/WVW123/command/unlock", "now");
    let mut other = world.enter_with_certificate(Version::V5, "WVW456");
    check_delivery(&mut other, "vehicles/WVW123/telemetry/alarm", "forged", REFUSED);
    check_delivery(&mut other, "vehicles/WVW456/command/unlock", "mine", REFUSED);
    check_delivery(&mut fleet, "vehicles/WVW123/position", "forged", REFUSED);
    check_delivery(
        &mut world.enter(Version::V5, "m", "map"),
        "vehicles/WVW123/command/unlock",
        "x",
        REFUSED,
    );
    car.expect_idle();
    fleet.expect_idle();
}

/// mosquitto_sub, mosquitto_pub and paho in each of the worlds.
mod real_clients {
    use super::*;

    /// A client of somebody else's, with the arguments that say who it is.
    struct Who(Vec<String>);

    impl World {
        fn tls(&self) -> Vec<String> {
            match self.is_tls {
                true => ["--cafile".to_owned(), self.broker.path("ca.pem").display().to_string()].to_vec(),
                false => Vec::new(),
            }
        }

        fn user(&self, id: &str, user: &str) -> Who {
            let who = ["-i", id, "-u", user, "-P", &password(user)].map(str::to_owned);
            Who([who.to_vec(), self.tls()].concat())
        }

        fn machine(&self, name: &str) -> Who {
            let identity = self.certificates.issue(name);
            let path = |kind: &str| self.broker.path(&format!("{name}.{kind}")).display().to_string();
            std::fs::write(path("pem"), identity.certificate).expect("write a file");
            std::fs::write(path("key"), identity.key).expect("write a file");
            let who = ["-i", name, "--cert", &path("pem"), "--key", &path("key")].map(str::to_owned);
            Who([who.to_vec(), self.tls()].concat())
        }

        /// mosquitto_sub, which prints so many messages.
        fn listens(&self, who: &Who, filter: &str, count: usize) -> Subscriber {
            let count = count.to_string();
            let args = ["-t", filter, "-q", "1", "-C", &count, "-F", "%t %p"];
            Subscriber::start(&self.broker, "mqttv5", &who.args(&args))
        }

        fn says(&self, who: &Who, topic: &str, payload: &str) {
            mosquitto_pub(
                &self.broker,
                "mqttv5",
                &who.args(&["-t", topic, "-m", payload, "-q", "1"]),
            );
        }

        /// mosquitto_pub prints this refusal.
        fn is_refused(&self, who: &Who, topic: &str, payload: &str, refusal: &str) {
            let args = who.args(&["-t", topic, "-m", payload, "-q", "1"]);
            let output = mosquitto("mosquitto_pub", &self.broker, "mqttv5", &args).output();
            let output = output.expect("run mosquitto_pub");
            let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(said.contains(refusal), "{topic} {payload}: {output:?}");
        }
    }

    impl Who {
        fn args<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
            self.0.iter().map(String::as_str).chain(more.iter().copied()).collect()
        }
    }

    const FORBIDDEN: &str = "Not authorized";
    const MALFORMED: &str = "Payload format invalid";

    #[test]
    #[ignore = "needs other programs: tests/clients/setup.sh"]
    fn city_with_mosquitto() {
        let world = World::start("city", &["lights", "waste"]);
        let (lamp, bin) = (world.user("lamp-7", "lights"), world.user("bin-1", "waste"));
        let control = world.listens(&world.user("control-1", "lights"), "city/lights/#", 2);
        world.is_refused(&bin, "city/lights/lamp-7/telemetry", "forged", FORBIDDEN);
        world.says(&lamp, "city/lights/lamp-7/telemetry", "one");
        world.says(&lamp, "sensor/7", r#"{"t":214}"#);
        assert_eq!(
            control.lines(),
            [
                "city/lights/lamp-7/telemetry one",
                r#"city/lights/lamp-7/telemetry {"celsius":21.4}"#
            ]
        );
    }

    #[test]
    #[ignore = "needs other programs: tests/clients/setup.sh"]
    fn industry_with_mosquitto() {
        let world = World::start("industry", &[]);
        let robot = world.machine("robot-7");
        let mes = world.listens(&world.machine("mes"), "plant/#", 1);
        world.is_refused(&robot, "plant/robot-7/weld", r#"{"part":7}"#, MALFORMED);
        world.is_refused(&robot, "plant/robot-8/weld", WELD, FORBIDDEN);
        world.says(&robot, "plant/robot-7/weld", WELD);
        assert_eq!(mes.lines(), [format!("plant/robot-7/weld {WELD}")]);
    }

    #[test]
    #[ignore = "needs other programs: tests/clients/setup.sh"]
    fn health_with_mosquitto() {
        let world = World::start("health", &["his", "research-heart"]);
        let his = world.user("h", "his");
        let research = world.listens(&world.user("r", "research-heart"), "research/#", 1);
        world.is_refused(&his, "research/x/vitals", "Ann", MALFORMED);
        world.is_refused(&his, "ward/2/bed-3/vitals", "{}", FORBIDDEN);
        world.says(&his, "research/x/vitals", PATIENT_DATA);
        assert_eq!(research.lines(), [format!("research/x/vitals {}", redacted())]);
    }

    #[test]
    #[ignore = "needs other programs: tests/clients/setup.sh"]
    fn home_with_mosquitto_and_paho() {
        let world = World::start("home", &["zigbee2mqtt", "tasmota", "ann", "guest"]);
        let zigbee = world.user("z2m", "zigbee2mqtt");
        let ann = world.listens(&world.user("phone", "ann"), "home/#", 1);
        world.says(&zigbee, "zigbee2mqtt/0x00158d0001a2b3c4", r#"{"state":"ON"}"#);
        assert_eq!(ann.lines(), ["home/kitchen/plug/switch true"]);
        world.is_refused(
            &world.user("g", "guest"),
            "home/kitchen/plug/switch/set",
            "on",
            FORBIDDEN,
        );
        for version in ["4", "5"] {
            let port = world.broker.port.to_string();
            script("paho_home.py", &[&port, version]);
        }
    }

    #[test]
    #[ignore = "needs other programs: tests/clients/setup.sh"]
    fn vehicle_with_mosquitto() {
        let world = World::start("vehicle", &["fleet", "map"]);
        let car = world.machine("WVW123");
        let map = world.listens(&world.user("m", "map"), "vehicles/+/position", 2);
        world.is_refused(&car, "vehicles/WVW456/trip", "forged", FORBIDDEN);
        // Each line is a message of QoS 0.
        let lines: String = (1..=POSITIONS).map(|number| format!("{number}\n")).collect();
        let file = world.broker.path("positions");
        std::fs::write(&file, lines).expect("write a file");
        let args = car.args(&["-t", "vehicles/WVW123/position", "-l"]);
        let output = mosquitto("mosquitto_pub", &world.broker, "mqttv311", &args)
            .stdin(std::fs::File::open(&file).expect("open a file"))
            .output();
        assert!(output.expect("run mosquitto_pub").status.success());
        let lines = map.lines();
        assert_eq!(lines[0], "vehicles/WVW123/position 1");
        assert_ne!(lines[1], "vehicles/WVW123/position 2", "it came with the period's end");
    }
}
