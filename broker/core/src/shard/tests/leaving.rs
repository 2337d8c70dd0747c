//! What leaves a session is never in no log: wills, and shared messages of a session that ends.

use super::restart::stored;
use super::review::{only, rules_of};
use super::scene::{v5, will};
use super::script::deliver_rule;
use super::{Broker, C};
use crate::hook::{Client, Effect};
use nervewire_codec::{Packet, Publish};
use std::collections::BTreeSet;

/// The payloads of the client's messages that it had after this many appends.
fn seen(b: &Broker, c: C, appends: usize) -> Vec<String> {
    let seen = b.seen.iter().filter(|(at, of, _)| *at <= appends && *of == c);
    let payload = |packet: &Packet| match packet {
        Packet::Publish(Publish { payload, .. }) => Some(String::from_utf8_lossy(payload).into_owned()),
        _ => None,
    };
    seen.filter_map(|(_, _, packet)| payload(packet)).collect()
}

/// Who asks for the messages of a shared subscription after all members but the last have gone.
fn arrived(b: &Broker, last: C, appends: usize, shards: u16, name: &str) -> BTreeSet<String> {
    let mut next = b.restarted(appends, shards);
    next.check_kept();
    let mut all: BTreeSet<String> = seen(b, last, appends).into_iter().collect();
    let c = next.connect(v5(name).lasting());
    all.extend(next.payloads(c));
    next.check_kept();
    all
}

#[test]
fn a_crash_while_shared_messages_go_to_another_member_loses_none() {
    for from in [1, 3] {
        let mut b = stored(from);
        let a = b.connect(v5("a").lasting());
        b.subscribe(a, "$share/g/t", 1);
        b.disconnect(a);
        let p = b.connect(v5("pub"));
        let messages: BTreeSet<String> = (0..6).map(|n| n.to_string()).collect();
        messages.iter().for_each(|n| _ = b.publish(p, "t", 1, n));
        let last = b.connect(v5("b").lasting());
        b.subscribe(last, "$share/g/t", 1);
        let before = b.journal.len();
        // Ends the session whose queue has them.
        b.connect(v5("a").clean_start(true));
        assert_eq!(b.payloads(last).len(), 6);
        for appends in before..=b.journal.len() {
            for to in [1, 3] {
                let mut all = arrived(&b, last, appends, to, "b");
                let mut next = b.restarted(appends, to);
                let (a, _) = next.connect_for(v5("a").lasting());
                all.extend(next.payloads(a));
                assert_eq!(all, messages, "after {appends} of {before} to {}", b.journal.len());
            }
        }
    }
}

/// Two members of a group, the first of whom comes back to a queue that has what it may not have any more.
fn refused_by_the_first(shards: u16, group: &str, prepare: impl FnOnce(&mut Broker)) -> (Broker, C, BTreeSet<String>) {
    let mut b = stored(shards);
    rules_of(&mut b, 1, |_| Ok(Some(only(&["#"]))));
    let a = b.connect(v5("a").lasting());
    b.subscribe(a, group, 1);
    b.disconnect(a);
    let p = b.connect(v5("pub"));
    let messages: BTreeSet<String> = (0..4).map(|n| n.to_string()).collect();
    messages.iter().for_each(|n| _ = b.publish(p, "t", 1, n));
    let last = b.connect(v5("b").lasting());
    b.subscribe(last, group, 1);
    rules_of(&mut b, 2, |client: &Client| {
        let deny = (&*client.client_id == "a").then(|| deliver_rule(Effect::Deny, "t"));
        Ok(Some(deny.into_iter().chain(only(&["#"])).collect()))
    });
    prepare(&mut b);
    b.open(v5("a").lasting());
    (b, last, messages)
}

/// What both of them get that was not seen before.
fn with_both(mut next: Broker, mut all: BTreeSet<String>) -> BTreeSet<String> {
    for name in ["a", "b"] {
        let c = next.connect(v5(name).lasting());
        all.extend(next.payloads(c));
    }
    all
}

#[test]
fn a_crash_while_refused_messages_go_to_another_member_loses_none() {
    for from in [1, 3] {
        let mut before = 0;
        let (b, last, messages) = refused_by_the_first(from, "$share/g/t", |b| before = b.journal.len());
        let had = |appends| seen(&b, last, appends).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(had(b.journal.len()), messages);
        for appends in before..=b.journal.len() {
            for to in [1, 3] {
                let all = with_both(b.restarted(appends, to), had(appends));
                assert_eq!(all, messages, "after {appends} of {before} to {}", b.journal.len());
            }
        }
    }
}

#[test]
fn a_checkpoint_while_refused_messages_are_on_their_way_keeps_them() {
    let mut on_their_way = 0;
    for group in 0..6 {
        for ends in [false, true] {
            let filter = format!("$share/g{group}/t");
            let (mut b, last, messages) = refused_by_the_first(3, &filter, |b| b.mesh_held = true);
            if ends {
                b.open(v5("a"));
            }
            on_their_way += b.shards.iter().filter(|shard| !shard.unsettled.is_empty()).count();
            b.checkpoint(b.journal.len());
            let had = seen(&b, last, b.journal.len()).into_iter().collect();
            let all = with_both(b.read_again(b.journal.len(), 3), had);
            assert_eq!(all, messages, "{filter}, {ends}");
        }
    }
    assert!(on_their_way > 0, "some group is another shard's");
}

#[test]
fn a_session_that_ends_while_it_gives_messages_away_is_in_the_log_until_they_are_elsewhere() {
    for group in 0..6 {
        let filter = format!("$share/g{group}/t");
        let mut before = 0;
        let (mut b, last, messages) = refused_by_the_first(3, &filter, |b| {
            before = b.journal.len();
            b.mesh_held = true;
        });
        b.open(v5("a"));
        b.mesh_held = false;
        b.settle();
        for appends in before..=b.journal.len() {
            let had = seen(&b, last, appends).into_iter().collect();
            let all = with_both(b.restarted(appends, 3), had);
            assert_eq!(
                all,
                messages,
                "{filter}, after {appends} of {before} to {}",
                b.journal.len()
            );
        }
    }
}

#[test]
fn a_crash_while_a_will_is_sent_does_not_lose_it() {
    for from in [1, 3] {
        let mut b = stored(from);
        let mut watchers = Vec::new();
        for name in ["s", "a", "b"] {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, "bye", 1);
            watchers.push((name, c));
        }
        let c = b.connect(v5("pub").lasting().will(will("bye", 1, "bye")));
        let before = b.journal.len();
        b.lose(c);
        for appends in before..=b.journal.len() {
            for (name, c) in &watchers {
                for to in [1, 3] {
                    let all = arrived(&b, *c, appends, to, name);
                    assert_eq!(
                        all.len(),
                        1,
                        "{name} after {appends} of {before} to {}",
                        b.journal.len()
                    );
                }
            }
        }
    }
}

#[test]
fn a_client_that_comes_back_while_its_will_is_sent_hears_when_that_is_stored() {
    for shards in [1, 3] {
        let mut b = stored(shards);
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "bye", 1);
        let p = b.connect(v5("pub").lasting().will(will("bye", 1, "first")));
        b.store_held = true;
        b.lose(p);
        let p = b.open(v5("pub").lasting().will(will("bye", 1, "second")));
        assert!(b.take(p).is_empty());
        // A crash now: the first will is still what the log knows of the session.
        let mut next = b.restarted_with(shards);
        let s = next.connect(v5("s").lasting());
        assert!(next.payloads(s).contains(&"first".to_owned()));
        b.store_held = false;
        b.settle();
        b.connack(p);
        let mut next = b.restarted_with(shards);
        let s = next.connect(v5("s").lasting());
        assert!(next.payloads(s).contains(&"second".to_owned()));
    }
}

#[test]
fn a_session_that_begins_while_its_predecessor_ends_is_there_after_a_crash() {
    for shards in [1, 3] {
        let mut b = stored(shards);
        let a = b.connect(v5("a").lasting().will(will("t", 1, "bye")));
        b.subscribe(a, "t", 1);
        let s = b.connect(v5("s").lasting());
        b.subscribe(s, "t", 1);
        b.store_held = true;
        let fresh = || v5("a").clean_start(true).with(|p| p.session_expiry_interval = Some(60));
        let a = b.open(fresh());
        let again = b.open(fresh());
        assert!(b.take(again).is_empty());
        b.store_held = false;
        b.settle();
        assert!(!b.is_open(a));
        assert!(!b.connack(again).session_present);
        b.check_kept();
        let mut b = b.restarted_with(shards);
        let (_, connack) = b.connect_for(v5("a").lasting());
        assert!(connack.session_present);
        assert_eq!(b.total(|c| c.subscriptions), 1);
    }
}

#[test]
fn nobody_hears_that_a_session_is_gone_before_the_log_has_its_end() {
    for shards in [1, 3] {
        let mut b = stored(shards);
        let s = b.connect(v5("s").lasting());
        b.disconnect(s);
        b.store_held = true;
        let first = b.open(v5("s").clean_start(true));
        let second = b.open(v5("s").clean_start(true));
        assert!(b.take(first).is_empty() && b.take(second).is_empty());
        b.store_held = false;
        b.settle();
        assert!(!b.connack(second).session_present);
    }
}

#[test]
fn a_checkpoint_while_shared_messages_are_on_their_way_keeps_them() {
    let mut on_their_way = 0;
    for group in 0..6 {
        let mut b = stored(3);
        let filter = format!("$share/g{group}/t");
        for name in ["a", "b"] {
            let c = b.connect(v5(name).lasting());
            b.subscribe(c, &filter, 1);
            b.disconnect(c);
        }
        let p = b.connect(v5("pub"));
        let messages: BTreeSet<String> = (0..4).map(|n| n.to_string()).collect();
        messages.iter().for_each(|n| _ = b.publish(p, "t", 1, n));
        b.mesh_held = true;
        b.open(v5("a"));
        on_their_way += b.shards.iter().filter(|shard| !shard.unsettled.is_empty()).count();
        b.checkpoint(b.journal.len());
        // The subscriptions of the session that was ending have gone before it.
        let mut next = b.read_again(b.journal.len(), 3);
        let mut all = BTreeSet::new();
        for name in ["a", "b"] {
            let c = next.connect(v5(name).lasting());
            all.extend(next.payloads(c));
        }
        assert_eq!(all, messages, "{filter}");
    }
    assert!(on_their_way > 0, "some group is another shard's");
}
