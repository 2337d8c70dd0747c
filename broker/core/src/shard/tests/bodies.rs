//! Messages that are in the store alone while nobody needs them in memory.

use super::scene::{ack, publish, v5};
use super::{Broker, C, each_with};
use crate::limits::{MAX_FETCH_MESSAGES, MAX_IN_FLIGHT_MESSAGES, MAX_RESIDENT_MESSAGES};
use crate::store::{AppendFailed, Durability, Partition, Position, Record};
use nervewire_codec::{Packet, ReasonCode};

/// With a store, with one shard and with three.
fn stored(test: impl Fn(&mut Broker)) {
    each_with(|config| config.durability = Durability::Stored, test);
}

fn memory(b: &Broker) -> u64 {
    b.shards.iter().map(|shard| shard.held_bytes()).sum()
}

/// A durable session "s" that is away and subscribed to `t`, and a publisher.
fn away(b: &mut Broker, level: u8) -> C {
    let s = b.connect(v5("s").lasting());
    b.subscribe(s, "t", level);
    b.lose(s);
    b.connect(v5("pub"))
}

fn queue(b: &mut Broker, p: C, level: u8, numbers: std::ops::Range<usize>) {
    for n in numbers {
        assert_eq!(b.publish(p, "t", level, &n.to_string()), Some(ReasonCode::Success));
    }
}

fn texts(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

/// The record of the message that was queued last of so many.
fn position_of(b: &Broker, payload: &str) -> (Partition, Position) {
    let partition = Partition::of_session(None, "s");
    let is_it = |record: &Record| matches!(record, Record::Enqueued { message, .. } if message.app.payload == payload);
    let at = b.appended[&partition].iter().position(is_it).expect("its record");
    (partition, Position(at as u64))
}

#[test]
fn bodies_leave_memory_when_they_are_durable_and_their_session_is_away() {
    stored(|b| {
        let p = away(b, 1);
        b.store_held = true;
        b.publish(p, "t", 1, "a message");
        assert!(memory(b) > 0, "not durable");
        b.store_held = false;
        b.settle();
        assert_eq!(memory(b), 0);
        assert_eq!(b.total(|c| c.queued_messages), 1);
        assert!(b.total(|c| c.queued_bytes) > 0, "queues count what they hold on disk");
    });
}

#[test]
fn what_was_in_flight_leaves_memory_with_the_connection() {
    stored(|b| {
        let s = b.connect(v5("s").lasting());
        b.manual(s);
        b.subscribe(s, "t", 2);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "one");
        b.publish(p, "t", 2, "two");
        assert!(memory(b) > 0);
        b.lose(s);
        assert_eq!(memory(b), 0);
        let s = b.connect(v5("s").lasting());
        let messages = b.messages(s);
        assert!(messages.iter().all(|m| m.dup));
        assert_eq!(super::scene::payloads(&messages), ["one", "two"]);
        assert_eq!(b.fetched, 2);
    });
}

#[test]
fn a_reconnecting_client_gets_them_in_order_under_its_window() {
    stored(|b| {
        let p = away(b, 1);
        queue(b, p, 1, 0..300);
        b.manual_clients = true;
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(2)));
        assert!(b.fetched <= MAX_FETCH_MESSAGES, "{} for a window of 2", b.fetched);
        let mut seen = Vec::new();
        loop {
            let messages = b.messages(s);
            assert!(messages.len() <= 2);
            seen.extend(super::scene::payloads(&messages));
            let Some(last) = messages.last().and_then(|m| m.packet_id) else {
                break;
            };
            for message in &messages {
                let packet_id = message.packet_id.expect("QoS 1").get();
                b.send_later(s, Packet::PubAck(ack(packet_id, ReasonCode::Success)));
            }
            assert!(last.get() > 0);
            b.settle();
        }
        assert_eq!(seen, texts(0..300));
        assert_eq!((b.fetched, memory(b)), (300, 0));
    });
}

#[test]
fn new_messages_come_behind_those_that_are_being_fetched() {
    stored(|b| {
        let p = away(b, 2);
        queue(b, p, 2, 0..3);
        b.fetch_held = true;
        let s = b.connect(v5("s").lasting());
        queue(b, p, 1, 3..5);
        assert!(b.payloads(s).is_empty());
        b.fetch_held = false;
        b.settle();
        assert_eq!(b.payloads(s), texts(0..5));
    });
}

#[test]
fn the_answer_to_a_fetch_of_an_earlier_connection_is_of_no_use() {
    stored(|b| {
        let p = away(b, 1);
        queue(b, p, 1, 0..3);
        b.fetch_held = true;
        let first = b.connect(v5("s").lasting());
        b.lose(first);
        let second = b.connect(v5("s").lasting());
        let gone = b.connect(v5("s").clean_start(true));
        assert!(!b.is_open(second));
        b.fetch_held = false;
        b.settle();
        assert!(b.payloads(gone).is_empty());
        assert_eq!(memory(b), 0);
        assert!(b.shards.iter().all(|shard| shard.fetches.is_empty()));
    });
}

#[test]
fn a_message_that_cannot_be_read_is_dropped_and_counted() {
    stored(|b| {
        let p = away(b, 1);
        queue(b, p, 1, 0..3);
        b.unreadable.insert(position_of(b, "1"));
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["0", "2"]);
        assert_eq!(b.total(|c| c.dropped.unreadable), 1);
        b.check_kept();
    });
}

#[test]
fn an_unreadable_qos_2_message_in_flight_frees_its_identifier_at_the_client() {
    stored(|b| {
        let s = b.connect(v5("s").lasting());
        b.manual(s);
        b.subscribe(s, "t", 2);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 2, "lost");
        b.publish(p, "t", 2, "kept");
        b.lose(s);
        b.unreadable.insert(position_of(b, "lost"));
        let s = b.connect(v5("s").lasting());
        let released = b.pick(s, |packet| matches!(packet, Packet::PubRel(_)));
        assert!(matches!(&released[0], Packet::PubRel(ack) if ack.packet_id.get() == 1));
        assert_eq!(b.payloads(s), ["kept"]);
        assert_eq!(b.total(|c| c.dropped.unreadable), 1);
        b.check_kept();
    });
}

#[test]
fn a_message_whose_record_moved_while_it_was_fetched_is_asked_for_again() {
    stored(|b| {
        let p = away(b, 1);
        queue(b, p, 1, 0..1);
        b.fetch_held = true;
        let s = b.connect(v5("s").lasting());
        // As a checkpoint does: the same record once more, behind the others.
        let (partition, old) = position_of(b, "0");
        let shard = usize::from(partition.owner(b.shards.len() as u16));
        let record = b.appended[&partition][old.0 as usize].clone();
        let log = b.appended.get_mut(&partition).expect("its log");
        log.push(record.clone());
        let Record::Enqueued { order, .. } = record else {
            panic!("{record:?}")
        };
        let moved = Position(log.len() as u64 - 1);
        let slot = b.shards[shard].sessions.find(None, "s").expect("a session");
        b.shards[shard].place(slot, order, moved);
        b.unreadable.insert((partition, old));
        b.fetch_held = false;
        b.settle();
        assert_eq!(b.payloads(s), ["0"]);
        assert_eq!(b.total(|c| c.dropped.unreadable), 0);
    });
}

#[test]
fn expired_messages_are_purged_without_being_fetched() {
    stored(|b| {
        let p = away(b, 1);
        for n in 0..5 {
            b.publish_with(p, publish("t", 1, &n.to_string()), |properties| {
                properties.message_expiry_interval = Some(1 + n % 2 * 100);
            });
        }
        b.advance(2_000);
        let s = b.connect(v5("s").lasting());
        assert_eq!(b.payloads(s), ["1", "3"]);
        assert_eq!((b.fetched, b.total(|c| c.dropped.expired)), (2, 3));
        b.check_kept();
    });
}

#[test]
fn the_back_of_a_long_queue_leaves_memory_while_its_session_is_connected() {
    stored(|b| {
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(1)));
        b.manual(s);
        b.subscribe(s, "t", 1);
        let p = b.connect(v5("pub"));
        let count = MAX_RESIDENT_MESSAGES + 100;
        queue(b, p, 1, 0..count);
        let each = memory(b) / (MAX_RESIDENT_MESSAGES as u64 + 1);
        assert!(each < 100 + 96, "{each} bytes for each that stays");
        b.links[s].acknowledges = true;
        let first = b.messages(s);
        assert_eq!(first.len(), 1);
        b.send(s, Packet::PubAck(ack(1, ReasonCode::Success)));
        assert_eq!(b.payloads(s), texts(1..count));
        assert_eq!((b.fetched, memory(b)), (99, 0));
    });
}

#[test]
fn no_more_is_fetched_than_memory_has_room_for_but_always_one() {
    each_with(
        |config| {
            config.durability = Durability::Stored;
            config.memory_bytes = 350;
        },
        |b| {
            let p = away(b, 1);
            for n in 0..9 {
                b.publish(p, "t", 1, &format!("{n:0>99}"));
            }
            b.fetch_held = true;
            let s = b.connect(v5("s").lasting());
            assert_eq!(b.fetches.iter().flatten().map(|f| f.positions.len()).sum::<usize>(), 1);
            b.fetch_held = false;
            b.settle();
            assert_eq!(b.payloads(s).len(), 9);
        },
    );
}

#[test]
fn a_shared_message_stays_in_memory_so_that_another_member_can_have_it() {
    stored(|b| {
        let a = b.connect(v5("a").lasting());
        b.subscribe(a, "$share/g/t", 1);
        b.lose(a);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "shared");
        assert!(memory(b) > 0);
        let c = b.connect(v5("b"));
        b.subscribe(c, "$share/g/t", 1);
        b.connect(v5("a").clean_start(true));
        assert_eq!(b.payloads(c), ["shared"]);
        assert_eq!((b.fetched, memory(b)), (0, 0));
    });
}

#[test]
fn nothing_is_fetched_for_a_session_that_may_not_be_sent_anything() {
    stored(|b| {
        let p = away(b, 1);
        queue(b, p, 1, 0..3);
        b.fetch_held = true;
        let s = b.connect(v5("s").lasting());
        b.trouble(Some(AppendFailed::Doubtful));
        b.fetch_held = false;
        b.settle();
        assert!(b.payloads(s).is_empty());
        b.trouble(None);
        assert_eq!(b.payloads(s), texts(0..3));
    });
}

// [MQTT-3.3.1-1]
#[test]
fn what_may_have_been_sent_before_a_restart_says_so_and_nothing_else_does() {
    stored(|b| {
        let s = b.connect(v5("s").lasting().with(|p| p.receive_maximum = Some(1)));
        b.manual(s);
        b.subscribe(s, "t", 2);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "sent");
        let window = usize::from(MAX_IN_FLIGHT_MESSAGES);
        queue(b, p, 1, 1..window + 1);
        b.publish(p, "t", 2, "without an identifier");
        let mut b = b.restarted_with(1);
        let s = b.connect(v5("s").lasting());
        let messages = b.messages(s);
        assert_eq!(messages.len(), window + 2);
        assert!(
            messages[..window].iter().all(|m| m.dup),
            "as many as could be in flight"
        );
        assert!(messages[window..].iter().all(|m| !m.dup));
        b.lose(s);
        let p = b.connect(v5("pub"));
        b.publish(p, "t", 1, "new");
        let s = b.connect(v5("s").lasting());
        assert!(b.messages(s).iter().all(|m| !m.dup));
    });
}
