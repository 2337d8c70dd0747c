//! Shared subscriptions (MQTT 5.0 section 4.8.2).

use super::scene::{ack, client, v5};
use super::{Broker, C, each, each_version};
use nervewire_codec::{Packet, ReasonCode};

fn members(b: &mut Broker, names: &[&str], level: u8) -> Vec<C> {
    names
        .iter()
        .map(|name| {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, "$share/g/t", level);
            c
        })
        .collect()
}

fn send(b: &mut Broker, p: C, level: u8, count: usize) {
    for n in 0..count {
        b.publish(p, "t", level, &n.to_string());
    }
}

// [MQTT-4.8.2-2]
#[test]
fn members_get_messages_in_turn() {
    each_version(|b, version| {
        let all: Vec<C> = ["a", "b", "c"]
            .iter()
            .map(|name| {
                let c = b.connect(client(version, name));
                b.subscribe(c, "$share/g/t/#", 1);
                c
            })
            .collect();
        let p = b.connect(client(version, "pub"));
        for n in 0..9 {
            b.publish(p, "t/x", 1, &n.to_string());
        }
        for (n, c) in all.iter().enumerate() {
            assert_eq!(b.payloads(*c), [n, n + 3, n + 6].map(|n| n.to_string()));
        }
    });
}

#[test]
fn each_group_and_each_plain_subscription_gets_its_own_copy() {
    each(|b| {
        let c = b.connect(v5("a"));
        for filter in ["$share/g/t", "$share/h/t", "$share/g/+", "t"] {
            b.subscribe(c, filter, 1);
        }
        b.publish(c, "t", 1, "x");
        assert_eq!(b.payloads(c), ["x"; 4]);
        assert_eq!(b.total(|c| c.subscriptions), 4);
    });
}

#[test]
fn connected_members_are_preferred() {
    each(|b| {
        let all = members(b, &["a", "b", "c"], 1);
        b.lose(all[0]);
        b.lose(all[1]);
        let p = b.connect(v5("pub"));
        send(b, p, 1, 4);
        assert_eq!(b.payloads(all[2]).len(), 4);
        let back = b.connect(v5("a").lasting());
        send(b, p, 1, 4);
        assert_eq!((b.payloads(back).len(), b.payloads(all[2]).len()), (2, 2));
    });
}

#[test]
fn messages_wait_while_no_member_is_connected() {
    each(|b| {
        for c in members(b, &["a", "b"], 1) {
            b.lose(c);
        }
        let p = b.connect(v5("pub"));
        send(b, p, 1, 4);
        let (a, other) = (b.connect(v5("a").lasting()), b.connect(v5("b").lasting()));
        assert_eq!((b.payloads(a).len(), b.payloads(other).len()), (2, 2));
    });
}

// [MQTT-4.8.2-5]
#[test]
fn qos_1_messages_of_a_session_that_ends_go_to_another_member() {
    each(|b| {
        let slow = b.connect(v5("slow").with(|p| p.receive_maximum = Some(1)));
        b.manual(slow);
        b.subscribe(slow, "$share/g/t", 1);
        let p = b.connect(v5("pub"));
        send(b, p, 1, 3);
        assert_eq!(b.payloads(slow), ["0"], "one in flight, two queued");
        let other = members(b, &["other"], 1)[0];
        b.lose(slow);
        assert_eq!(b.payloads(other), ["0", "1", "2"]);
        assert_eq!(b.total(|c| c.queued_messages), 0);
    });
}

// [MQTT-4.8.2-4]
#[test]
fn qos_2_in_flight_stays_with_its_member_and_ends_with_its_session() {
    each(|b| {
        let all = members(b, &["a", "b"], 2);
        b.manual(all[0]);
        let p = b.connect(v5("pub"));
        send(b, p, 2, 1);
        assert_eq!(b.payloads(all[0]), ["0"]);
        b.lose(all[0]);
        assert!(b.payloads(all[1]).is_empty());
        let back = b.connect(v5("a").lasting());
        assert_eq!(b.payloads(back), ["0"], "sent again to the same member");
        send(b, p, 2, 1);
        send(b, p, 2, 1);
        let (mine, others) = (b.payloads(back).len(), b.payloads(all[1]).len());
        assert_eq!((mine, others), (1, 1));
        b.manual(back);
        send(b, p, 2, 2);
        assert_eq!((b.payloads(back).len(), b.payloads(all[1]).len()), (1, 1));
        b.disconnect_with(back, ReasonCode::Success, Some(0));
        assert!(b.payloads(all[1]).is_empty(), "discarded");
        assert_eq!(b.total(|c| c.dropped.session_ended), 1);
    });
}

// [MQTT-4.8.2-6]
#[test]
fn a_message_refused_by_a_member_goes_to_nobody_else() {
    for (level, kind) in [(1, Packet::PubAck as fn(_) -> _), (2, Packet::PubRec as fn(_) -> _)] {
        each(|b| {
            let all = members(b, &["a", "b"], 2);
            b.manual(all[0]);
            let p = b.connect(v5("pub"));
            send(b, p, level, 1);
            let packet_id = b.messages(all[0])[0].packet_id.unwrap().get();
            b.send(all[0], kind(ack(packet_id, ReasonCode::ImplementationSpecificError)));
            b.disconnect_with(all[0], ReasonCode::Success, Some(0));
            assert!(b.payloads(all[1]).is_empty());
        });
    }
}

#[test]
fn a_message_of_a_group_without_members_left_is_dropped_and_counted() {
    each(|b| {
        let only = members(b, &["a"], 1)[0];
        b.manual(only);
        let p = b.connect(v5("pub"));
        send(b, p, 1, 1);
        b.disconnect_with(only, ReasonCode::Success, Some(0));
        assert_eq!(b.total(|c| c.dropped.no_shared_member), 1);
        send(b, p, 1, 1);
        assert_eq!(b.total(|c| c.dropped.no_shared_member), 1, "the group is gone");
    });
}

#[test]
fn a_member_that_unsubscribes_gets_no_more() {
    each(|b| {
        let all = members(b, &["a", "b"], 1);
        b.unsubscribe(all[0], &["$share/g/t"]);
        let p = b.connect(v5("pub"));
        send(b, p, 1, 3);
        assert_eq!((b.payloads(all[0]).len(), b.payloads(all[1]).len()), (0, 3));
    });
}

#[test]
fn a_message_on_its_way_to_a_session_that_ended_goes_to_another_member() {
    each(|b| {
        let all = members(b, &["a", "b", "c"], 1);
        let p = b.connect(v5("pub"));
        b.mesh_held = true;
        send(b, p, 1, 3);
        b.disconnect_with(all[0], ReasonCode::Success, Some(0));
        b.mesh_held = false;
        b.settle();
        let seen: usize = all.iter().map(|c| b.payloads(*c).len()).sum();
        assert_eq!(seen, 3);
        assert!(!b.is_open(all[0]));
    });
}

#[test]
fn the_turn_goes_on_where_it_was_when_a_member_leaves() {
    each(|b| {
        let all = members(b, &["a", "b", "c"], 1);
        let p = b.connect(v5("pub"));
        send(b, p, 1, 1);
        assert_eq!(b.payloads(all[0]).len(), 1);
        b.unsubscribe(all[0], &["$share/g/t"]);
        send(b, p, 1, 1);
        assert_eq!((b.payloads(all[1]).len(), b.payloads(all[2]).len()), (1, 0));
    });
}
