//! A disk that is full or fails: what cannot be stored is not acknowledged, what needs no disk goes on, and nothing that was
//! acknowledged before, between or after is missing.

use crate::power::Power;
use crate::random::Random;
use crate::support::*;

/// Every way in which the disk fails here, as tests/power_cut/src/faults.rs has them.
const FAULTS: [&str; 4] = ["write ENOSPC", "write SHORT", "write EIO", "sync EIO"];
/// Quota exceeded.
const NOT_STORED: u8 = 0x97;
/// Server unavailable: return code 3 of 3.1.1, as the codec reads it.
const SERVER_UNAVAILABLE: u8 = 0x88;

/// A broker on a disk that can be made to fail, and what it has acknowledged so far.
struct Scene {
    broker: Broker,
    power: Power,
    acknowledged: Vec<String>,
}

impl Scene {
    /// A durable session is subscribed to `durable/#`, and is away.
    fn new() -> Self {
        let setup = Setup::new()
            .shards(2)
            .broker("data_dir = \"data\"\ndurability = \"fsync\"");
        let power = Power::new(setup.path("data"), false);
        let broker = power.watch(setup).start();
        let (mut subscriber, _) = Client::connect(&broker, durable(Version::V5, "subscriber"));
        subscriber.subscribe("durable/#", QoS::AtLeastOnce);
        subscriber.disconnect();
        let acknowledged = Vec::new();
        Self {
            broker,
            power,
            acknowledged,
        }
    }

    /// Publishes to the durable session and expects that to succeed.
    #[track_caller]
    fn publish(&mut self, payload: &str) {
        Client::new(&self.broker, Version::V5, "publisher").publish("durable/x", payload.to_owned(), QoS::AtLeastOnce);
        self.acknowledged.push(payload.to_owned());
    }

    /// Publishes until it is acknowledged: the broker finds out by itself that the disk works again.
    fn publish_when_it_works_again(&mut self, payload: &str) {
        wait_for("the broker to store again", || {
            let mut client = Client::new(&self.broker, Version::V5, "publisher");
            let reason = client.deliver(message("durable/x", payload.to_owned(), QoS::AtLeastOnce));
            (reason < 0x80).then_some(())
        });
        self.acknowledged.push(payload.to_owned());
    }

    /// What the next broker has for the durable session: everything acknowledged, in order, and perhaps more.
    #[track_caller]
    fn expect_all_after_a_kill(self, cut_power: bool) {
        let setup = self.broker.kill9().0;
        if cut_power {
            self.power.cut(&mut Random::new(1));
        }
        self.power.let_fail("");
        let broker = setup.start();
        let (mut subscriber, answer) = Client::connect(&broker, durable(Version::V5, "subscriber"));
        assert!(answer.session_present, "the session is lost");
        for payload in &self.acknowledged {
            // What was refused is not promised, but may be there.
            while String::from_utf8_lossy(&subscriber.receive().payload) != *payload {}
        }
    }
}

/// 0x97 under 5.0; 3.1.1 has no way to say it but to close.
#[test]
fn what_cannot_be_stored_is_not_acknowledged() {
    for fault in FAULTS {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            eprintln!("-- {fault}, {qos:?}");
            let mut scene = Scene::new();
            scene.publish("before");
            scene.power.let_fail(fault);
            // The first meets the fault, the others find the broker knowing of it.
            for _ in 0..3 {
                expect_refused(&scene.broker, qos);
            }
            let mut old = Client::new(&scene.broker, Version::V311, "v311");
            old.send_publish(message("durable/x", "refused", qos));
            old.expect_end();
            scene.power.let_fail("");
            scene.publish_when_it_works_again("after");
            scene.expect_all_after_a_kill(false);
        }
    }
}

/// By an acknowledgement, or with the connection, where an error in a PUBREC would give the identifier free.
#[track_caller]
fn expect_refused(broker: &Broker, qos: QoS) {
    let mut client = Client::new(broker, Version::V5, "v5");
    let id = client.send_publish(message("durable/x", "refused", qos));
    match client.recv() {
        Packet::PubAck(answer) | Packet::PubRec(answer) => {
            assert_eq!((Some(answer.packet_id), answer.reason as u8), (id, NOT_STORED));
        }
        Packet::Disconnect(answer) => assert_eq!((answer.reason as u8, qos), (NOT_STORED, QoS::ExactlyOnce)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_broken_disk_does_not_stop_what_needs_no_disk() {
    for fault in FAULTS {
        for version in [Version::V311, Version::V5] {
            eprintln!("-- {fault}, {version:?}");
            let mut scene = Scene::new();
            scene.publish("before");
            let mut subscriber = Client::new(&scene.broker, version, "clean");
            subscriber.subscribe("clean/#", QoS::ExactlyOnce);
            scene.power.let_fail(fault);
            let mut publisher = Client::new(&scene.broker, Version::V5, "p");
            assert_eq!(
                publisher.deliver(message("durable/x", "refused", QoS::AtLeastOnce)),
                NOT_STORED
            );
            for qos in QOS {
                publisher.publish("clean/x", "served", qos);
                assert_eq!(subscriber.expect_payload("served").qos, qos);
            }
            let mut late = Client::new(&scene.broker, version, "late");
            late.subscribe("clean/#", QoS::AtMostOnce);
            late.publish("clean/x", "served", QoS::AtMostOnce);
            late.expect_payload("served");
            scene.expect_all_after_a_kill(false);
        }
    }
}

/// A session that cannot be stored is not begun, and one that was stored is not begun anew.
#[test]
fn a_broken_disk_refuses_durable_sessions() {
    for fault in FAULTS {
        eprintln!("-- {fault}");
        let mut scene = Scene::new();
        scene.publish("before");
        scene.power.let_fail(fault);
        Client::new(&scene.broker, Version::V5, "p").deliver(message("durable/x", "refused", QoS::AtLeastOnce));
        let (_, answer) = Client::try_connect(&scene.broker, durable(Version::V5, "new"));
        assert_eq!(answer.reason as u8, NOT_STORED);
        let (_, answer) = Client::try_connect(&scene.broker, durable(Version::V311, "new"));
        assert_eq!(answer.reason as u8, SERVER_UNAVAILABLE);
        scene.power.let_fail("");
        scene.publish_when_it_works_again("after");
        // Present or not: a CONNECT that met the fault was refused when its session had been made.
        Client::connect(&scene.broker, durable(Version::V5, "new"));
        scene.expect_all_after_a_kill(false);
    }
}

/// After a failed fsync the system takes the bytes for written, and the next fsync of the file succeeds without them.
#[test]
fn a_failed_fsync_is_not_made_good_by_the_next_one() {
    let mut scene = Scene::new();
    for round in 0..3 {
        scene.publish(&format!("before {round}"));
        scene.power.let_fail("sync EIO");
        let mut publisher = Client::new(&scene.broker, Version::V5, "p");
        assert_eq!(
            publisher.deliver(message("durable/x", "refused", QoS::AtLeastOnce)),
            NOT_STORED
        );
        scene.power.let_fail("");
        scene.publish_when_it_works_again(&format!("after {round}"));
    }
    scene.expect_all_after_a_kill(true);
}

#[test]
fn killed_while_the_disk_is_broken_it_loses_nothing_acknowledged() {
    for fault in FAULTS {
        eprintln!("-- {fault}");
        let mut scene = Scene::new();
        scene.publish("before");
        scene.power.let_fail(fault);
        let mut publisher = Client::new(&scene.broker, Version::V5, "p");
        assert_eq!(
            publisher.deliver(message("durable/x", "refused", QoS::AtLeastOnce)),
            NOT_STORED
        );
        scene.expect_all_after_a_kill(true);
    }
}
