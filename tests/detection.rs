//! What clients do is counted where a plugin looks for what is odd, and what it finds is told and carried out.

mod support;

use serde_json::Value;
use support::*;

/// The guest that detects, with its configuration. A window is short, so that no test waits for long.
fn watching(config: &str, mode: &str) -> String {
    format!(
        "[detect]\nwindow_ms = 200\n[[plugin]]\nname = \"watch\"\ncomponent = \"ticking.wasm\"\nhooks = [\"detect\"]\n\
         mode = \"{mode}\"\nconfig = {{ {config} }}\nlimits = {{ detect_call_ms = 10000 }}\n"
    )
}

fn setup(shards: u16, config: &str) -> Setup {
    Setup::new()
        .shards(shards)
        .file("ticking.wasm", guest("ticking"))
        .toml(&watching(config, "enforce"))
}

/// The bundled one, which knows a client after two windows.
fn guard(config: &str) -> String {
    format!(
        "[detect]\nwindow_ms = 200\n[[plugin]]\nname = \"guard\"\ncomponent = \"builtin:anomaly-guard\"\n\
         limits = {{ detect_call_ms = 10000 }}\n[plugin.config]\nwarm_up_windows = 2\n{config}\n"
    )
}

/// The alerts about a client, the newest first.
fn alerts(broker: &Broker, client_id: &str) -> Vec<Value> {
    let page = get(broker, "/v1/alerts?limit=10000").json();
    let alerts = page["alerts"].as_array().expect("a list").iter();
    alerts
        .filter(|alert| alert["client_id"] == client_id)
        .cloned()
        .collect()
}

fn alert(broker: &Broker, client_id: &str) -> Value {
    wait_for("an alert", || alerts(broker, client_id).pop())
}

/// The sum of what was counted of a client in all windows so far.
fn sum(alerts: &[Value], count: &str) -> u64 {
    let counted = alerts.iter().map(|alert| alert["window"][count].as_u64().expect(count));
    counted.sum()
}

#[test]
fn windows_of_all_shards_carry_what_clients_did() {
    for shards in SHARD_COUNTS {
        let broker = setup(shards, "echo = true")
            .toml("[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n")
            .toml("config.rules = [{ deny = \"both\", topics = [\"no/#\"] }]\n")
            .start();
        let mut receiver = Client::new(&broker, Version::V5, "receiver");
        receiver.subscribe("t/#", QoS::AtMostOnce);
        for (id, messages) in [("a", 3), ("b", 5), ("c", 7), ("d", 9)] {
            let mut sender = Client::new(&broker, Version::V5, id);
            for number in 0..messages {
                sender.publish(&format!("t/{}", number % 3), vec![0; 10 + number], QoS::AtLeastOnce);
            }
            for _ in 0..2 {
                let refused = sender.deliver(message("no/way", "x", QoS::AtLeastOnce));
                assert_eq!(refused, 0x87);
            }
            let messages = messages as u64;
            let seen = wait_for("all of it", || {
                let seen = alerts(&broker, id);
                (sum(&seen, "messages_in") >= messages + 2).then_some(seen)
            });
            assert_eq!(sum(&seen, "messages_in"), messages + 2);
            assert_eq!((sum(&seen, "denials"), sum(&seen, "connects")), (2, 1));
            assert!(sum(&seen, "bytes_in") > messages * 14, "{seen:?}");
            assert!(sum(&seen, "bytes_out") > 0, "{seen:?}");
            let largest = seen
                .iter()
                .filter_map(|alert| alert["window"]["payload_bytes_max"].as_u64());
            assert_eq!(largest.max(), Some(9 + messages));
            let topics = seen
                .iter()
                .filter_map(|alert| alert["window"]["distinct_topics"].as_u64());
            assert!(
                topics.max() <= Some(4) && sum(&seen, "distinct_topics") >= 4,
                "{seen:?}"
            );
            assert!(
                seen.iter()
                    .all(|alert| alert["address"] == "127.0.0.1" && alert["let_in"] == true)
            );
        }
        let received = wait_for("what was sent to it", || {
            let seen = alerts(&broker, "receiver");
            (sum(&seen, "messages_out") >= 24).then_some(seen)
        });
        assert_eq!(sum(&received, "messages_out"), 24);
        assert_eq!(sum(&received, "messages_in"), 0);
    }
}

#[test]
fn who_is_not_let_in_and_who_breaks_the_protocol_is_counted() {
    let broker = setup(2, "echo = true").auth("anonymous = \"deny\"\ndefault = \"allow\"");
    let file = broker.path("passwd").display().to_string();
    assert!(
        nervewire_with_input(&["passwd", &file, "ann"], "secret\n")
            .status
            .success()
    );
    let broker = broker
        .toml("[[plugin]]\nname = \"password\"\ncomponent = \"builtin:password\"\nfiles = { users = \"passwd\" }\n")
        .toml("limits = { authenticate_call_ms = 10000 }\n")
        .start();
    for id in ["guess-1", "guess-2"] {
        for _ in 0..2 {
            let (_, connack) = Client::try_connect(&broker, login(Version::V5, id, "ann", "wrong"));
            assert_eq!(connack.reason as u8, 0x86);
        }
        let seen = wait_for("its failures", || {
            let seen = alerts(&broker, id);
            (sum(&seen, "failed_logins") >= 2).then_some(seen)
        });
        assert_eq!((sum(&seen, "failed_logins"), sum(&seen, "connects")), (2, 0));
        assert_eq!(seen[0]["let_in"], false);
        assert_eq!(seen[0]["username"], Value::Null, "nobody has proved to be ann");
    }
    let (mut client, _) = Client::connect(&broker, login(Version::V5, "broken", "ann", "secret"));
    client.send_bytes(&[0xf7, 0x00, 0x00]);
    client.expect_disconnect_packet();
    wait_for("the malformed packet", || {
        let seen = alerts(&broker, "broken");
        (sum(&seen, "malformed_packets") == 1).then_some(())
    });
    assert_eq!(alert(&broker, "broken")["username"], "ann");
}

#[test]
fn a_scanning_client_is_told_of_everywhere() {
    // That it also sends fast is another rule's business.
    let rules = "[plugin.config.rules.topic_scan]\nnew_client_topics = 100\nmin_topics = 100\n\
                 [plugin.config.rules.rate_spike]\nresponse = \"off\"\n";
    let broker = Setup::new().shards(2).toml(&guard(rules)).start();
    let mut watcher = Client::new(&broker, Version::V5, "watcher");
    watcher.subscribe("$SYS/broker/alerts", QoS::AtLeastOnce);
    let mut scanner = Client::new(&broker, Version::V5, "scanner");
    let mut number = 0;
    wait_for("an alert", || {
        for _ in 0..500 {
            number += 1;
            scanner.publish(&format!("probe/{number}"), "", QoS::AtMostOnce);
        }
        scanner.expect_idle();
        alerts(&broker, "scanner").pop()
    });
    let published = watcher.receive();
    assert!(!published.retain);
    let published: Value = serde_json::from_slice(&published.payload).expect("JSON");
    assert_eq!(
        (&published["plugin"], &published["client_id"]),
        (&"guard".into(), &"scanner".into())
    );
    assert_eq!(
        (&published["response"], &published["outcome"]),
        (&"alert".into(), &"told".into())
    );
    let evidence = published["evidence"].as_str().expect("words");
    assert!(evidence.starts_with("topic_scan: about"), "{evidence}");
    assert!(
        published["window"]["distinct_topics"].as_u64() >= Some(100),
        "{published}"
    );
    broker.logs("topic_scan: about");
    let labels = [("plugin", "guard"), ("response", "alert")];
    assert!(metric(&broker, "nervewire_alerts_total", &labels) >= 1.0);
    let shown = broker.cli(&["alerts"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("scanner") && shown.contains("topic_scan"), "{shown}");
    let json = broker.cli(&["alerts", "--json", "--limit", "1"]);
    let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["alerts"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_flooding_client_is_throttled_until_that_is_lifted() {
    let rule = "alert_only = false\n[plugin.config.rules.rate_spike]\nresponse = { throttle = 3 }\n\
                new_client_messages_per_second = 100.0\n";
    let broker = Setup::new().shards(2).toml(&guard(rule)).start();
    let mut other = Client::new(&broker, Version::V5, "other");
    let mut flooder = Client::new(&broker, Version::V5, "flooder");
    wait_for("the throttle", || {
        for _ in 0..200 {
            flooder.publish("flood", "x", QoS::AtMostOnce);
        }
        (metric(&broker, "nervewire_throttled_clients", &[]) == 1.0).then_some(())
    });
    let told = alert(&broker, "flooder");
    assert_eq!(
        (&told["response"], &told["messages_per_s"]),
        (&"throttle".into(), &3.into())
    );
    assert_eq!(told["outcome"], "carried out");
    wait_for("somebody to wait", || {
        let paused = metric(
            &broker,
            "nervewire_bounds_hit_total",
            &[("bound", "publish_rate_per_s")],
        );
        flooder.publish("flood", "x", QoS::AtMostOnce);
        (paused > 0.0).then_some(())
    });
    other.publish("t", "x", QoS::AtLeastOnce);
    // Who comes back is bounded as before.
    drop(flooder);
    let mut flooder = Client::new(&broker, Version::V5, "flooder");
    flooder.publish("flood", "x", QoS::AtLeastOnce);
    let lifted = broker.cli(&["unthrottle", "flooder"]);
    assert!(lifted.status.success(), "{lifted:?}");
    assert_eq!(metric(&broker, "nervewire_throttled_clients", &[]), 0.0);
    assert!(
        !broker.cli(&["unthrottle", "flooder"]).status.success(),
        "there is none any more"
    );
}

#[test]
fn a_detector_disconnects_and_bans() {
    let broker = setup(2, "most = 5").start();
    let flood = |id: &str| {
        let mut client = Client::new(&broker, Version::V5, id);
        for _ in 0..50 {
            client.publish("t", "x", QoS::AtMostOnce);
        }
        client
    };
    let mut quiet = Client::new(&broker, Version::V5, "ban-quiet");
    flood("disconnect-1").expect_disconnect(0x97);
    let mut banned = flood("ban-1");
    while banned.next().is_some() {}
    let (_, connack) = Client::try_connect(&broker, hello(Version::V5, "ban-1"));
    assert_eq!(connack.reason as u8, 0x8a);
    // It may come back, and others are as they were.
    Client::new(&broker, Version::V5, "disconnect-1").publish("t", "x", QoS::AtLeastOnce);
    quiet.publish("t", "x", QoS::AtLeastOnce);
    assert_eq!(alert(&broker, "ban-1")["outcome"], "carried out");
    assert_eq!(alert(&broker, "ban-1")["seconds"], 60);
}

#[test]
fn in_shadow_mode_findings_are_told_and_not_carried_out() {
    let broker = Setup::new()
        .file("ticking.wasm", guest("ticking"))
        .toml(&watching("most = 5", "shadow"))
        .start();
    let mut client = Client::new(&broker, Version::V5, "disconnect-1");
    for _ in 0..50 {
        client.publish("t", "x", QoS::AtMostOnce);
    }
    let told = alert(&broker, "disconnect-1");
    assert_eq!(told["mode"], "shadow");
    assert_eq!(told["outcome"], "not carried out: the plugin is in shadow mode");
    client.expect_idle();
    let labels = [("plugin", "watch"), ("response", "disconnect")];
    assert!(metric(&broker, "nervewire_shadow_alerts_total", &labels) >= 1.0);
    assert!(!get(&broker, "/metrics").body.contains("nervewire_alerts_total{"));
}

#[test]
fn nothing_is_counted_before_there_is_a_detector_and_after() {
    let broker = Setup::new().shards(2).file("ticking.wasm", guest("ticking")).start();
    let mut client = Client::new(&broker, Version::V5, "c");
    client.publish("t", "x", QoS::AtLeastOnce);
    broker.replace_toml(&watching("echo = true", "enforce"));
    broker.reloaded();
    for _ in 0..3 {
        client.publish("t", "x", QoS::AtLeastOnce);
    }
    let seen = wait_for("what came after the reload", || {
        let seen = alerts(&broker, "c");
        (sum(&seen, "messages_in") >= 3).then_some(seen)
    });
    assert_eq!((sum(&seen, "messages_in"), sum(&seen, "connects")), (3, 0));
    broker.replace_toml("");
    broker.reloaded();
    let calls = |broker: &Broker| get(broker, "/v1/alerts").json()["total"].as_u64();
    let before = calls(&broker);
    client.publish("t", "x", QoS::AtLeastOnce);
    broker.replace_toml(&watching("echo = true", "enforce"));
    broker.reloaded();
    client.publish("t", "x", QoS::AtLeastOnce);
    wait_for("the message after the second reload", || {
        (calls(&broker) > before).then_some(())
    });
    let again = wait_for("all of it", || {
        let again = alerts(&broker, "c");
        (sum(&again, "messages_in") >= 4).then_some(again)
    });
    assert_eq!(sum(&again, "messages_in"), 4, "not what was sent while nobody looked");
}

#[test]
fn alerts_are_read_by_those_whom_authorization_lets() {
    // As every broker starts that is given no configuration.
    let broker = Setup::new()
        .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
        .toml("[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n")
        .toml("config.rules = [{ allow = \"both\", topics = [\"#\"] }]\n")
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    let answer = client.subscribe_with(vec![filter("$SYS/broker/alerts", QoS::AtLeastOnce)], None);
    assert_eq!(codes(&answer.reasons), [0x87]);
    let forged = client.deliver(message("$SYS/broker/alerts", "{}", QoS::AtLeastOnce));
    assert_eq!(forged, 0x87);
}

/// What somebody does to the broker in a round.
type Attack<'a> = &'a dyn Fn(&mut [Client], u64);

/// What the evaluation of `builtin:anomaly-guard` reads: what a real broker counts of real clients. NERVEWIRE_RECORD=1 writes its
/// files anew, from a minute and a half; else it is some seconds, to see that it can be.
#[test]
fn windows_are_recorded_for_the_evaluation() {
    let is_kept = std::env::var_os("NERVEWIRE_RECORD").is_some();
    let (quiet_rounds, attack_rounds) = if is_kept { (700, 40) } else { (20, 10) };
    let config = watching("echo = true", "enforce").replace("window_ms = 200", "window_ms = 1_000\nalerts = 100_000");
    let broker = Setup::new()
        .shards(2)
        .file("ticking.wasm", guest("ticking"))
        .toml(&config)
        .start();
    let mut clients: Vec<Client> = (0..10)
        .map(|number| Client::new(&broker, Version::V5, &format!("sensor-{number}")))
        .collect();
    let mut gateways: Vec<Client> = (0..2)
        .map(|number| Client::new(&broker, Version::V311, &format!("gateway-{number}")))
        .collect();
    gateways[0].subscribe("sensors/#", QoS::AtMostOnce);
    // A tenth of a second at a time.
    let mut round = 0u64;
    let mut go_on = |rounds: u64, attack: Option<Attack<'_>>| {
        let began = alerts_total(&broker);
        for _ in 0..rounds {
            round += 1;
            for (number, client) in clients.iter_mut().enumerate() {
                if round.is_multiple_of(1 + number as u64) {
                    let payload = vec![b'x'; 20 + 5 * number + (round % 7) as usize];
                    client.publish(&format!("sensors/{number}/value"), payload, QoS::AtMostOnce);
                }
            }
            for (number, gateway) in gateways.iter_mut().enumerate() {
                let burst = if round % 97 < 10 { 8 } else { 2 };
                for device in 0..burst {
                    let topic = format!("site/{number}/{}", (round + device) % 30);
                    gateway.publish(&topic, vec![b'x'; 60], QoS::AtMostOnce);
                }
            }
            if let Some(attack) = attack {
                attack(&mut clients, round);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        // The last window, too.
        let rest = alerts_total(&broker);
        clients[0].expect_idle();
        wait_for("the last window", || (alerts_total(&broker) > rest).then_some(()));
        (began, alerts_total(&broker))
    };
    let write = |name: &str, (from, to): (u64, u64)| {
        let text = csv(&broker, from, to);
        if is_kept {
            let path = repository().join("plugins/anomaly-guard/tests/recorded").join(name);
            std::fs::write(path, &text).expect("written");
        }
        text
    };
    let quiet = go_on(quiet_rounds, None);
    let quiet = write("quiet.csv", quiet);
    let flood = |clients: &mut [Client], _| {
        for _ in 0..300 {
            clients[3].publish("sensors/3/value", "flood", QoS::AtMostOnce);
        }
    };
    let attack = go_on(attack_rounds, Some(&flood));
    let flood = write("flood.csv", attack);
    let scan = |clients: &mut [Client], round| {
        for number in 0..40 {
            clients[5].publish(&format!("probe/{round}/{number}"), "", QoS::AtMostOnce);
        }
    };
    let attack = go_on(attack_rounds, Some(&scan));
    let scan = write("scan.csv", attack);
    let most = |csv: &str, client_id: &str, column: usize| {
        let rows = csv.lines().filter(|line| line.split(',').next() == Some(client_id));
        let numbers = rows.filter_map(|line| line.split(',').nth(column)?.parse::<f64>().ok());
        numbers.fold(0.0, f64::max)
    };
    let (messages, topics) = (4, 8);
    assert!(most(&flood, "sensor-3", messages) > 50.0 * most(&quiet, "sensor-3", messages));
    assert!(most(&scan, "sensor-5", topics) > 50.0 * most(&quiet, "sensor-5", topics));
    assert!(most(&quiet, "gateway-1", topics) > 1.0);
}

fn alerts_total(broker: &Broker) -> u64 {
    get(broker, "/v1/alerts?limit=1").json()["total"]
        .as_u64()
        .expect("a number")
}

/// The windows of the alerts with these numbers, in their order.
fn csv(broker: &Broker, from: u64, to: u64) -> String {
    const COUNTS: [&str; 15] = [
        "started",
        "milliseconds",
        "messages_in",
        "messages_out",
        "bytes_in",
        "bytes_out",
        "distinct_topics",
        "denials",
        "malformed_packets",
        "failed_logins",
        "connects",
        "payload_bytes_min",
        "payload_bytes_max",
        "payload_bytes_mean",
        "payload_bytes_deviation",
    ];
    let page = get(broker, "/v1/alerts?limit=100000").json();
    let total = page["total"].as_u64().expect("a number");
    let newest_first = page["alerts"].as_array().expect("a list");
    let numbered = newest_first.iter().zip((0..total).rev());
    let mut wanted: Vec<_> = numbered.filter(|(_, number)| (from..to).contains(number)).collect();
    wanted.reverse();
    let mut text = format!("client_id,address,{}\n", COUNTS.join(","));
    for (alert, _) in wanted {
        let text_of = |key: &str| alert[key].as_str().expect(key).to_owned();
        let counts = COUNTS.map(|count| match count.starts_with("payload_bytes_") {
            true => format!("{:.1}", alert["window"][count].as_f64().expect(count)),
            false => alert["window"][count].to_string(),
        });
        text += &format!("{},{},{}\n", text_of("client_id"), text_of("address"), counts.join(","));
    }
    text
}
