//! A reload that brings failing plugins is taken back, by itself and by hand.

mod support;

use serde_json::Value;
use support::*;

/// Soon enough for a test, long enough for a busy machine.
const WATCHFUL: &str =
    "[reload]\nrollback_failures_percent = 10\nrollback_min_failures = 4\nrollback_window_ms = 600000\n";

fn tagger(component: &str) -> String {
    format!("{WATCHFUL}[[plugin]]\nname = \"tag\"\ncomponent = \"{component}\"\nlimits = {{ call_ms = 1000 }}\n")
}

/// The guest that panics on every third call, in the tagger's place and with its name.
fn failing() -> String {
    tagger("bad.wasm") + "hooks = [\"transform\"]\nconfig = { behaviour = \"panic\", every = 3 }\n"
}

fn broker(shards: u16) -> Broker {
    broker_with(shards, "")
}

fn broker_with(shards: u16, more: &str) -> Broker {
    Setup::new()
        .shards(shards)
        .file("tag.wasm", generation_guest(1))
        .file("new.wasm", generation_guest(2))
        .file("bad.wasm", guest("hostile"))
        .toml(&(tagger("tag.wasm") + more))
        .start()
}

fn status(broker: &Broker) -> Value {
    get(broker, "/v1/status").json()
}

/// Sends one message, and says which component tagged it; `None`: it was refused, or not tagged.
fn tag(client: &mut Client) -> Option<String> {
    if client.deliver(message("t", "x", QoS::AtLeastOnce)) >= 0x80 {
        return None;
    }
    let publish = client.expect_payload("x");
    let mut pairs = properties(&publish.properties).user_properties.into_iter();
    let pair = pairs.find(|(name, _)| name.as_str() == "generation");
    pair.map(|(_, value)| value.as_str().to_owned())
}

fn rollbacks(broker: &Broker, cause: &str) -> f64 {
    metric(broker, "nervewire_rollbacks_total", &[("cause", cause)])
}

/// Clients stay connected, what ran before runs again, and everything says so.
#[test]
fn plugins_that_fail_after_a_reload_are_taken_back() {
    for shards in SHARD_COUNTS {
        let broker = broker(shards);
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        assert_eq!(tag(&mut client).as_deref(), Some("0001"));
        broker.replace_toml(&failing());
        broker.reloaded();
        assert!(status(&broker)["on_probation_ms"].as_u64() > Some(0));
        wait_for("the old tagger", || {
            (tag(&mut client).as_deref() == Some("0001")).then_some(())
        });

        // Written down when every shard has the old generation again.
        let after = wait_for("the rollback in the status", || {
            Some(status(&broker)).filter(|status| !status["last_rollback"].is_null())
        });
        let last = &after["last_rollback"];
        assert_eq!(last["cause"], "automatic", "{after}");
        assert_eq!(
            (&last["from_generation"], &last["to_generation"]),
            (&2.into(), &1.into())
        );
        assert_eq!(after["generation"], 3);
        assert_eq!(after["connections"], 1, "nobody was disconnected");
        assert_eq!(after["on_probation_ms"], Value::Null);
        let reason = last["reason"].as_str().expect("a reason");
        assert!(
            reason.starts_with("plugin \"tag\" failed in ") && reason.contains(" trap"),
            "{reason}"
        );
        assert_eq!(
            (rollbacks(&broker, "automatic"), rollbacks(&broker, "manual")),
            (1.0, 0.0)
        );
        broker.logs("taken back: plugin");
        let shown = String::from_utf8(broker.cli(&["status"]).stdout).expect("UTF-8");
        assert!(
            shown.contains("BACK FROM generation 2 to 1, automatic: plugin \"tag\""),
            "{shown}"
        );

        // The same files are not loaded again, neither by themselves nor when asked.
        let refused = broker.reload();
        assert_eq!(refused.status.code(), Some(1));
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains("this was generation 2, which was taken back"), "{words}");
        assert_eq!(status(&broker)["generation"], 3);

        // What is corrected is, without being asked.
        broker.replace_toml(&tagger("new.wasm"));
        wait_for("the new tagger", || {
            (tag(&mut client).as_deref() == Some("0002")).then_some(())
        });
        assert_eq!(rollbacks(&broker, "automatic"), 1.0);
        wait_for("what it would go back to", || {
            (status(&broker)["rollback_generation"] == 3).then_some(())
        });
    }
}

/// The component alone may be what was bad, and what is corrected.
#[test]
fn a_component_that_was_taken_back_is_loaded_when_it_changes() {
    let broker = broker(1);
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("t", QoS::AtLeastOnce);
    broker.replace_toml(&failing());
    broker.reloaded();
    wait_for("the old tagger", || {
        (tag(&mut client).as_deref() == Some("0001")).then_some(())
    });
    broker.replace_file("bad.wasm", generation_guest(9));
    wait_for("the corrected component", || {
        (tag(&mut client).as_deref() == Some("0009")).then_some(())
    });
}

/// Fewer failures than `rollback_min_failures` are none, and so are all with `rollback_failures_percent = 0`.
#[test]
fn a_few_failures_are_borne() {
    let broker = broker(1);
    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("t", QoS::AtLeastOnce);
    let once = tagger("bad.wasm").replace("rollback_window_ms = 600000", "rollback_window_ms = 1000")
        + "hooks = [\"transform\"]\n";
    broker.replace_toml(&once);
    broker.reloaded();
    assert!(client.deliver(message("panic/x", "x", QoS::AtLeastOnce)) >= 0x80);
    // It comes through its window all the same.
    wait_for("the end of the probation", || {
        status(&broker)["on_probation_ms"].is_null().then_some(())
    });
    assert_eq!(status(&broker)["generation"], 2);

    let never = failing().replace("rollback_failures_percent = 10", "rollback_failures_percent = 0");
    broker.replace_toml(&never.replace("rollback_window_ms = 600000", "rollback_window_ms = 1000"));
    broker.reloaded();
    for _ in 0..30 {
        tag(&mut client);
    }
    wait_for("the end of the probation", || {
        status(&broker)["on_probation_ms"].is_null().then_some(())
    });
    assert_eq!(status(&broker)["generation"], 3);
    assert_eq!(rollbacks(&broker, "automatic"), 0.0);
}

/// From memory: files, listeners and the admin listener of before are brought back, and `kv` is what it was.
#[test]
fn a_rollback_by_hand_brings_back_everything() {
    let counting = |more: &str| {
        format!(
            "[[plugin]]\nname = \"counting\"\ncomponent = \"counting.wasm\"\ngrants = [\"kv\", \"random\"]\nlimits = {{ call_ms = 1000 }}\n{more}"
        )
    };
    let free = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address")
    };
    let (kept, other) = (free(), free());
    let broker = Setup::new()
        .shards(2)
        .file("counting.wasm", guest("counting"))
        .toml(&counting(&format!("[[listener]]\nbind = \"{kept}\"\n")))
        .start();
    let nothing = broker.cli(&["rollback"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing to go back to"));

    let mut client = Client::new(&broker, Version::V5, "c");
    client.subscribe("#", QoS::AtLeastOnce);
    let mut count = || {
        client.publish("count", "", QoS::AtLeastOnce);
        String::from_utf8_lossy(&client.receive().payload).into_owned()
    };
    assert_eq!(count(), "Ok(1)");
    std::fs::remove_file(broker.path("counting.wasm")).expect("remove");
    broker.replace_toml(&format!("[[listener]]\nbind = \"{other}\"\n"));
    broker.reloaded();
    assert_eq!(count(), "");
    wait_for("the listener to close", || {
        std::net::TcpStream::connect(kept).is_err().then_some(())
    });

    let done = broker.cli(&["rollback"]);
    assert!(done.status.success(), "{done:?}\n{}", broker.log());
    let shown = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        shown.contains("generation 3 is in force") && shown.contains("what generation 1 was"),
        "{shown}"
    );
    assert!(shown.contains("plugin counting was loaded"), "{shown}");
    assert_eq!(count(), "Ok(2)", "kv is what it was");
    drop(std::net::TcpStream::connect(kept).expect("the listener of before"));
    wait_for("the new listener to close", || {
        std::net::TcpStream::connect(other).is_err().then_some(())
    });
    assert_eq!(
        (rollbacks(&broker, "automatic"), rollbacks(&broker, "manual")),
        (0.0, 1.0)
    );
    assert_eq!(status(&broker)["last_rollback"]["cause"], "manual");
    assert_eq!(status(&broker)["rollback_generation"], Value::Null);
    assert_eq!(broker.cli(&["rollback"]).status.code(), Some(1), "not twice");
    assert_eq!(post_json(&broker, "/v1/rollback", "{}").status, 409);
}

/// A reload whose new listener has no address to listen at changes nothing at all.
#[test]
fn a_listener_without_an_address_keeps_the_old_generation() {
    for shards in SHARD_COUNTS {
        let broker = broker(shards);
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address");
        let toml = format!("{}[[listener]]\nbind = \"{address}\"\n", tagger("new.wasm"));
        broker.replace_toml(&toml);
        let refused = broker.reload();
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains(&address.to_string()), "{words}");
        let status = status(&broker);
        assert_eq!(
            (&status["generation"], &status["connections"]),
            (&1.into(), &1.into()),
            "{status}"
        );
        assert_eq!(status["on_probation_ms"], Value::Null, "there is nothing to take back");
        assert_eq!(tag(&mut client).as_deref(), Some("0001"), "the old tagger is in force");
        assert_eq!(rollbacks(&broker, "automatic"), 0.0);
        drop(taken);
        broker.reloaded();
        assert_eq!(
            tag(&mut client).as_deref(),
            Some("0002"),
            "the same file, once the address is free"
        );
    }
}

/// A rollback would bind an address again that somebody else has taken: what is decided comes back all the same, and the listeners
/// stay as they are.
#[test]
fn a_rollback_without_its_address_brings_back_what_is_decided() {
    for shards in SHARD_COUNTS {
        let address = std::net::TcpListener::bind("127.0.0.1:0")
            .expect("a free port")
            .local_addr()
            .expect("an address");
        let broker = broker_with(shards, &format!("[[listener]]\nbind = \"{address}\"\n"));
        drop(std::net::TcpStream::connect(address).expect("the second listener"));
        let mut client = Client::new(&broker, Version::V5, "c");
        client.subscribe("t", QoS::AtLeastOnce);
        assert_eq!(tag(&mut client).as_deref(), Some("0001"));
        broker.replace_toml(&failing());
        broker.reloaded();
        let _taken = wait_for("the address to be free", || std::net::TcpListener::bind(address).ok());
        wait_for("the old tagger", || {
            (tag(&mut client).as_deref() == Some("0001")).then_some(())
        });
        let after = wait_for("the rollback in the status", || {
            Some(status(&broker)).filter(|status| !status["last_rollback"].is_null())
        });
        assert_eq!(after["last_rollback"]["cause"], "automatic", "{after}");
        drop(Client::new(&broker, Version::V5, "another"));
        broker.logs("listeners stay as they are");
    }
}
