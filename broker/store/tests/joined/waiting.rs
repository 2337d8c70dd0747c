//! Who waits for the store, for how long, and who does not.

use crate::bench::{Bench, C, PARTITIONS, ack, each, partition_of, publish};
use nervewire_codec::{Packet, Version};
use nervewire_core::store::{Durability, Partition};

/// A client whose CONNACK came.
fn lasting(b: &mut Bench, client_id: &str) -> C {
    let c = b.connect_lasting(Version::V5, client_id);
    b.expect(c, &["CONNACK Success"]);
    c
}

fn brief(b: &mut Bench, client_id: &str) -> C {
    let c = b.connect_brief(Version::V5, client_id);
    b.expect(c, &["CONNACK Success"]);
    c
}

fn subscribed(b: &mut Bench, client_id: &str, topic: &str, level: u8) -> C {
    let c = lasting(b, client_id);
    b.subscribe(c, topic, level);
    assert_eq!(b.received(c).len(), 1);
    c
}

#[test]
fn the_clients_of_these_tests_live_in_different_partitions_and_shards() {
    let partitions = ["s", "pub", "a", "b"].map(partition_of);
    for (n, partition) in partitions.iter().enumerate() {
        assert!(partition.0 < PARTITIONS);
        assert!(!partitions[..n].contains(partition), "{partitions:?}");
    }
    assert_ne!(partition_of("s").owner(3), partition_of("pub").owner(3));
}

#[test]
fn puback_waits_until_the_message_is_stored_for_a_durable_target() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "t", 1), brief(b, "pub"));
        b.hold();
        b.publish(p, 1, 1, "t", "m");
        b.expect(s, &["PUBLISH m at 1"]);
        b.expect(p, &[]);
        b.release(partition_of("s"));
        b.expect(p, &["PUBACK 1 Success"]);
        b.send(s, Packet::PubAck(ack(1)));
        let records = b.records(partition_of("s"));
        assert_eq!(records, ["Session", "Subscribed", "Enqueued", "Acknowledged"]);
    });
}

#[test]
fn acknowledgements_keep_the_order_of_the_publishes() {
    each(|b| {
        let (a, c) = (subscribed(b, "a", "a", 1), subscribed(b, "b", "b", 1));
        let p = brief(b, "pub");
        b.hold();
        b.publish(p, 1, 1, "a", "to a");
        b.publish(p, 2, 2, "b", "to b");
        b.publish(p, 1, 3, "nobody", "to nobody");
        b.release(partition_of("b"));
        b.expect(p, &[]);
        b.release(partition_of("a"));
        b.expect(p, &["PUBACK 1 Success", "PUBREC 2 Success", "PUBACK 3 Success"]);
        b.expect(a, &["PUBLISH to a at 1"]);
        b.expect(c, &["PUBLISH to b at 1"]);
    });
}

#[test]
fn what_need_not_wait_for_the_store_waits_for_those_before_it() {
    each(|b| {
        subscribed(b, "s", "t", 1);
        let p = lasting(b, "pub");
        b.publish(p, 2, 7, "nobody", "m");
        b.expect(p, &["PUBREC 7 Success"]);
        b.hold();
        b.publish(p, 1, 8, "t", "m");
        b.publish(p, 2, 7, "nobody", "m");
        b.expect(p, &[]);
        b.release_all();
        b.expect(p, &["PUBACK 8 Success", "PUBREC 7 Success"]);
    });
}

#[test]
fn puback_waits_for_every_partition_with_targets() {
    each(|b| {
        subscribed(b, "a", "t", 1);
        subscribed(b, "b", "t", 1);
        let p = brief(b, "pub");
        b.hold();
        b.publish(p, 1, 1, "t", "m");
        b.release(partition_of("a"));
        b.expect(p, &[]);
        b.release(partition_of("b"));
        b.expect(p, &["PUBACK 1 Success"]);
    });
}

#[test]
fn puback_waits_for_the_member_of_a_shared_subscription_that_gets_the_message() {
    each(|b| {
        for name in ["a", "b", "s", "pub"] {
            subscribed(b, name, "$share/g/t", 1);
        }
        let p = brief(b, "other");
        for (packet_id, name) in (1..).zip(["a", "b", "s", "pub"]) {
            b.hold();
            b.publish(p, 1, packet_id, "t", "m");
            (0..PARTITIONS)
                .map(Partition)
                .filter(|partition| *partition != partition_of(name))
                .for_each(|partition| b.release(partition));
            b.expect(p, &[]);
            b.release(partition_of(name));
            b.expect(p, &[&format!("PUBACK {packet_id} Success")]);
        }
    });
}

#[test]
fn puback_waits_for_the_retained_message() {
    each(|b| {
        let p = brief(b, "pub");
        b.hold();
        for (packet_id, payload) in [(1, "kept"), (2, "")] {
            let mut message = publish(1, packet_id, "t", payload);
            message.retain = true;
            b.send(p, Packet::Publish(message));
        }
        b.expect(p, &[]);
        b.release(Partition::of_topic(None, "t"));
        b.expect(p, &["PUBACK 1 Success", "PUBACK 2 Success"]);
        let records = b.records(Partition::of_topic(None, "t"));
        assert_eq!(records, ["Retained", "RetainedDeleted"]);
    });
}

#[test]
fn a_durable_qos_2_message_is_not_routed_before_its_identifier_is_stored() {
    each(|b| {
        let s = brief(b, "s");
        b.subscribe(s, "t", 0);
        b.expect(s, &["SUBACK Success"]);
        let p = lasting(b, "pub");
        b.hold();
        b.publish(p, 2, 7, "t", "m");
        b.expect(s, &[]);
        b.release(partition_of("pub"));
        b.expect(s, &["PUBLISH m at 0"]);
        b.expect(p, &["PUBREC 7 Success"]);
    });
}

#[test]
fn pubrec_waits_for_the_identifier_and_then_for_the_targets() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "t", 1), lasting(b, "pub"));
        b.hold();
        b.publish(p, 2, 7, "t", "m");
        b.release(partition_of("pub"));
        b.expect(s, &["PUBLISH m at 1"]);
        b.expect(p, &[]);
        b.release(partition_of("s"));
        b.expect(p, &["PUBREC 7 Success"]);
        b.hold();
        b.send(p, Packet::PubRel(ack(7)));
        b.expect(p, &[]);
        b.release(partition_of("pub"));
        b.expect(p, &["PUBCOMP 7 Success"]);
        let records = b.records(partition_of("pub"));
        assert_eq!(records, ["Session", "Received", "Routed", "Released"]);
    });
}

#[test]
fn a_repeated_qos_2_message_is_acknowledged_no_earlier_and_routed_once() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "t", 1), lasting(b, "pub"));
        b.hold();
        b.publish(p, 2, 7, "t", "m");
        b.release(partition_of("pub"));
        b.expect(s, &["PUBLISH m at 1"]);
        b.publish(p, 2, 7, "t", "m");
        b.expect(p, &[]);
        b.release(partition_of("s"));
        b.expect(p, &["PUBREC 7 Success", "PUBREC 7 Success"]);
        b.expect(s, &[]);
        b.publish(p, 2, 7, "t", "m");
        b.expect(p, &["PUBREC 7 Success"]);
        b.expect(s, &[]);
    });
}

#[test]
fn connack_suback_and_unsuback_of_a_durable_session_wait() {
    each(|b| {
        b.hold();
        for version in [Version::V5, Version::V311] {
            let name = if version == Version::V5 { "a" } else { "b" };
            b.hold();
            let c = b.connect_lasting(version, name);
            b.subscribe(c, "t", 1);
            b.expect(c, &[]);
            assert_eq!(b.unread(c), 1, "nothing is read before CONNACK");
            b.release(partition_of(name));
            b.expect(c, &["CONNACK Success", "SUBACK GrantedQoS1"]);
            b.hold();
            b.subscribe(c, "u", 0);
            b.unsubscribe(c, "t");
            b.expect(c, &[]);
            b.release(partition_of(name));
            b.expect(c, &["SUBACK Success", "UNSUBACK"]);
            let records = b.records(partition_of(name));
            assert_eq!(records, ["Session", "Subscribed", "Subscribed", "Unsubscribed"]);
        }
    });
}

#[test]
fn nothing_is_delivered_before_connack() {
    each(|b| {
        let s = subscribed(b, "s", "t", 1);
        b.lose(s);
        let p = brief(b, "pub");
        b.publish(p, 1, 1, "t", "offline");
        b.expect(p, &["PUBACK 1 Success"]);
        b.hold();
        let s = b.connect_lasting(Version::V5, "s");
        b.publish(p, 0, 0, "t", "zero");
        b.publish(p, 1, 2, "t", "one");
        b.expect(s, &[]);
        b.release_all();
        let all = [
            "CONNACK Success",
            "PUBLISH offline at 1",
            "PUBLISH zero at 0",
            "PUBLISH one at 1",
        ];
        b.expect(s, &all);
    });
}

#[test]
fn a_connection_that_is_taken_over_before_its_connack_hears_nothing() {
    each(|b| {
        b.hold();
        let first = b.connect_lasting(Version::V5, "s");
        let second = b.connect_lasting(Version::V5, "s");
        b.expect(first, &[]);
        assert!(!b.is_open(first));
        b.release_all();
        b.expect(second, &["CONNACK Success"]);
    });
}

#[test]
fn a_clean_start_waits_until_the_old_session_is_gone() {
    each(|b| {
        let s = lasting(b, "s");
        b.lose(s);
        b.hold();
        let s = b.connect_brief(Version::V5, "s");
        b.expect(s, &[]);
        b.release(partition_of("s"));
        b.expect(s, &["CONNACK Success"]);
        assert_eq!(b.records(partition_of("s")), ["Session", "Session", "Gone"]);
    });
}

#[test]
fn outgoing_qos_2_waits_for_its_identifier_and_pubrel_for_the_hand_over() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "#", 2), brief(b, "pub"));
        b.hold();
        b.publish(p, 2, 1, "t", "two");
        b.publish(p, 1, 2, "t", "one");
        b.publish(p, 0, 0, "t", "zero");
        b.expect(s, &["PUBLISH zero at 0"]);
        b.release(partition_of("s"));
        b.expect(s, &["PUBLISH two at 2", "PUBLISH one at 1"]);
        b.hold();
        b.send(s, Packet::PubRec(ack(1)));
        b.expect(s, &[]);
        b.release(partition_of("s"));
        b.expect(s, &["PUBREL 1 Success"]);
        b.send(s, Packet::PubComp(ack(1)));
        let records = b.records(partition_of("s"));
        let all = [
            "Session",
            "Subscribed",
            "Enqueued",
            "Sent",
            "Enqueued",
            "HandedOver",
            "Completed",
        ];
        assert_eq!(records, all);
    });
}

#[test]
fn redelivery_keeps_the_order_and_waits_again() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "#", 2), brief(b, "pub"));
        b.publish(p, 2, 1, "t", "1");
        b.publish(p, 1, 2, "t", "2");
        b.publish(p, 2, 3, "t", "3");
        b.lose(s);
        let s = b.connect_lasting(Version::V5, "s");
        let all = [
            "CONNACK Success",
            "PUBLISH 1 at 2 again",
            "PUBLISH 2 at 1 again",
            "PUBLISH 3 at 2 again",
        ];
        b.expect(s, &all);
    });
}

#[test]
fn qos_0_and_sessions_that_end_with_their_connection_never_wait() {
    each(|b| {
        let durable = subscribed(b, "a", "zero", 1);
        b.hold();
        let s = b.connect_brief(Version::V5, "s");
        b.subscribe(s, "#", 2);
        b.expect(s, &["CONNACK Success", "SUBACK GrantedQoS2"]);
        let p = b.connect_brief(Version::V311, "pub");
        b.publish(p, 0, 0, "zero", "0");
        b.publish(p, 1, 1, "t", "1");
        b.publish(p, 2, 2, "t", "2");
        b.send(p, Packet::PubRel(ack(2)));
        b.expect(
            p,
            &[
                "CONNACK Success",
                "PUBACK 1 Success",
                "PUBREC 2 Success",
                "PUBCOMP 2 Success",
            ],
        );
        b.expect(s, &["PUBLISH 0 at 0", "PUBLISH 1 at 1", "PUBLISH 2 at 2"]);
        b.send(s, Packet::PubRec(ack(2)));
        b.expect(s, &["PUBREL 2 Success"]);
        b.unsubscribe(s, "#");
        b.expect(s, &["UNSUBACK"]);
        b.expect(durable, &["PUBLISH 0 at 0"]);
    });
}

#[test]
fn a_client_with_too_many_acknowledgements_to_come_is_not_read() {
    each(|b| {
        subscribed(b, "s", "t", 1);
        let p = brief(b, "pub");
        b.hold();
        for packet_id in 1..=1_100 {
            b.publish(p, 1, packet_id, "t", "m");
        }
        assert_eq!(b.unread(p), 76);
        b.expect(p, &[]);
        b.release_all();
        assert_eq!(b.unread(p), 0);
        let expected: Vec<String> = (1..=1_100).map(|n| format!("PUBACK {n} Success")).collect();
        assert_eq!(b.received(p), expected);
    });
}

#[test]
fn a_client_that_asks_for_the_same_pubrel_without_end_is_not_read_either() {
    each(|b| {
        let (s, p) = (subscribed(b, "s", "t", 2), brief(b, "pub"));
        b.publish(p, 2, 1, "t", "m");
        b.expect(s, &["PUBLISH m at 2"]);
        b.hold();
        for _ in 0..1_100 {
            b.send(s, Packet::PubRec(ack(1)));
        }
        assert_eq!(b.unread(s), 76);
        b.release_all();
        assert_eq!((b.unread(s), b.received(s).len()), (0, 1_100));
    });
}

#[test]
fn with_durability_memory_nothing_is_appended_and_nothing_waits() {
    for shards in [1, 3] {
        let b = &mut Bench::new(shards, Durability::Memory);
        b.hold();
        let (s, p) = (subscribed(b, "s", "#", 2), lasting(b, "pub"));
        b.publish(p, 1, 1, "t", "1");
        let mut kept = publish(2, 2, "t", "2");
        kept.retain = true;
        b.send(p, Packet::Publish(kept));
        b.send(p, Packet::PubRel(ack(2)));
        b.expect(p, &["PUBACK 1 Success", "PUBREC 2 Success", "PUBCOMP 2 Success"]);
        b.expect(s, &["PUBLISH 1 at 1", "PUBLISH 2 at 2"]);
        b.unsubscribe(s, "#");
        b.lose(s);
        assert!(b.is_empty());
    }
}
