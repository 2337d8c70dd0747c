//! A crash and what is there after it: the logs up to some append, read by new shards, as many or another number.

use super::super::Shard;
use super::scene::{ack, id, publish, qos, v5, v311, will};
use super::{Broker, Journaled};
use crate::hook::Quotas;
use crate::limits::ShardConfig;
use crate::store::{Durability, Partition, Position, Record};
use nervewire_codec::{Packet, PacketId, Publish, ReasonCode};
use std::collections::BTreeMap;

pub(super) fn stored(shards: u16) -> Broker {
    Broker::new(ShardConfig {
        shards,
        durability: Durability::Stored,
        ..ShardConfig::default()
    })
}

impl Broker {
    /// What is there when the process dies after this many appends, and starts again with other shards.
    pub(super) fn restarted(&self, appends: usize, shards: u16) -> Broker {
        let mut next = self.read_again(appends, shards);
        next.check_kept();
        next
    }

    /// As [`Broker::restarted`], and not compared with what all records say.
    pub(super) fn read_again(&self, appends: usize, shards: u16) -> Broker {
        let mut next = stored(shards);
        next.now = self.now;
        next.journal = self.journal[..appends].to_vec();
        next.drops = self.drops.iter().copied().filter(|(at, _)| *at <= appends).collect();
        let dropped = next.dropped();
        let entries = self.entries(appends);
        for (at, (append, records)) in entries.into_iter().enumerate() {
            if at < dropped {
                *next.dropped_records.entry(append.partition).or_default() += records.len() as u64;
            }
            for (position, record) in records {
                next.kept.replay(record.clone(), append.relocated);
                next.appended.entry(append.partition).or_default().push(record.clone());
                if at >= dropped {
                    let owner = usize::from(append.partition.owner(shards));
                    next.shards[owner].restore(append.partition, position, record);
                }
            }
        }
        next.start();
        next
    }

    /// The oldest appends that are no more.
    fn dropped(&self) -> usize {
        self.drops.last().map_or(0, |(_, dropped)| *dropped)
    }

    /// The first appends, with their records and where those are.
    fn entries(&self, appends: usize) -> Vec<(Journaled, Vec<(Position, Record)>)> {
        let mut lengths: BTreeMap<Partition, usize> = BTreeMap::new();
        let entry = |append: &Journaled| {
            let from = lengths.entry(append.partition).or_default();
            let range = *from..*from + append.records;
            *from = range.end;
            let records = self.appended[&append.partition][range.clone()].iter().cloned();
            let positions = (range.start as u64..).map(Position);
            (*append, positions.zip(records).collect())
        };
        self.journal[..appends].iter().map(entry).collect()
    }

    /// A checkpoint may run: only of what is durable, and nothing is dropped before what it appends is.
    pub(super) fn is_all_durable(&self) -> bool {
        let waits = self.under_way.iter().any(|appends| !appends.is_empty());
        !self.store_held && !self.store_stuck && !waits && self.shards[0].waits_for_store()
    }

    /// Lets the shards look at the oldest appends once more, and drops them.
    pub(super) fn checkpoint(&mut self, appends: usize) {
        let dropped = self.dropped();
        let entries = self.entries(appends.max(dropped));
        let examined = &entries[dropped..];
        for (append, records) in examined.iter().cloned() {
            for (position, record) in records {
                let owner = usize::from(append.partition.owner(self.shards.len() as u16));
                self.shards[owner].examine(self.now, append.partition, position, record);
                self.relocating = true;
                self.carry_store(owner);
                self.relocating = false;
            }
        }
        self.settle();
        // What was asked of the old part is read before it goes.
        let held = std::mem::replace(&mut self.fetch_held, false);
        self.settle();
        self.fetch_held = held;
        for (append, records) in examined {
            *self.dropped_records.entry(append.partition).or_default() += records.len() as u64;
        }
        self.drops.push((self.journal.len(), appends.max(dropped)));
    }

    /// All records are read.
    pub(super) fn start(&mut self) {
        let first = self.shards.iter().map(Shard::first_free_number).max().unwrap_or(1);
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.restored(now, first));
        self.settle();
        assert!(!self.shards.iter().any(Shard::is_restoring));
    }

    /// As [`Broker::restarted`], with everything that was appended.
    pub(super) fn restarted_with(&self, shards: u16) -> Broker {
        self.restarted(self.journal.len(), shards)
    }
}

/// From one shard and from three, to one and to three.
fn each_restart(test: impl Fn(Broker, u16)) {
    for from in [1, 3] {
        for to in [1, 3] {
            test(stored(from), to);
        }
    }
}

#[test]
fn sessions_subscriptions_and_queues_are_back() {
    each_restart(|mut b, shards| {
        for name in ["s", "a"] {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, "t/+", 1);
            b.subscribe(c, "gone", 1);
            b.unsubscribe(c, &["gone"]);
            b.disconnect(c);
        }
        let p = b.connect(v311("pub"));
        for n in 0..20 {
            b.publish(p, "t/x", 1 + n % 2, &n.to_string());
        }
        let mut b = b.restarted_with(shards);
        b.check_kept();
        let p = b.connect(v5("pub"));
        b.publish(p, "t/y", 1, "after");
        b.publish(p, "gone", 1, "gone");
        for name in ["s", "a"] {
            let (c, connack) = b.connect_for(v5(name).lasting());
            assert!(connack.session_present);
            let numbers = (0..20).map(|n| n.to_string());
            let expected: Vec<String> = numbers.chain(["after".to_owned()]).collect();
            assert_eq!(b.payloads(c), expected);
        }
        b.check_kept();
    });
}

#[test]
fn quotas_of_the_identity_hold_before_the_client_is_back() {
    each_restart(|mut b, shards| {
        let most = ShardConfig::default().queue_messages;
        for (name, queue_messages) in [("more", most + 20), ("fewer", 5)] {
            let s = b.connect(v5(name).lasting().quotas(queue_of(queue_messages)));
            b.subscribe(s, "t", 1);
            b.disconnect(s);
        }
        let p = b.connect(v5("pub"));
        for n in 0..most {
            b.publish(p, "t", 1, &n.to_string());
        }
        b.disconnect(p);
        // Once more, so that the records that a checkpoint keeps are those of the quotas, too.
        let mut b = b.restarted_with(shards).restarted_with(shards);
        let p = b.connect(v5("pub"));
        for n in most..most + 10 {
            b.publish(p, "t", 1, &n.to_string());
        }
        assert_eq!(b.total(|c| c.dropped.queue_messages), 10, "of `fewer` alone");
        for (name, first) in [("more", 0), ("fewer", most + 5)] {
            let s = b.connect(v5(name).lasting());
            let expected: Vec<String> = (first..most + 10).map(|n| n.to_string()).collect();
            assert_eq!(b.payloads(s), expected, "{name}");
        }
        b.check_kept();
    });
}

/// What was in flight is in the queue after a restart, which is longer then than it may become.
#[test]
fn a_queue_that_is_longer_than_it_may_be_stays_whole() {
    each_restart(|mut b, shards| {
        b.manual_clients = true;
        let s = b.connect(
            v5("s")
                .lasting()
                .quotas(queue_of(5))
                .with(|p| p.receive_maximum = Some(10)),
        );
        b.subscribe(s, "t", 1);
        let p = b.connect(v5("pub"));
        for n in 0..15 {
            b.publish(p, "t", 1, &n.to_string());
        }
        let mut b = b.restarted_with(shards);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "new");
        // One goes for the one that came.
        assert_eq!(b.total(|c| c.dropped.queue_messages), 1);
        b.check_kept();
        let s = b.connect(v5("s").lasting());
        let mut expected: Vec<String> = (1..15).map(|n| n.to_string()).collect();
        expected.push("new".to_owned());
        assert_eq!(b.payloads(s), expected);
    });
}

fn queue_of(messages: u32) -> Quotas {
    Quotas {
        queue_messages: Some(messages),
        ..Quotas::default()
    }
}

#[test]
fn retained_messages_are_back_and_deleted_ones_are_not() {
    each_restart(|mut b, shards| {
        let p = b.connect(v5("pub"));
        for n in 0..10 {
            b.publish_retained(p, &format!("r/{n}"), 1, "old");
            b.publish_retained(p, &format!("r/{n}"), 1, &n.to_string());
        }
        b.publish_retained(p, "r/3", 1, "");
        let mut b = b.restarted_with(shards);
        let s = b.connect(v5("s"));
        b.subscribe(s, "r/+", 1);
        let mut payloads = b.payloads(s);
        payloads.sort();
        assert_eq!(payloads, ["0", "1", "2", "4", "5", "6", "7", "8", "9"]);
    });
}

#[test]
fn shared_subscriptions_are_back() {
    each_restart(|mut b, shards| {
        for name in ["a", "b"] {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, "$share/g/t", 1);
            b.disconnect(c);
        }
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "1");
        b.publish(p, "t", 1, "2");
        let mut b = b.restarted_with(shards);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "3");
        b.publish(p, "t", 1, "4");
        let mut all = Vec::new();
        for name in ["a", "b"] {
            let c = b.connect(v5(name).lasting());
            let payloads = b.payloads(c);
            assert_eq!(payloads.len(), 2, "in turn");
            all.extend(payloads);
        }
        all.sort();
        assert_eq!(all, ["1", "2", "3", "4"]);
    });
}

#[test]
fn a_session_whose_time_has_come_is_gone_and_others_count_from_the_restart() {
    each_restart(|mut b, shards| {
        let short = |name| {
            v5(name)
                .clean_start(false)
                .with(|p| p.session_expiry_interval = Some(10))
        };
        let away = b.connect(short("a"));
        b.disconnect(away);
        b.connect(short("b"));
        b.connect(v311("c").lasting());
        b.now += 60_000;
        let mut b = b.restarted_with(shards);
        assert_eq!(b.sessions(), 2, "it expired meanwhile");
        b.check_kept();
        b.advance(9_000);
        assert_eq!(b.sessions(), 2);
        // A second crash does not give the session its time again.
        let mut b = b.restarted_with(shards);
        b.advance(2_000);
        assert_eq!(b.sessions(), 1);
        b.check_kept();
    });
}

#[test]
fn a_session_that_ends_with_its_connection_is_gone() {
    each_restart(|mut b, shards| {
        let c = b.connect(v5("s").lasting());
        b.subscribe(c, "t", 1);
        b.disconnect(c);
        // Taken up for one connection only.
        b.connect(v5("s").clean_start(false));
        let b = b.restarted_with(shards);
        assert_eq!(b.sessions(), 0);
        assert_eq!(b.total(|c| c.subscriptions), 0);
    });
}

#[test]
fn wills_of_clients_that_the_crash_has_disconnected_are_sent_to_sessions_of_all_shards() {
    each_restart(|mut b, shards| {
        for name in ["s", "a", "b", "c"] {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, "bye", 2);
            b.disconnect(c);
        }
        b.connect(v5("other").lasting().will(will("bye", 1, "at once")));
        let delayed = v5("pub").lasting().will(will("bye", 2, "later"));
        let mut delayed = delayed.accepted();
        if let Some(will) = &mut delayed.connect.will {
            will.properties.get_or_insert_default().will_delay_interval = Some(30);
        }
        b.open_accepted(delayed);
        let mut b = b.restarted_with(shards);
        b.advance(29_000);
        // Not sent again after a second crash.
        let mut b = b.restarted_with(shards);
        for name in ["s", "a", "b", "c"] {
            let c = b.connect(v5(name).lasting());
            assert_eq!(b.payloads(c), ["at once"], "{name}");
        }
        b.advance(2_000);
        let s = b.links.len() - 4;
        assert_eq!(b.payloads(s), ["later"]);
    });
}

#[test]
fn qos_2_goes_on_where_it_was_and_new_identifiers_are_others() {
    each_restart(|mut b, shards| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 2);
        b.manual(s);
        let p = b.connect(v5("pub"));
        for n in 1..=3 {
            b.publish(p, "t", 2, &n.to_string());
        }
        let sent = b.messages(s);
        let ids: Vec<PacketId> = sent.iter().filter_map(|publish| publish.packet_id).collect();
        b.send(s, Packet::PubRec(ack(ids[0].get(), ReasonCode::Success)));
        b.send(s, Packet::PubRec(ack(ids[1].get(), ReasonCode::Success)));
        b.send(s, Packet::PubComp(ack(ids[0].get(), ReasonCode::Success)));
        let mut b = b.restarted_with(shards);
        b.manual_clients = true;
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 2, "4");
        let s = b.open(v5("s").lasting());
        b.connack(s);
        let packets = b.take(s);
        assert!(matches!(&packets[0], Packet::PubRel(rel) if rel.packet_id == ids[1]));
        let third = |p: &Publish| (p.packet_id, p.dup, &p.payload[..] == b"3") == (Some(ids[2]), true, true);
        assert!(matches!(&packets[1], Packet::Publish(publish) if third(publish)));
        let fourth = |p: &Publish| !ids.contains(&p.packet_id.expect("QoS 2")) && !p.dup && &p.payload[..] == b"4";
        assert!(matches!(&packets[2], Packet::Publish(publish) if fourth(publish)));
        assert_eq!(packets.len(), 3);
    });
}

#[test]
fn identifiers_of_a_client_are_known_after_a_crash() {
    each_restart(|mut b, shards| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 2);
        b.disconnect(s);
        let p = b.connect(v5("pub").lasting());
        b.manual(p);
        let packet = Publish {
            packet_id: Some(id(7)),
            qos: qos(2),
            ..publish("t", 2, "once")
        };
        b.send(p, Packet::Publish(packet.clone()));
        let mut b = b.restarted_with(shards);
        let p = b.connect(v5("pub").lasting());
        b.send(p, Packet::Publish(Publish { dup: true, ..packet }));
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["once"]);
    });
}

#[test]
fn qos_2_that_was_not_routed_is_routed_in_the_order_of_its_client() {
    each_restart(|mut b, shards| {
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 2);
        b.disconnect(s);
        let p = b.connect(v5("pub").lasting());
        let before = b.journal.len();
        b.store_held = true;
        for n in 0..20 {
            b.publish(p, "t", 2, &n.to_string());
        }
        b.store_held = false;
        b.settle();
        let mut b = b.restarted(before + 20, shards);
        let s = b.connect(v5("s").lasting());
        let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
        assert_eq!(b.payloads(s), expected);
    });
}

/// The log has the deletion and what was retained after it, but not yet that the deletion was routed.
#[test]
fn a_deletion_that_is_routed_again_does_not_delete_what_was_retained_after_it() {
    each_restart(|mut b, shards| {
        let p = b.connect(v5("pub").lasting());
        b.publish_retained(p, "r", 2, "old");
        let before = b.journal.len();
        b.store_held = true;
        b.publish_retained(p, "r", 2, "");
        b.publish_retained(p, "r", 2, "new");
        b.store_held = false;
        b.settle();
        for appends in before + 2..=b.journal.len() {
            let mut b = b.restarted(appends, shards);
            let s = b.connect(v5("s"));
            b.subscribe(s, "r", 1);
            assert_eq!(b.payloads(s), ["new"], "after {appends} appends");
        }
    });
}

#[test]
fn a_checkpoint_before_all_shards_are_restored_keeps_what_is_still_to_be_routed() {
    let mut b = stored(3);
    let p = b.connect(v5("pub").lasting());
    b.publish(p, "t", 2, "m");
    let partition = Partition::of_session(None, "pub");
    let records = b.appended[&partition][..2].to_vec();
    assert!(matches!(records[1], Record::Received { .. }), "{records:?}");
    let mut next = stored(3);
    let shard = &mut next.shards[usize::from(partition.owner(3))];
    for (at, record) in (0..).zip(&records) {
        shard.restore(partition, Position(at), record.clone());
    }
    shard.restored(b.now, 10);
    assert!(shard.is_restoring());
    shard.examine(b.now, partition, Position(1), records[1].clone());
    let again = std::iter::from_fn(|| shard.next_append()).flat_map(|append| append.records);
    assert_eq!(again.collect::<Vec<_>>(), records[1..]);
}

/// CVE-2026-8741: a crash in between would let it come twice.
#[test]
fn a_qos_2_message_goes_nowhere_before_its_identifier_is_durable() {
    for shards in [1, 3] {
        let mut b = stored(shards);
        let (s, p) = (b.connect(v5("s")), b.connect(v5("p").lasting()));
        b.subscribe(s, "t", 2);
        b.store_held = true;
        assert_eq!(b.publish(p, "t", 2, "x"), None);
        assert_eq!(b.payloads(s), [""; 0]);
        b.store_held = false;
        b.settle();
        assert_eq!(b.payloads(s), ["x"]);
    }
}
