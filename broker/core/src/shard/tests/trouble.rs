//! A store that is full or takes nothing: nothing is acknowledged that is not stored, and what needs no store goes on.

use super::scene::{ack, client, filter, publish, v5, v311};
use super::{Broker, C, each_with};
use crate::store::{AppendFailed, Durability};
use nervewire_codec::{Packet, Publish, ReasonCode, Version};

const STUCK: AppendFailed = AppendFailed::Doubtful;
const REFUSED: Option<ReasonCode> = Some(ReasonCode::QuotaExceeded);
const ALL: [AppendFailed; 3] = [AppendFailed::Full, AppendFailed::StaleOwner, STUCK];

/// With a store, with one shard and with three.
fn stored(test: impl Fn(&mut Broker)) {
    each_with(|config| config.durability = Durability::Stored, test);
}

/// A durable session that is subscribed to `t`.
fn subscriber(b: &mut Broker, level: u8) -> C {
    let s = b.connect(v5("s").lasting());
    b.subscribe(s, "t", level);
    s
}

/// A PUBLISH that is not the packet's first.
fn again(b: &mut Broker, c: C, packet_id: u16) {
    let packet = Publish {
        dup: true,
        packet_id: Some(super::scene::id(packet_id)),
        ..publish("t", 2, "m")
    };
    b.send(c, Packet::Publish(packet));
}

fn acknowledged(b: &mut Broker, c: C) -> Vec<(bool, ReasonCode)> {
    let acks = b.pick(c, |packet| matches!(packet, Packet::PubAck(_) | Packet::PubRec(_)));
    let told = |packet: &Packet| match packet {
        Packet::PubAck(ack) => (true, ack.reason),
        Packet::PubRec(ack) => (false, ack.reason),
        other => panic!("{other:?}"),
    };
    acks.iter().map(told).collect()
}

#[test]
fn a_message_for_a_durable_session_is_refused_and_reaches_nobody_of_them() {
    for trouble in ALL {
        for level in [1, 2] {
            stored(|b| {
                let s = subscriber(b, 2);
                let p = b.connect(v5("pub"));
                b.trouble(Some(trouble));
                assert_eq!(b.publish(p, "t", level, "refused"), REFUSED);
                assert!(b.is_open(p));
                b.trouble(None);
                assert_eq!(b.publish(p, "t", level, "taken"), Some(ReasonCode::Success));
                assert_eq!(b.payloads(s), ["taken"]);
                b.check_kept();
            });
        }
    }
}

#[test]
fn a_publisher_of_3_1_1_is_not_acknowledged_but_disconnected() {
    for trouble in ALL {
        for level in [1, 2] {
            stored(|b| {
                subscriber(b, 1);
                let p = b.connect(v311("pub"));
                b.trouble(Some(trouble));
                assert_eq!(b.publish(p, "t", level, "m"), None);
                assert!(!b.is_open(p));
            });
        }
    }
}

#[test]
fn a_qos_2_message_of_a_durable_session_is_refused_before_its_identifier_is_kept() {
    for trouble in ALL {
        stored(|b| {
            let s = b.connect(v5("s"));
            b.subscribe(s, "t", 2);
            let p = b.connect(v5("pub").lasting());
            b.trouble(Some(trouble));
            let packet = || Publish {
                packet_id: Some(super::scene::id(7)),
                ..publish("t", 2, "m")
            };
            assert_eq!(b.publish_packet(p, packet()), REFUSED);
            assert!(b.payloads(s).is_empty());
            b.trouble(None);
            assert_eq!(b.publish_packet(p, packet()), Some(ReasonCode::Success));
            assert_eq!(b.payloads(s), ["m"]);
        });
    }
}

#[test]
fn what_needs_no_store_goes_on() {
    for trouble in ALL {
        stored(|b| {
            let durable = subscriber(b, 0);
            b.trouble(Some(trouble));
            for version in [Version::V5, Version::V311] {
                let s = b.connect(client(version, "a"));
                b.subscribe(s, "t", 2);
                let p = b.connect(client(version, "pub"));
                b.publish(p, "t", 0, "0");
                assert_eq!(b.publish(p, "t", 1, "1"), Some(ReasonCode::Success));
                assert_eq!(b.publish(p, "t", 2, "2"), Some(ReasonCode::Success));
                assert_eq!(b.payloads(s), ["0", "1", "2"]);
                assert_eq!(b.payloads(durable), ["0", "1", "2"]);
                b.unsubscribe(s, &["t"]);
            }
        });
    }
}

#[test]
fn a_message_reaches_those_who_need_no_store_although_it_is_refused() {
    stored(|b| {
        subscriber(b, 1);
        let brief = b.connect(v5("a"));
        b.subscribe(brief, "t", 1);
        let p = b.connect(v5("pub"));
        b.trouble(Some(STUCK));
        assert_eq!(b.publish(p, "t", 1, "m"), REFUSED);
        assert_eq!(b.payloads(brief), ["m"]);
    });
}

#[test]
fn a_retained_message_is_refused_and_the_one_before_stays() {
    for trouble in ALL {
        stored(|b| {
            let p = b.connect(v5("pub"));
            b.publish_retained(p, "t", 1, "before");
            b.trouble(Some(trouble));
            assert_eq!(b.publish_retained(p, "t", 1, "after"), REFUSED);
            assert_eq!(b.publish_retained(p, "t", 0, "after"), None);
            assert_eq!(b.total(|c| c.retained_refused), 2);
            b.trouble(None);
            let s = b.connect(v5("a"));
            b.subscribe(s, "t", 1);
            assert_eq!(b.payloads(s), ["before"]);
        });
    }
}

#[test]
fn who_waits_when_the_store_gets_stuck_is_told_at_once() {
    stored(|b| {
        subscriber(b, 1);
        let p = b.connect(v5("pub"));
        b.store_held = true;
        for _ in 0..2 {
            assert_eq!(b.publish(p, "t", 1, "m"), None);
        }
        b.trouble(Some(STUCK));
        let refused = (true, ReasonCode::QuotaExceeded);
        assert_eq!(acknowledged(b, p), [refused, refused]);
    });
}

#[test]
fn a_full_store_still_completes_what_was_appended() {
    stored(|b| {
        let s = subscriber(b, 2);
        let p = b.connect(v5("pub"));
        b.store_held = true;
        assert_eq!(b.publish(p, "t", 2, "m"), None);
        b.trouble(Some(AppendFailed::Full));
        b.store_held = false;
        b.settle();
        assert_eq!(acknowledged(b, p), [(false, ReasonCode::Success)]);
        assert_eq!(b.payloads(s), ["m"]);
        assert_eq!(b.total(|c| c.queued_messages), 0, "acknowledged, which makes room");
        b.check_kept();
    });
}

#[test]
fn a_qos_2_message_under_way_keeps_its_identifier_and_is_acknowledged_when_it_comes_again() {
    stored(|b| {
        let s = subscriber(b, 2);
        let p = b.connect(v5("pub").lasting());
        b.store_held = true;
        again(b, p, 7);
        b.trouble(Some(STUCK));
        assert!(acknowledged(b, p).is_empty(), "an error would free the identifier");
        assert_eq!(b.farewell(p), REFUSED);
        b.store_held = false;
        b.trouble(None);
        let p = b.connect(v5("pub").lasting());
        again(b, p, 7);
        assert_eq!(acknowledged(b, p), [(false, ReasonCode::Success)]);
        assert_eq!(b.payloads(s), ["m"], "routed when its identifier was durable");
        b.check_kept();
    });
}

#[test]
fn a_message_that_we_own_is_taken_in_all_partitions_whatever_the_trouble() {
    stored(|b| {
        let s = subscriber(b, 1);
        let p = b.connect(v5("pub").lasting());
        b.store_held = true;
        again(b, p, 7);
        b.trouble(Some(AppendFailed::Full));
        b.store_held = false;
        b.settle();
        assert_eq!(acknowledged(b, p), [(false, ReasonCode::Success)]);
        assert_eq!(b.payloads(s), ["m"]);
    });
}

#[test]
fn deliveries_to_durable_sessions_pause_and_go_on_in_order() {
    stored(|b| {
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(1)));
        b.manual(s);
        b.subscribe(s, "t", 1);
        let p = b.connect(v5("pub"));
        for payload in ["1", "2", "3"] {
            b.publish(p, "t", 1, payload);
        }
        assert_eq!(b.payloads(s), ["1"]);
        b.trouble(Some(STUCK));
        b.send(s, Packet::PubAck(ack(1, ReasonCode::Success)));
        b.publish(p, "t", 0, "0");
        assert_eq!(b.payloads(s), ["0"], "QoS 0 needs no store");
        b.trouble(None);
        assert_eq!(b.payloads(s), ["2"]);
        b.check_kept();
    });
}

#[test]
fn a_step_of_a_durable_client_that_could_not_be_stored_ends_its_connection() {
    let steps: [fn(&mut Broker, C); 4] = [
        |b, c| b.send(c, Packet::PubRec(ack(1, ReasonCode::Success))),
        |b, c| b.send(c, Packet::PubRel(ack(9, ReasonCode::Success))),
        |b, c| {
            let packet_id = b.packet_id(c);
            let filters = vec![super::scene::text("t")];
            let properties = None;
            b.send(
                c,
                Packet::Unsubscribe(nervewire_codec::Unsubscribe {
                    packet_id,
                    properties,
                    filters,
                }),
            );
        },
        |b, c| again(b, c, 9),
    ];
    for (n, step) in steps.into_iter().enumerate() {
        stored(|b| {
            let c = subscriber(b, 2);
            b.manual(c);
            let p = b.connect(v5("pub"));
            b.publish(p, "t", 2, "m");
            assert_eq!(b.payloads(c), ["m"]);
            b.store_held = n == 3;
            again(b, c, 9);
            b.trouble(Some(STUCK));
            if n < 3 {
                step(b, c);
            }
            assert_eq!(b.farewell(c), REFUSED);
            b.store_held = false;
            b.trouble(None);
            b.check_kept();
        });
    }
}

#[test]
fn acknowledgements_keep_the_order_of_the_publishes_when_some_are_refused() {
    stored(|b| {
        subscriber(b, 1);
        let p = b.connect(v5("pub"));
        b.trouble(Some(STUCK));
        b.mesh_held = true;
        for topic in ["nobody", "t", "nobody"] {
            let packet_id = Some(b.packet_id(p));
            let packet = Publish {
                packet_id,
                ..publish(topic, 1, "m")
            };
            b.send(p, Packet::Publish(packet));
        }
        b.mesh_held = false;
        b.settle();
        let (taken, refused) = ((true, ReasonCode::Success), (true, ReasonCode::QuotaExceeded));
        assert_eq!(acknowledged(b, p), [taken, refused, taken]);
    });
}

#[test]
fn a_will_of_a_stored_session_reaches_durable_sessions_all_the_same() {
    stored(|b| {
        let s = subscriber(b, 1);
        let w = b.connect(v5("a").lasting().will(super::scene::will("t", 1, "stored")));
        let brief = b.connect(v5("b").will(super::scene::will("t", 1, "brief")));
        b.trouble(Some(STUCK));
        b.lose(w);
        b.lose(brief);
        b.trouble(None);
        assert_eq!(b.payloads(s), ["stored"]);
        b.check_kept();
    });
}

#[test]
fn a_connect_whose_session_cannot_be_stored_is_refused() {
    for version in [Version::V311, Version::V5] {
        stored(|b| {
            let c = b.connect(client(version, "a").lasting());
            b.connect(client(version, "b").lasting());
            let lasting = |name| client(version, name).lasting();
            // As return code 3 under 3.1.1.
            let refused = match version {
                Version::V5 => ReasonCode::QuotaExceeded,
                _ => ReasonCode::ServerUnavailable,
            };
            b.trouble(Some(STUCK));
            for who in [
                lasting("new"),
                lasting("a"),
                client(version, "a"),
                lasting("b").clean_start(true),
            ] {
                let c = b.open(who);
                assert_eq!(b.connack(c).reason, refused);
            }
            assert!(b.is_open(c), "who is there stays");
            b.connect(client(version, "clean"));
            assert_eq!(b.sessions(), 3);
            b.trouble(Some(AppendFailed::Full));
            let c = b.open(lasting("new"));
            assert_eq!(b.connack(c).reason, refused);
            // Only so can a full store be emptied.
            for who in [lasting("a"), client(version, "b"), client(version, "other")] {
                b.connect(who);
            }
            b.trouble(None);
            b.connect(lasting("new"));
        });
    }
}

#[test]
fn the_filters_of_a_durable_session_are_refused_and_nothing_changes() {
    for trouble in ALL {
        stored(|b| {
            let s = subscriber(b, 1);
            let old = b.connect(v311("a").lasting());
            let clean = b.connect(v5("c"));
            b.trouble(Some(trouble));
            let filters = vec![filter("u", 1), filter("v", 2)];
            assert_eq!(b.subscribe_all(s, filters, None), [ReasonCode::QuotaExceeded; 2]);
            assert_eq!(b.subscribe(old, "u", 1), ReasonCode::UnspecifiedError);
            assert_eq!(b.subscribe(clean, "u", 1), ReasonCode::GrantedQoS1);
            assert_eq!(b.total(|c| c.subscriptions), 2);
            b.trouble(None);
            assert_eq!(b.subscribe(s, "u", 1), ReasonCode::GrantedQoS1);
        });
    }
}

#[test]
fn what_only_frees_something_happens_in_trouble_and_is_durable_later() {
    for trouble in ALL {
        stored(|b| {
            let short = |p: &mut nervewire_codec::Properties| p.session_expiry_interval = Some(5);
            let away = b.connect(v5("a").with(short).clean_start(false));
            b.disconnect(away);
            let s = subscriber(b, 1);
            b.manual(s);
            let p = b.connect(v5("pub"));
            b.publish(p, "t", 1, "m");
            let ending = b.connect(v5("b").lasting());
            b.trouble(Some(trouble));
            b.advance(10_000);
            b.disconnect_with(ending, ReasonCode::Success, Some(0));
            b.send(s, Packet::PubAck(ack(1, ReasonCode::Success)));
            assert_eq!(b.sessions(), 2);
            b.trouble(None);
            b.check_kept();
            let next = b.restarted_with(1);
            assert_eq!(next.sessions(), 1);
            assert_eq!(next.total(|c| c.queued_messages), 0);
        });
    }
}

#[test]
fn a_connect_that_would_wait_for_the_end_of_an_earlier_session_is_refused() {
    stored(|b| {
        let s = b.connect(v5("s").lasting());
        b.store_held = true;
        b.disconnect_with(s, ReasonCode::Success, Some(0));
        b.trouble(Some(STUCK));
        let c = b.open(v5("s"));
        assert_eq!(b.connack(c).reason, ReasonCode::QuotaExceeded);
        b.store_held = false;
        b.trouble(None);
        b.connect(v5("s"));
        assert_eq!(b.restarted_with(1).sessions(), 0);
    });
}

#[test]
fn retained_messages_that_were_promised_are_recorded_by_themselves_while_others_are_refused() {
    stored(|b| {
        let p = b.connect(v5("pub"));
        for n in 0..5 {
            b.publish_retained(p, &format!("kept/{n}"), 1, "m");
        }
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(1)));
        b.manual(s);
        b.subscribe(s, "#", 1);
        b.trouble(Some(AppendFailed::Full));
        for packet_id in 1..=5 {
            b.publish(p, "live", 1, "refused");
            b.send(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
        }
        assert_eq!(b.payloads(s).len(), 5);
        b.check_kept();
    });
}
