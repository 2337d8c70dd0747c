//! Retained messages: kept by the shard that owns the topic, gathered from all of them at SUBSCRIBE (MQTT 5.0 section 3.3.1.3).

use super::subscribe::Entry;
use super::{MeshMessage, SessionRef, Shard, ShardInfo, topic_owner};
use crate::limits::{MAX_GATHER_TOPICS, PURGE_STEP_MESSAGES};
use crate::message::{Message, detached};
use crate::retained::SetOutcome;
use crate::session::{Gather, Queued};
use crate::time::Millis;
use nervewire_codec::Utf8String;
use smallvec::SmallVec;
use std::sync::Arc;

impl Shard {
    /// Sets, replaces or deletes the retained message of a topic, where this shard owns it [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    pub(super) fn retain(&mut self, space: u32, message: &Arc<Message>) {
        if !self.owns(message) {
            return;
        }
        let Some(space) = self.spaces.get_mut(space as usize) else {
            return;
        };
        let before = ShardInfo::of(&space.retained);
        if message.app.payload.is_empty() {
            space.retained.remove(&message.app.topic);
        } else {
            // The bounds are the shard's: what other tenants retain is not there for this one.
            let most_messages = self
                .config
                .retained_messages
                .saturating_sub(self.retained.retained_messages);
            let most_bytes = self.config.retained_bytes.saturating_sub(self.retained.retained_bytes);
            space.retained.set_bounds(
                most_messages.saturating_add(before.retained_messages),
                most_bytes.saturating_add(before.retained_bytes),
            );
            if space.retained.set(message.clone()) == SetOutcome::Full {
                self.counters.retained_refused += 1;
                return;
            }
        }
        self.retained.exchange(before, ShardInfo::of(&space.retained));
        self.record_retained(message);
    }

    /// Removes retained messages that expired, and forgets tenants that have nothing left.
    pub(super) fn purge_retained(&mut self, now: Millis) {
        let mut empty: SmallVec<[u32; 4]> = SmallVec::new();
        for (slot, space) in &mut self.spaces {
            let before = ShardInfo::of(&space.retained);
            space.retained.purge_expired(now, PURGE_STEP_MESSAGES);
            self.retained.exchange(before, ShardInfo::of(&space.retained));
            if !space.is_in_use() {
                empty.push(slot as u32);
            }
        }
        empty.into_iter().for_each(|slot| self.release_space(slot));
    }

    fn owns(&self, message: &Message) -> bool {
        topic_owner(message.tenant.as_deref(), &message.app.topic, self.config.shards) == self.config.shard
    }

    /// Whether this shard has to keep the message as a retained one.
    pub(super) fn keeps(&self, message: &Message) -> bool {
        message.app.retain && !message.app.payload.is_empty() && self.owns(message)
    }

    pub(super) fn retained_matching(
        &self,
        now: Millis,
        tenant: Option<&Arc<str>>,
        filter: &Utf8String,
    ) -> Vec<Arc<Message>> {
        let mut messages = Vec::new();
        let space = self
            .by_tenant
            .get(&tenant.cloned())
            .and_then(|space| self.spaces.get(*space as usize));
        if let Some(space) = space {
            space
                .retained
                .matching(filter, now, &mut |message| messages.push(message.clone()));
        }
        messages
    }

    /// Asks every shard that may own a matching topic.
    pub(super) fn gather(&mut self, now: Millis, session: u32, filter: Utf8String, entry: Entry) {
        let ticket = self.next_serial();
        let shards = self.owners_of(session, &filter);
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let reference = SessionRef {
            shard: self.config.shard,
            slot: session,
            serial: s.serial,
        };
        let tenant = s.tenant().cloned();
        s.gathers.push(Gather {
            ticket,
            filter: filter.clone(),
            entry,
            outstanding: shards.len() as u16,
            live: Default::default(),
        });
        for shard in shards {
            let (tenant, filter) = (tenant.clone(), filter.clone());
            self.send_mesh(
                now,
                shard,
                MeshMessage::Gather {
                    session: reference,
                    ticket,
                    tenant,
                    filter,
                },
            );
        }
    }

    fn owners_of(&self, session: u32, filter: &str) -> SmallVec<[u16; 8]> {
        let tenant = self.sessions.get(session as usize).and_then(|s| s.tenant());
        match filter.contains(['+', '#']) {
            true => (0..self.config.shards).collect(),
            false => SmallVec::from_slice(&[topic_owner(tenant.map(|t| &**t), filter, self.config.shards)]),
        }
    }

    /// Retained messages from one shard: queued for the session, except those that a live message has overtaken.
    pub(super) fn gathered(&mut self, now: Millis, session: SessionRef, ticket: u64, messages: Vec<Arc<Message>>) {
        let slot = session.slot;
        let Some(s) = self
            .sessions
            .get_mut(slot as usize)
            .filter(|s| s.serial == session.serial)
        else {
            return;
        };
        let Some(position) = s.gathers.iter().position(|gather| gather.ticket == ticket) else {
            return;
        };
        let gather = &mut s.gathers[position];
        gather.outstanding = gather.outstanding.saturating_sub(1);
        let entry = gather.entry;
        let overtaken = |m: &Message| gather.live.get(&m.app.topic).is_some_and(|live| *live >= m.accepted_at);
        let fresh: Vec<Arc<Message>> = messages.into_iter().filter(|m| !overtaken(m)).collect();
        if gather.outstanding == 0 {
            s.gathers.swap_remove(position);
        }
        for message in fresh {
            let queued = Queued {
                qos: message.app.qos.min(entry.options.qos),
                retain: true, // [MQTT-3.3.1-8]
                identifiers: (entry.identifier != 0)
                    .then_some(entry.identifier)
                    .into_iter()
                    .collect(),
                shared: None,
                message,
            };
            self.record_queued(slot, &queued);
            self.deliver(now, slot, queued);
        }
    }

    /// A live message passes a session that waits for retained ones.
    pub(super) fn note_live(&mut self, session: u32, message: &Message) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        for gather in &mut s.gathers {
            if !nervewire_codec::topic::matches(&gather.filter, &message.app.topic) {
                continue;
            }
            if gather.live.len() >= MAX_GATHER_TOPICS {
                self.counters.gather_topics_over_bound += 1;
                continue;
            }
            let latest = gather.live.entry(detached(&message.app.topic)).or_insert(0);
            *latest = (*latest).max(message.accepted_at);
        }
    }
}
