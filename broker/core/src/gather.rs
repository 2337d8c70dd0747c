//! Retained messages on their way to one session after a SUBSCRIBE: gathered from every shard, then handed out one by one.
//!
//! They may be far more than a session's queue takes, and they are held by the retained messages anyway: here they wait as
//! pointers until the session can take the next one.

use crate::index::Index;
use crate::limits::{MAX_GATHER_TOPICS, MAX_GATHERED_MESSAGES};
use crate::message::{Content, Message};
use crate::queued::Queued;
use crate::shard::Entry;
use crate::time::Millis;
use hashbrown::HashMap;
use nervewire_codec::{QoS, Utf8String};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What one session has asked for and not been given yet: at most one gathering per filter.
#[derive(Debug, Default)]
pub(crate) struct Gathers {
    by_ticket: HashMap<u64, Gather>,
    /// Tickets by filter.
    filters: Index<u64>,
    /// Tickets of those with messages that wait. The oldest goes first.
    ready: BTreeSet<u64>,
    /// Messages that wait in all of them.
    messages: usize,
}

#[derive(Debug)]
struct Gather {
    filter: Utf8String,
    entry: Entry,
    /// Shards that have not answered yet.
    outstanding: u16,
    waiting: VecDeque<Arc<Message>>,
    /// Live messages delivered meanwhile: a retained one accepted no later is stale.
    live: HashMap<Utf8String, Millis>,
}

/// What became of the next message when its turn came.
#[derive(Debug)]
pub(crate) enum Turn {
    Fresh(Queued),
    /// A live message of its topic has overtaken it.
    Overtaken,
    Expired,
}

/// The index tells subscribers apart; here is only one.
const THE_SESSION: u32 = 0;

impl Gathers {
    /// The answers of so many shards will come under this ticket. An earlier gathering of the filter ends: the new one brings
    /// all of its messages again [MQTT-3.8.4-3].
    pub(crate) fn begin(&mut self, ticket: u64, filter: Utf8String, entry: Entry, shards: u16) {
        if let Some(earlier) = self.filters.insert(&filter, THE_SESSION, ticket).replaced {
            self.end(earlier);
        }
        let gather = Gather {
            filter,
            entry,
            outstanding: shards,
            waiting: VecDeque::new(),
            live: HashMap::new(),
        };
        self.by_ticket.insert(ticket, gather);
    }

    /// One shard's answer. Says how many messages were left out for [`MAX_GATHERED_MESSAGES`].
    pub(crate) fn answered(&mut self, ticket: u64, mut messages: Vec<Arc<Message>>) -> usize {
        let Some(gather) = self.by_ticket.get_mut(&ticket) else {
            return 0;
        };
        gather.outstanding = gather.outstanding.saturating_sub(1);
        let room = MAX_GATHERED_MESSAGES.saturating_sub(self.messages);
        let over_bound = messages.len().saturating_sub(room);
        messages.truncate(room);
        self.messages += messages.len();
        gather.waiting.extend(messages);
        if !gather.waiting.is_empty() {
            self.ready.insert(ticket);
        }
        self.end_if_done(ticket);
        over_bound
    }

    /// The message whose turn it is, with the QoS that it will be sent at.
    pub(crate) fn next(&self) -> Option<(QoS, &Message)> {
        let gather = self.by_ticket.get(self.ready.first()?)?;
        let message = gather.waiting.front()?;
        Some((gather.qos(message), message))
    }

    /// Takes the message whose turn it is.
    pub(crate) fn take_next(&mut self, now: Millis) -> Option<Turn> {
        let ticket = *self.ready.first()?;
        let gather = self.by_ticket.get_mut(&ticket)?;
        let message = gather.waiting.pop_front()?;
        self.messages -= 1;
        let turn = gather.turn(message, now);
        if gather.waiting.is_empty() {
            self.ready.remove(&ticket);
            self.end_if_done(ticket);
        }
        Some(turn)
    }

    /// A live message passes. Says how many gatherings can remember no more topics.
    pub(crate) fn note_live(&mut self, message: &Content<'_>) -> u64 {
        let mut over_bound = 0;
        let by_ticket = &mut self.by_ticket;
        self.filters.matches(&message.topic, &mut |_, ticket| {
            let noted = by_ticket.get_mut(ticket).is_none_or(|gather| gather.note_live(message));
            over_bound += u64::from(!noted);
        });
        over_bound
    }

    /// The subscription has other options, and its retained messages are not to be sent again.
    pub(crate) fn change(&mut self, filter: &str, entry: Entry) {
        let Some(ticket) = self.filters.remove(filter, THE_SESSION) else {
            return;
        };
        self.filters.insert(filter, THE_SESSION, ticket);
        if let Some(gather) = self.by_ticket.get_mut(&ticket) {
            gather.entry = entry;
        }
    }

    /// The subscription has ended.
    pub(crate) fn forget(&mut self, filter: &str) {
        if let Some(ticket) = self.filters.remove(filter, THE_SESSION) {
            self.end(ticket);
        }
    }

    /// Nothing waits and no answer is to come.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_ticket.is_empty()
    }

    fn end_if_done(&mut self, ticket: u64) {
        let done = |gather: &&Gather| gather.outstanding == 0 && gather.waiting.is_empty();
        if let Some(gather) = self.by_ticket.get(&ticket).filter(done) {
            self.filters.remove(&gather.filter, THE_SESSION);
            self.end(ticket);
        }
    }

    fn end(&mut self, ticket: u64) {
        self.ready.remove(&ticket);
        if let Some(gather) = self.by_ticket.remove(&ticket) {
            self.messages -= gather.waiting.len();
        }
    }
}

impl Gather {
    fn qos(&self, message: &Message) -> QoS {
        message.app.qos.min(self.entry.options.qos)
    }

    fn turn(&self, message: Arc<Message>, now: Millis) -> Turn {
        let live = self.live.get(&message.app.topic);
        if live.is_some_and(|live| *live >= message.accepted_at) {
            return Turn::Overtaken;
        }
        if message.is_expired(now) {
            return Turn::Expired;
        }
        let qos = self.qos(&message);
        let identifier = (self.entry.identifier != 0).then_some(self.entry.identifier);
        // [MQTT-3.3.1-8]
        Turn::Fresh(Queued::new(message, 0, qos, true).with_identifiers(identifier.as_slice()))
    }

    /// Whether the topic could be remembered.
    fn note_live(&mut self, message: &Content<'_>) -> bool {
        let accepted_at = message.accepted_at;
        if let Some(latest) = self.live.get_mut(message.topic.as_str()) {
            *latest = accepted_at.max(*latest);
            return true;
        }
        let room = self.live.len() < MAX_GATHER_TOPICS;
        if room {
            self.live.insert(message.topic.to_utf8_string(), accepted_at);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::AppMessage;
    use bytes::Bytes;
    use nervewire_codec::SubscriptionOptions;

    const ENTRY: Entry = Entry {
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: nervewire_codec::RetainHandling::Send,
        },
        identifier: 0,
    };

    fn message(topic: &str, accepted_at: Millis) -> Arc<Message> {
        let app = AppMessage {
            topic: text(topic),
            payload: Bytes::new(),
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: None,
        };
        Arc::new(Message {
            id: 0,
            accepted_at,
            app,
            expires_at: Some(100),
            publisher: None,
            tenant: None,
            source: None,
        })
    }

    fn text(s: &str) -> Utf8String {
        Utf8String::try_from(s).unwrap()
    }

    fn pending(filters: &[(u64, &str)], shards: u16) -> Gathers {
        let mut gathers = Gathers::default();
        for (ticket, filter) in filters {
            gathers.begin(*ticket, text(filter), ENTRY, shards);
        }
        gathers
    }

    /// The topics of the messages that are left to be sent.
    fn rest(gathers: &mut Gathers, now: Millis) -> Vec<String> {
        let mut topics = Vec::new();
        while let Some(turn) = gathers.take_next(now) {
            if let Turn::Fresh(queued) = turn {
                topics.push(queued.body().unwrap().app.topic.to_string());
            }
        }
        topics
    }

    #[test]
    fn messages_go_in_the_order_of_their_subscriptions_and_nothing_is_left() {
        let mut gathers = pending(&[(1, "a/+"), (2, "b/+")], 2);
        gathers.answered(2, vec![message("b/1", 1), message("b/2", 1)]);
        gathers.answered(1, vec![message("a/1", 1)]);
        assert_eq!(gathers.next().map(|(qos, _)| qos), Some(QoS::AtLeastOnce));
        assert_eq!(rest(&mut gathers, 0), ["a/1", "b/1", "b/2"]);
        assert!(!gathers.is_empty(), "answers are to come");
        gathers.answered(2, Vec::new());
        gathers.answered(1, vec![message("a/2", 1)]);
        assert_eq!(rest(&mut gathers, 0), ["a/2"]);
        assert!(gathers.is_empty() && gathers.filters.is_empty() && gathers.messages == 0);
    }

    #[test]
    fn what_is_older_than_a_live_message_of_its_topic_is_stale() {
        for (live, expected) in [(4, &["t"][..]), (5, &[]), (6, &[])] {
            let mut gathers = pending(&[(1, "#")], 1);
            gathers.answered(1, vec![message("t", 5)]);
            gathers.note_live(&message("t", live).content());
            gathers.note_live(&message("other", 9).content());
            gathers.note_live(&message("t", 1).content());
            assert_eq!(rest(&mut gathers, 0), expected, "live at {live}");
        }
    }

    #[test]
    fn expired_messages_are_told_apart() {
        let mut gathers = pending(&[(1, "#")], 1);
        gathers.answered(1, vec![message("t", 5)]);
        assert!(matches!(gathers.take_next(100), Some(Turn::Expired)));
        assert!(gathers.is_empty());
    }

    #[test]
    fn a_filter_is_gathered_once_at_a_time() {
        let mut gathers = pending(&[(1, "t"), (2, "t")], 2);
        gathers.answered(1, vec![message("t", 1)]);
        assert!(rest(&mut gathers, 0).is_empty(), "an answer to the first");
        gathers.answered(2, vec![message("t", 1)]);
        gathers.forget("t");
        assert!(gathers.is_empty() && gathers.ready.is_empty() && gathers.messages == 0);
    }

    #[test]
    fn messages_that_wait_are_bounded_for_all_filters_together() {
        let mut gathers = pending(&[(1, "a"), (2, "b")], 2);
        assert_eq!(gathers.answered(1, vec![message("a", 1); MAX_GATHERED_MESSAGES - 1]), 0);
        assert_eq!(gathers.answered(2, vec![message("b", 1); 3]), 2);
        assert_eq!(gathers.answered(2, vec![message("b", 1); 3]), 3);
        gathers.forget("a");
        assert_eq!(gathers.messages, 1);
    }

    #[test]
    fn topics_to_remember_are_bounded_and_known_ones_still_updated() {
        let mut gathers = pending(&[(1, "#")], 1);
        for n in 0..MAX_GATHER_TOPICS {
            assert_eq!(gathers.note_live(&message(&format!("{n}"), 1).content()), 0);
        }
        assert_eq!(gathers.note_live(&message("one more", 1).content()), 1);
        assert_eq!(gathers.note_live(&message("0", 9).content()), 0);
        gathers.answered(1, vec![message("0", 9), message("one more", 1)]);
        assert_eq!(rest(&mut gathers, 0), ["one more"]);
    }
}
