//! Messages go only to shards that they may interest, and a SUBACK says that all shards know.

use super::super::home_shard;
use super::scene::{filter, text, v5};
use super::{Broker, C, each};
use crate::limits::PURGE_INTERVAL_MS;
use nervewire_codec::{Packet, Subscribe};

/// A client whose session lives on a shard.
fn on_shard(b: &mut Broker, shard: usize) -> C {
    let shards = b.shards.len() as u16;
    let id = (0..).map(|n| format!("c{n}"));
    let mut id = id.filter(|id| usize::from(home_shard(None, id, shards)) == shard);
    let id = id.find(|id| !b.is_known(id));
    b.connect(v5(&id.expect("there is always one more")))
}

impl Broker {
    fn is_known(&self, client_id: &str) -> bool {
        let mut shards = self.shards.iter();
        shards.any(|shard| shard.sessions.find(None, client_id).is_some())
    }

    /// Lets all shards know of a filter, so that the next SUBACK for it waits for nothing.
    pub(super) fn make_known(&mut self, c: C, topic: &str) {
        self.subscribe(c, topic, 1);
        self.unsubscribe(c, &[topic]);
        self.messages(c);
    }

    /// Messages that would go from one shard to the others.
    fn crossings(&mut self, shard: usize) -> usize {
        let shards = self.shards.len() as u16;
        let from = &mut self.shards[shard];
        (0..shards).map(|to| from.take_mesh(to).len()).sum()
    }
}

fn send_subscribe(b: &mut Broker, c: C, topic: &str) {
    let packet_id = b.packet_id(c);
    let filters = vec![filter(topic, 1)];
    b.send(
        c,
        Packet::Subscribe(Subscribe {
            packet_id,
            properties: None,
            filters,
        }),
    );
}

fn subacks(b: &mut Broker, c: C) -> usize {
    b.pick(c, |packet| matches!(packet, Packet::SubAck(_))).len()
}

#[test]
fn what_interests_nobody_else_stays_on_its_shard() {
    each(|b| {
        let p = on_shard(b, 0);
        let s = on_shard(b, b.shards.len() - 1);
        b.subscribe(s, "news/+", 0);
        b.mesh_held = true;
        b.publish(p, "weather/x", 0, "x");
        assert_eq!(b.crossings(0), 0);
        b.publish(p, "news/x", 0, "x");
        assert_eq!(b.crossings(0), usize::from(b.shards.len() > 1));
    });
}

#[test]
fn what_nobody_wants_any_more_is_taken_back() {
    each(|b| {
        let p = on_shard(b, 0);
        let s = on_shard(b, b.shards.len() - 1);
        b.subscribe(s, "news/+", 0);
        b.unsubscribe(s, &["news/+"]);
        b.advance(2 * PURGE_INTERVAL_MS);
        b.mesh_held = true;
        b.publish(p, "news/x", 0, "x");
        assert_eq!(b.crossings(0), 0);
    });
}

#[test]
fn a_suback_waits_until_every_shard_knows() {
    each(|b| {
        if b.shards.len() == 1 {
            return;
        }
        for topic in ["a/b", "+/c", "$share/g/d/+"] {
            let s = on_shard(b, 0);
            b.held_from = Some(2);
            send_subscribe(b, s, topic);
            assert_eq!(subacks(b, s), 0, "{topic}: one shard has not confirmed");
            b.held_from = None;
            b.settle();
            assert_eq!(subacks(b, s), 1, "{topic}");
        }
    });
}

#[test]
fn whoever_joins_an_announced_prefix_waits_for_it_and_later_for_nobody() {
    each(|b| {
        if b.shards.len() == 1 {
            return;
        }
        let (first, second) = (on_shard(b, 0), on_shard(b, 0));
        b.held_from = Some(2);
        send_subscribe(b, first, "a/+");
        send_subscribe(b, second, "a/#");
        assert_eq!((subacks(b, first), subacks(b, second)), (0, 0));
        b.held_from = None;
        b.settle();
        assert_eq!((subacks(b, first), subacks(b, second)), (1, 1));
        b.held_from = Some(2);
        send_subscribe(b, second, "a/+/b");
        assert_eq!(subacks(b, second), 1, "the prefix is known everywhere");
    });
}

#[test]
fn a_message_that_a_shard_routed_before_it_knew_is_found_as_retained() {
    each(|b| {
        let last = b.shards.len() - 1;
        let (p, s) = (on_shard(b, last), on_shard(b, 0));
        b.publish_retained(p, "t/1", 1, "old");
        b.held_from = Some(last);
        send_subscribe(b, s, "t/+");
        b.publish_retained(p, "t/1", 1, "new");
        b.held_from = None;
        b.settle();
        assert_eq!(b.payloads(s).last().map(String::as_str), Some("new"));
    });
}

#[test]
fn a_filter_left_before_its_suback_brings_no_retained_messages() {
    each(|b| {
        let last = b.shards.len() - 1;
        let (p, s) = (on_shard(b, last), on_shard(b, 0));
        b.publish_retained(p, "t/1", 1, "x");
        if last > 0 {
            b.held_from = Some(last);
            send_subscribe(b, s, "t/+");
            let packet_id = b.packet_id(s);
            let filters = vec![text("t/+")];
            b.send(
                s,
                Packet::Unsubscribe(nervewire_codec::Unsubscribe {
                    packet_id,
                    properties: None,
                    filters,
                }),
            );
            b.held_from = None;
            b.settle();
            let acknowledged = b.take(s);
            assert!(matches!(acknowledged[..], [Packet::SubAck(_), Packet::UnsubAck(_)]));
        }
        assert!(b.payloads(s).is_empty());
    });
}

#[test]
fn retained_messages_for_a_connection_that_was_replaced_before_its_suback_go_nowhere() {
    each(|b| {
        let p = b.connect(v5("pub"));
        b.publish_retained(p, "t/1", 1, "x");
        let s = b.connect(v5("s").lasting());
        b.mesh_held = true;
        send_subscribe(b, s, "t/+");
        let early = b.payloads(s).len();
        b.lose(s);
        let s = b.connect(v5("s").lasting());
        b.mesh_held = false;
        b.settle();
        assert!(b.payloads(s).is_empty() && early <= 1);
    });
}
