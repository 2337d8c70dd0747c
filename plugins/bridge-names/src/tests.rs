use super::{BridgeNames, MARK};
use nervewire_plugin_sdk::{prelude::*, testing};

const BOTH: &str = r#"{
    "presets": ["zigbee2mqtt", "tasmota"],
    "devices": {
        "zigbee2mqtt": { "0x00158d0001": "kitchen/plug", "hall/door": "hall/door" },
        "tasmota": { "tasmota_8F3A21": "office/lamp" }
    }
}"#;

fn load(config: &str) -> BridgeNames {
    testing::load(config).unwrap()
}

fn transform(plugin: &mut BridgeNames, topic: &str, payload: &str) -> Transformation {
    plugin.transform(
        &testing::client("bridge"),
        Message::new(topic, payload).qos(Qos::AtLeastOnce).retained(),
    )
}

/// What comes of a message, as `topic payload`.
fn said(plugin: &mut BridgeNames, topic: &str, payload: &str) -> Vec<String> {
    let messages = match transform(plugin, topic, payload) {
        Transformation::Replace(message) => vec![message],
        Transformation::Emit(messages) => messages,
        other => panic!("{topic} {payload}: {other:?}"),
    };
    for message in &messages {
        assert_eq!((message.qos, message.retain), (Qos::AtLeastOnce, true));
    }
    let line = |message: &Message| format!("{} {}", message.topic, message.payload_str().unwrap());
    messages.iter().map(line).collect()
}

fn check(config: &str, topic: &str, payload: &str, expected: &[&str]) {
    assert_eq!(said(&mut load(config), topic, payload), expected, "{topic} {payload}");
}

fn check_passes(config: &str, topic: &str, payload: &str) {
    assert_eq!(
        transform(&mut load(config), topic, payload),
        Transformation::Pass,
        "{topic} {payload}"
    );
}

#[test]
fn zigbee2mqtt_is_understood() {
    check(
        BOTH,
        "zigbee2mqtt/0x00158d0001",
        r#"{"state":"ON","power":4.20,"linkquality":120,"update":{"state":"idle"}}"#,
        &[
            "home/kitchen/plug/switch true",
            "home/kitchen/plug/power_w 4.20",
            "home/kitchen/plug/link_quality 120",
        ],
    );
    check(
        BOTH,
        "zigbee2mqtt/hall/door",
        r#"{"contact":false}"#,
        &["home/hall/door/open true"],
    );
    check(
        BOTH,
        "zigbee2mqtt/bulb",
        r#"{"brightness":127,"color_temp":370}"#,
        &["home/bulb/brightness 50", "home/bulb/color_temperature 370"],
    );
    check(
        BOTH,
        "zigbee2mqtt/remote",
        r#"{"action":"single"}"#,
        &["home/remote/action single"],
    );
    check(
        BOTH,
        "zigbee2mqtt/front",
        r#"{"state":"LOCK"}"#,
        &["home/front/lock true"],
    );
    check(
        BOTH,
        "zigbee2mqtt/bulb/availability",
        r#"{"state":"offline"}"#,
        &["home/bulb/online false"],
    );
    check(
        BOTH,
        "zigbee2mqtt/hall/door/availability",
        "online",
        &["home/hall/door/online true"],
    );
}

#[test]
fn tasmota_is_understood() {
    check(
        BOTH,
        "tele/tasmota_8F3A21/STATE",
        r#"{"Time":"2024-05-17T08:15:00","Uptime":"0T01:00:12","POWER":"ON","Dimmer":40,"Wifi":{"RSSI":66,"Signal":-67}}"#,
        &[
            "home/office/lamp/switch true",
            "home/office/lamp/brightness 40",
            "home/office/lamp/link_quality 66",
        ],
    );
    check(
        BOTH,
        "tele/attic/SENSOR",
        r#"{"Time":"2024-05-17T08:15:00","AM2301":{"Temperature":71.2,"Humidity":45.10,"DewPoint":48.9},"TempUnit":"F"}"#,
        &["home/attic/temperature 21.8", "home/attic/humidity 45.10"],
    );
    check(
        BOTH,
        "tele/attic/SENSOR",
        r#"{"DS18B20":{"Id":"01131B501D2A","Temperature":20.60},"TempUnit":"C"}"#,
        &["home/attic/temperature 20.60"],
    );
    check(
        BOTH,
        "tele/plug/SENSOR",
        r#"{"ENERGY":{"TotalStartTime":"2024-01-01T00:00:00","Total":12.345,"Power":43,"Voltage":229,"Current":0.187}}"#,
        &[
            "home/plug/power_w 43",
            "home/plug/energy_kwh 12.345",
            "home/plug/voltage 229",
            "home/plug/current 0.187",
        ],
    );
    check(BOTH, "tele/plug/LWT", "Online", &["home/plug/online true"]);
    check(
        BOTH,
        "stat/tasmota_8F3A21/POWER",
        "OFF",
        &["home/office/lamp/switch false"],
    );
    check(
        BOTH,
        "stat/tasmota_8F3A21/POWER2",
        "ON",
        &["home/office/lamp/switch2 true"],
    );
    check(
        BOTH,
        "stat/tasmota_8F3A21/RESULT",
        r#"{"POWER":"OFF"}"#,
        &["home/office/lamp/switch false"],
    );
}

#[test]
fn both_vendors_say_the_same_in_the_end() {
    let mut plugin = load(BOTH);
    let one = said(&mut plugin, "zigbee2mqtt/0x00158d0001", r#"{"state":"ON"}"#);
    let other = said(&mut plugin, "tele/tasmota_8F3A21/STATE", r#"{"POWER":"ON"}"#);
    assert_eq!(
        one[0].replace("kitchen/plug", "X"),
        other[0].replace("office/lamp", "X")
    );
}

#[test]
fn a_state_may_be_one_object() {
    let config = r#"{"presets": ["zigbee2mqtt"], "state": "json", "keep_original": true}"#;
    let payload = r#"{"state":"ON","temperature":21.50,"action":"a\"b"}"#;
    check(
        config,
        "zigbee2mqtt/x",
        payload,
        &[
            &format!("zigbee2mqtt/x {payload}"),
            r#"home/x/state {"switch":true,"temperature":21.50,"action":"a\"b"}"#,
        ],
    );
}

#[test]
fn what_is_not_known_passes() {
    for (topic, payload) in [
        ("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        ("zigbee2mqtt/plug/set", r#"{"state":"ON"}"#),
        ("zigbee2mqtt/hall/door/get", r#"{"state":""}"#),
        ("zigbee2mqtt/plug", r#"{"update_available":false}"#),
        ("zigbee2mqtt/plug", r#"{"state":"BLINKING"}"#),
        ("zigbee2mqtt/plug", "no JSON"),
        ("zigbee2mqtt/plug", ""),
        ("zigbee2mqtt/", r#"{"state":"ON"}"#),
        ("stat/x/POWER", "maybe"),
        ("elsewhere", "x"),
        ("home/kitchen/plug/switch", "true"),
        ("home/set", "true"),
        ("home/x/set", "true"),
    ] {
        check_passes(BOTH, topic, payload);
    }
}

#[test]
fn commands_become_the_vendors() {
    check(
        BOTH,
        "home/kitchen/plug/switch/set",
        "true",
        &[r#"zigbee2mqtt/0x00158d0001/set {"state":"ON"}"#],
    );
    check(
        BOTH,
        "home/kitchen/plug/switch/set",
        "Off",
        &[r#"zigbee2mqtt/0x00158d0001/set {"state":"OFF"}"#],
    );
    check(
        BOTH,
        "home/kitchen/plug/brightness/set",
        "50",
        &[r#"zigbee2mqtt/0x00158d0001/set {"brightness":127}"#],
    );
    check(
        BOTH,
        "home/office/lamp/switch/set",
        r#""on""#,
        &["cmnd/tasmota_8F3A21/POWER ON"],
    );
    check(
        BOTH,
        "home/office/lamp/switch/set",
        "toggle",
        &["cmnd/tasmota_8F3A21/POWER TOGGLE"],
    );
    check(
        BOTH,
        "home/office/lamp/brightness/set",
        "40",
        &["cmnd/tasmota_8F3A21/Dimmer 40"],
    );
}

#[test]
fn commands_that_mean_nothing_are_refused() {
    let mut plugin = load(BOTH);
    let mut refusal = |topic: &str, payload: &str| match transform(&mut plugin, topic, payload) {
        Transformation::Reject(rejection) => rejection,
        other => panic!("{topic} {payload}: {other:?}"),
    };
    let format = Rejection::PayloadFormatInvalid;
    assert_eq!(refusal("home/kitchen/plug/switch/set", "perhaps"), format);
    assert_eq!(refusal("home/kitchen/plug/switch/set", ""), format);
    assert_eq!(refusal("home/kitchen/plug/brightness/set", "101"), format);
    assert_eq!(refusal("home/kitchen/plug/brightness/set", r#"{"a":1}"#), format);
    assert_eq!(refusal("home/kitchen/plug/brightness/set", "NaN"), format);
    assert_eq!(
        refusal("home/office/lamp/lock/set", "true"),
        Rejection::TopicNameInvalid
    );
    assert_eq!(testing::counter("refused"), 6);
}

#[test]
fn commands_for_unnamed_devices_need_a_default_vendor() {
    check_passes(BOTH, "home/attic/switch/set", "true");
    let config = r#"{"presets": ["tasmota"], "default_vendor": "tasmota"}"#;
    check(config, "home/attic/switch/set", "true", &["cmnd/attic/POWER ON"]);
}

#[test]
fn what_was_translated_elsewhere_is_not_translated_again() {
    let mut plugin = load(BOTH);
    let message = Message::new("zigbee2mqtt/x", r#"{"state":"ON"}"#).user_property(MARK, "translated");
    assert_eq!(
        plugin.transform(&testing::client("other-broker"), message),
        Transformation::Pass
    );
    let Transformation::Replace(made) = transform(&mut plugin, "home/office/lamp/switch/set", "on") else {
        panic!("not translated");
    };
    assert_eq!(
        plugin.transform(&testing::client("other-broker"), made),
        Transformation::Pass
    );
    assert_eq!(testing::counter("returned"), 2);
}

/// Whatever comes out of the plugin is nothing that goes in.
#[test]
fn nothing_it_makes_would_be_translated_without_the_mark_either() {
    let mut plugin = load(BOTH);
    for (topic, payload) in [
        ("zigbee2mqtt/0x00158d0001", r#"{"state":"ON"}"#),
        ("stat/tasmota_8F3A21/POWER", "OFF"),
        ("home/kitchen/plug/switch/set", "true"),
        ("home/office/lamp/switch/set", "true"),
    ] {
        let made = said(&mut plugin, topic, payload);
        let (topic, payload) = made[0].split_once(' ').unwrap();
        assert_eq!(transform(&mut plugin, topic, payload), Transformation::Pass, "{topic}");
    }
}

#[test]
fn more_than_a_call_may_emit_is_left_out() {
    let fields: Vec<_> = (0..20)
        .map(|n| format!(r#"{{"field":"f{n}","capability":"c{n}"}}"#))
        .collect();
    let rule = format!(r#"{{"vendor":"v","match":"v/+","fields":[{}]}}"#, fields.join(","));
    let values: Vec<_> = (0..20).map(|n| format!(r#""f{n}":{n}"#)).collect();
    let payload = format!("{{{}}}", values.join(","));
    let mut plugin = load(&format!(r#"{{"rules":[{rule}]}}"#));
    assert_eq!(said(&mut plugin, "v/x", &payload).len(), 16);
    assert_eq!(testing::counter("left_out"), 4);
}

#[test]
fn own_rules_come_before_the_presets() {
    let config = r#"{
        "presets": ["tasmota"], "root": "site/a",
        "rules": [
            {"vendor": "tasmota", "match": "tele/pool/SENSOR", "device": "pool-${client_id}", "fields": [
                {"field": "DS18B20-1.Temperature", "capability": "water", "unit": "F"},
                {"field": "DS18B20-2.Temperature", "capability": "air", "factor": 2, "offset": 1, "round": 0}]},
            {"vendor": "own", "match": ["own/#"], "payload": {"capability": "level"}}
        ]}"#;
    check(
        config,
        "tele/pool/SENSOR",
        r#"{"DS18B20-1":{"Temperature":77},"DS18B20-2":{"Temperature":3.2}}"#,
        &["site/a/pool-bridge/water 25", "site/a/pool-bridge/air 7"],
    );
    check(config, "own/a/b", "17.50", &["site/a/a/b/level 17.50"]);
    check(config, "tele/x/LWT", "Offline", &["site/a/x/online false"]);
}

#[test]
fn payloads_a_rule_is_not_about_are_rejected_where_it_says_so() {
    let mut plugin =
        load(r#"{"rules": [{"vendor": "v", "match": "v/+", "fields": [{"field": "a", "capability": "a"}]}]}"#);
    for payload in ["x", "[1]", "17"] {
        assert_eq!(
            transform(&mut plugin, "v/x", payload),
            Transformation::Reject(Rejection::PayloadFormatInvalid)
        );
    }
    assert_eq!(transform(&mut plugin, "v/x", r#"{"b":1}"#), Transformation::Pass);
}

fn check_refused(config: &str, expected: &str) {
    let error = testing::load::<BridgeNames>(config).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_makes_no_sense_is_refused_in_words() {
    let rule = |keys: &str| format!(r#"{{"rules": [{{"vendor": "v", {keys}}}]}}"#);
    let command = |keys: &str| format!(r#"{{"commands": [{{"vendor": "v", "capability": "c", {keys}}}]}}"#);
    let payload = r#""payload": {"capability": "c"}"#;
    check_refused(
        r#"{"presets": ["shelly"]}"#,
        "there is no \"shelly\", write \"zigbee2mqtt\" or \"tasmota\"",
    );
    check_refused(r#"{"root": "a/+"}"#, "config.root = `a/+` is no topic name");
    check_refused(
        &rule(&format!(r#""match": "home/+", {payload}"#)),
        "translated again and again",
    );
    check_refused(
        &rule(&format!(r#""match": "+/x", {payload}"#)),
        "begin it with another name",
    );
    check_refused(
        &rule(&format!(r##""match": "#", {payload}"##)),
        "begin it with another name",
    );
    check_refused(
        &rule(&format!(r#""match": "a", "device": "${{1}}", {payload}"#)),
        "in device = `${1}` stands for nothing",
    );
    check_refused(&rule(r#""match": "a""#), "write vendor, and fields or payload or both");
    check_refused(
        &rule(&format!(r#""match": "a", "ignore": true, {payload}"#)),
        "or ignore = true alone",
    );
    check_refused(
        &rule(r#""match": "a", "payload": {"capability": "a/b"}"#),
        "cannot be a level of a topic",
    );
    check_refused(
        &rule(r#""match": "a", "payload": {"capability": "a", "valeus": {}}"#),
        "unknown field `valeus`",
    );
    check_refused(
        &rule(r#""match": "a", "fields": [{"field": "a", "capability": "c", "factor": 2, "values": {"x": 1}}]"#),
        "config.rules, entry 1: fields, entry 1: write one of values",
    );
    check_refused(&command(r#""topic": "home/${device}/x""#), "translated again and again");
    check_refused(&command(r#""topic": "${device}/x""#), "begins with a name");
    check_refused(
        &command(r#""topic": "a/${devcie}/x""#),
        "has `${device}` where the device's is",
    );
    check_refused(&command(r#""topic": "a/${device}", "rnd": 1"#), "unknown field `rnd`");
    check_refused(
        r#"{"default_vendor": "v"}"#,
        "no preset or rule is about the vendor `v`",
    );
    check_refused(r#"{"devices": {"v": {}}}"#, "no preset or rule is about the vendor `v`");
    check_refused(
        r#"{"presets": ["tasmota"], "devices": {"tasmota": {"a": "b/+"}}}"#,
        "cannot be a part of a topic",
    );
    check_refused(
        r#"{"presets": ["tasmota", "zigbee2mqtt"], "devices": {"tasmota": {"a": "x"}, "zigbee2mqtt": {"b": "x"}}}"#,
        "`x` is the name of two devices, tasmota's `a` and zigbee2mqtt's `b`",
    );
}
