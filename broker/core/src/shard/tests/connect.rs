//! CONNECT, sessions and take-over (MQTT 5.0 sections 3.1, 3.2, 4.1).

use super::scene::{client, publish, text, v5, v311};
use super::{each, each_version, each_with};
use nervewire_codec::{Packet, ReasonCode, Version};

// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.2.2-2], [MQTT-3.2.2-3]
#[test]
fn a_session_is_present_unless_the_client_starts_clean() {
    each_version(|b, version| {
        let (c, connack) = b.connect_for(client(version, "a").lasting());
        assert!(!connack.session_present);
        b.subscribe(c, "t", 1);
        b.disconnect(c);
        let (c, connack) = b.connect_for(client(version, "a").lasting());
        assert!(connack.session_present);
        assert_eq!(b.publish(c, "t", 1, "kept"), Some(ReasonCode::Success));
        assert_eq!(b.payloads(c), ["kept"]);
        b.disconnect(c);
        let (c, connack) = b.connect_for(client(version, "a").lasting().clean_start(true));
        assert!(!connack.session_present);
        b.publish(c, "t", 1, "lost");
        assert!(b.payloads(c).is_empty());
    });
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        assert_eq!(b.subscribe(c, "t", 1), ReasonCode::GrantedQoS1);
        b.lose(c);
        assert_eq!(b.sessions(), 0);
        assert_eq!(b.total(|c| c.subscriptions), 0);
        assert!(!b.connect_for(client(version, "a").lasting()).1.session_present);
    });
}

// [MQTT-3.1.4-3]
#[test]
fn a_second_connection_takes_the_session_over() {
    each_version(|b, version| {
        let first = b.connect(client(version, "a").lasting());
        b.subscribe(first, "t", 1);
        let (second, connack) = b.connect_for(client(version, "a").lasting());
        assert!(connack.session_present);
        let told = (version == Version::V5).then_some(ReasonCode::SessionTakenOver);
        assert_eq!(b.farewell(first), told);
        b.publish(second, "t", 1, "x");
        assert_eq!(b.payloads(second), ["x"]);
        assert_eq!((b.sessions(), b.total(|c| c.connections)), (1, 1));
        assert_eq!(b.total(|c| c.disconnects_taken_over), 1);
    });
}

#[test]
fn a_clean_session_that_is_taken_over_ends() {
    each_version(|b, version| {
        let first = b.connect(client(version, "a"));
        b.subscribe(first, "t", 1);
        let (second, connack) = b.connect_for(client(version, "a").lasting());
        assert!(!connack.session_present);
        b.publish(second, "t", 1, "x");
        assert!(b.payloads(second).is_empty());
    });
}

// [MQTT-3.2.2-16]
#[test]
fn an_assigned_client_identifier_is_told() {
    each(|b| {
        let (_, connack) = b.connect_for(v5("auto-1").assigned());
        assert_eq!(
            connack.properties.unwrap().assigned_client_identifier,
            Some(text("auto-1"))
        );
        let (_, connack) = b.connect_for(v5("own"));
        assert_eq!(connack.properties.unwrap().assigned_client_identifier, None);
    });
}

// [MQTT-3.2.2-21], [MQTT-3.1.2-21]
#[test]
fn a_server_keep_alive_is_told_where_it_differs() {
    each_with(
        |config| config.max_keep_alive_s = 60,
        |b| {
            for (asked, told) in [(0, Some(60)), (61, Some(60)), (60, None), (10, None)] {
                let (_, connack) = b.connect_for(v5("a").keep_alive(asked));
                assert_eq!(connack.properties.unwrap().server_keep_alive, told, "asked {asked}");
            }
        },
    );
}

// [MQTT-3.1.2-28]
#[test]
fn response_information_is_told_to_those_who_ask() {
    each_with(
        |config| config.response_information = Some("reply".into()),
        |b| {
            let (_, connack) = b.connect_for(v5("a").with(|p| p.request_response_information = Some(true)));
            assert_eq!(connack.properties.unwrap().response_information, Some(text("reply/a")));
            let (_, connack) = b.connect_for(v5("a"));
            assert_eq!(connack.properties.unwrap().response_information, None);
        },
    );
}

#[test]
fn there_is_no_response_information_where_none_is_configured() {
    each(|b| {
        let (_, connack) = b.connect_for(v5("a").with(|p| p.request_response_information = Some(true)));
        assert_eq!(connack.properties.unwrap().response_information, None);
    });
}

// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_packet_is_a_protocol_error() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a"));
        let connect = client(version, "a").accepted().connect;
        b.send(c, Packet::Connect(Box::new(connect)));
        let told = (version == Version::V5).then_some(ReasonCode::ProtocolError);
        assert_eq!(b.farewell(c), told);
    });
}

// [MQTT-3.1.2-25]
#[test]
fn a_client_whose_connack_is_larger_than_it_accepts_is_not_let_in() {
    each(|b| {
        let c = b.open(v5("a").with(|p| p.maximum_packet_size = Some(8)));
        assert_eq!(b.connack(c).reason, ReasonCode::PacketTooLarge);
        assert!(!b.is_open(c));
        let c = b.open(v5("a").with(|p| p.maximum_packet_size = Some(4)));
        assert!(b.take(c).is_empty() && !b.is_open(c), "not even that");
        assert_eq!((b.sessions(), b.total(|c| c.connects_refused)), (0, 2));
    });
}

#[test]
fn sessions_of_both_versions_are_the_same_session() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        b.subscribe_all(c, vec![super::scene::filter("t", 2)], Some(7));
        b.disconnect(c);
        let (c, connack) = b.connect_for(v311("a").lasting());
        assert!(connack.session_present);
        b.publish(c, "t", 2, "x");
        assert_eq!(b.payloads(c), ["x"]);
    });
}

#[test]
fn a_kicked_client_is_told_and_its_session_stays() {
    each(|b| {
        let c = b.connect(v5("a").lasting());
        let now = b.now;
        let kicked = b
            .shards
            .iter_mut()
            .filter_map(|shard| shard.kick(now, None, "a").then_some(()))
            .count();
        b.settle();
        assert_eq!(kicked, 1);
        assert_eq!(b.farewell(c), Some(ReasonCode::AdministrativeAction));
        assert_eq!(b.sessions(), 1);
    });
}

#[test]
fn a_banned_client_is_disconnected_and_its_session_stays() {
    each_version(|b, version| {
        let (c, other) = (
            b.connect(client(version, "a").lasting()),
            b.connect(client(version, "b")),
        );
        let now = b.now;
        let is_a = |client: &crate::hook::Client| &*client.client_id == "a";
        let ended: usize = b.shards.iter_mut().map(|shard| shard.banish(now, is_a)).sum();
        b.settle();
        assert_eq!(ended, 1);
        assert!(!b.links[c].open && b.links[other].open);
        if version == Version::V5 {
            assert_eq!(b.farewell(c), Some(ReasonCode::AdministrativeAction));
        }
        assert_eq!(b.sessions(), 2);
    });
}

#[test]
fn a_client_that_is_banned_while_its_connect_is_judged_is_told_so() {
    each(|b| {
        b.set_policy(super::script::policy(1, 1, 0));
        b.script = Box::new(|_| None);
        let c = b.open(v5("a"));
        let now = b.now;
        let ended: usize = b.shards.iter_mut().map(|shard| shard.banish(now, |_| true)).sum();
        b.settle();
        assert_eq!(ended, 1);
        let packets = b.take(c);
        assert!(
            matches!(&packets[..], [Packet::ConnAck(ack)] if ack.reason == ReasonCode::Banned),
            "{packets:?}"
        );
        assert!(!b.links[c].open);
        assert_eq!(b.sessions(), 0);
    });
}

#[test]
fn sessions_can_be_looked_at() {
    each(|b| {
        let c = b.connect(v5("a").lasting().keep_alive(20));
        b.subscribe(c, "t", 1);
        b.disconnect(c);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "x");
        let found: Vec<_> = b.shards.iter().flat_map(|shard| shard.session(None, "a")).collect();
        let [info] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (info.connected, info.subscriptions, info.queued_messages),
            (false, 1, 1)
        );
        assert_eq!(info.session_expiry_s, 3_600);
        assert_eq!(b.shards.iter().flat_map(|shard| shard.sessions(0, 10)).count(), 2);
    });
}

#[test]
fn a_graceful_shutdown_sends_wills_and_tells_every_client() {
    each_version(|b, version| {
        let watcher = b.connect(client(version, "w"));
        b.subscribe(watcher, "will/#", 1);
        b.connect(client(version, "a").will(super::scene::will("will/a", 1, "bye")));
        let away = b.connect(v5("b").lasting().will({
            let mut will = super::scene::will("will/b", 1, "later");
            will.properties.get_or_insert_default().will_delay_interval = Some(1_000);
            will
        }));
        b.lose(away);
        let now = b.now;
        b.shards.iter_mut().for_each(|shard| shard.settle_wills(now));
        b.settle();
        let mut wills = b.payloads(watcher);
        wills.sort();
        // What is in the store has its time after the restart.
        let stored = b.shards[0].waits_for_store();
        assert_eq!(wills, if stored { vec!["bye"] } else { vec!["bye", "later"] });
        b.shards.iter_mut().for_each(|shard| shard.shut_down(now));
        b.settle();
        let told = (version == Version::V5).then_some(ReasonCode::ServerShuttingDown);
        assert_eq!(b.farewell(watcher), told);
        assert_eq!(b.total(|c| c.connections), 0);
        assert!(b.payloads(watcher).is_empty(), "each will is sent once");
    });
}

#[test]
fn what_a_client_sends_behind_its_connect_waits_for_the_connack() {
    each(|b| {
        b.set_policy(super::script::policy(1, 1, 0));
        b.hold_calls();
        let c = b.open(v5("a"));
        b.send(c, Packet::Publish(publish("t", 0, "early")));
        assert_eq!(b.links[c].unfed.len(), 1);
        b.script = Box::new(|_| panic!("nothing more to ask"));
        b.answer_held(super::Answer::Rules(vec![Ok(Some(vec![super::script::rule(
            crate::hook::Effect::Allow,
            "#",
        )]))]));
        assert_eq!(b.connack(c).reason, ReasonCode::Success);
        assert!(b.links[c].unfed.is_empty());
        assert_eq!(b.total(|c| c.received_messages[0]), 1);
    });
}
