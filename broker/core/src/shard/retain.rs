//! Retained messages: kept by the shard that owns the topic, gathered from all of them at SUBSCRIBE (MQTT 5.0 section 3.3.1.3).

use super::arriving::Arriving;
use super::subscribe::Entry;
use super::{MeshMessage, SessionRef, Shard, ShardInfo, topic_owner};
use crate::gather::{Gathers, Turn};
use crate::limits::PURGE_STEP_MESSAGES;
use crate::message::{Content, Message, detached};
use crate::retained::SetOutcome;
use crate::time::Millis;
use nervewire_codec::Utf8String;
use smallvec::SmallVec;
use std::sync::Arc;

impl Shard {
    /// Sets, replaces or deletes the retained message of a topic, where this shard owns it [MQTT-3.3.1-5], [MQTT-3.3.1-6].
    pub(super) fn retain(&mut self, space: u32, arriving: &mut Arriving<'_>) {
        if !self.owns(&arriving.content) {
            return;
        }
        if self.waits_for_store() && !self.may_append() {
            self.counters.retained_refused += 1;
            return;
        }
        let message = arriving.keep().clone();
        let is_old = self.already.is_retained(&arriving.content) || self.is_overtaken(space, arriving);
        if is_old || !self.set_retained(space, &message) {
            return;
        }
        self.record_retained(&message);
    }

    /// Whether a message that is routed again after a crash comes too late: a younger one is retained.
    fn is_overtaken(&self, space: u32, arriving: &Arriving<'_>) -> bool {
        let message = &arriving.content;
        let space = self.spaces.get(space as usize);
        self.already.is_routed_again(message)
            && space
                .and_then(|space| space.retained.get(&message.topic))
                .is_some_and(|retained| retained.accepted_at > message.accepted_at)
    }

    /// Enters a message, or deletes that of its topic; whether there was room.
    pub(super) fn set_retained(&mut self, space: u32, message: &Arc<Message>) -> bool {
        let Some(space) = self.spaces.get_mut(space as usize) else {
            return false;
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
                return false;
            }
        }
        self.retained.exchange(before, ShardInfo::of(&space.retained));
        true
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

    fn owns(&self, message: &Content<'_>) -> bool {
        let tenant = message.tenant.map(|tenant| &**tenant);
        topic_owner(tenant, &message.topic, self.config.shards) == self.config.shard
    }

    /// Whether this shard has to keep the message as a retained one.
    pub(super) fn keeps(&self, message: &Content<'_>) -> bool {
        message.retain && !message.payload.is_empty() && self.owns(message)
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
    pub(super) fn gather(&mut self, now: Millis, session: u32, filter: &Utf8String, entry: Entry) {
        let shards = self.owners_of(session, filter);
        if *shards == [self.config.shard] && !self.has_retained(session) {
            // An earlier answer to this subscription must not be sent twice, nor one that was deleted meanwhile.
            self.change_gathers(session, |gathers| gathers.forget(filter));
            return;
        }
        let filter = detached(filter);
        let ticket = self.next_serial();
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let reference = SessionRef {
            shard: self.config.shard,
            slot: session,
            serial: s.serial,
        };
        let tenant = s.tenant().cloned();
        s.gathers
            .get_or_insert_default()
            .begin(ticket, filter.clone(), entry, shards.len() as u16);
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

    fn has_retained(&self, session: u32) -> bool {
        let s = self.sessions.get(session as usize);
        let space = s.and_then(|s| self.spaces.get(s.space as usize));
        space.is_some_and(|space| !space.retained.is_empty())
    }

    fn owners_of(&self, session: u32, filter: &str) -> SmallVec<[u16; 8]> {
        let tenant = self.sessions.get(session as usize).and_then(|s| s.tenant());
        match filter.contains(['+', '#']) {
            true => (0..self.config.shards).collect(),
            false => SmallVec::from_slice(&[topic_owner(tenant.map(|t| &**t), filter, self.config.shards)]),
        }
    }

    /// Retained messages from one shard: they wait until the session can take them.
    pub(super) fn gathered(&mut self, now: Millis, session: SessionRef, ticket: u64, messages: Vec<Arc<Message>>) {
        let slot = session.slot;
        let s = self.sessions.get(slot as usize);
        if s.is_none_or(|s| s.serial != session.serial) {
            return;
        }
        let over_bound = self.change_gathers(slot, |gathers| gathers.answered(ticket, messages));
        self.counters.gathered_over_bound += over_bound.unwrap_or(0) as u64;
        self.pump(now, slot);
    }

    /// Puts the next retained message that waits into a session's queue, where that is empty and the client can take it.
    pub(super) fn refill(&mut self, now: Millis, session: u32) {
        while let Some(turn) = self.next_gathered(now, session) {
            match turn {
                Turn::Fresh(mut queued) => {
                    // It was promised to the session when it subscribed: nobody waits for this record.
                    self.within(None, |shard| shard.record_queued(session, &mut queued));
                    let (order, qos) = (queued.order, queued.qos);
                    if self.enqueue(now, session, queued) {
                        return;
                    }
                    self.record_acknowledged(session, order, qos);
                }
                Turn::Overtaken => {}
                Turn::Expired => self.counters.dropped.expired += 1,
            }
        }
    }

    fn next_gathered(&mut self, now: Millis, session: u32) -> Option<Turn> {
        let s = self.sessions.get(session as usize)?;
        let (qos, message) = s.gathers.as_ref()?.next()?;
        if !s.queue.is_empty() || !self.may_send(s, qos, message.queue_bytes() as u64) {
            return None;
        }
        self.change_gathers(session, |gathers| gathers.take_next(now))?
    }

    /// Changes what a session waits for, and forgets it where nothing is left to wait for.
    pub(super) fn change_gathers<T>(&mut self, session: u32, change: impl FnOnce(&mut Gathers) -> T) -> Option<T> {
        let s = self.sessions.get_mut(session as usize)?;
        let answer = change(s.gathers.as_mut()?);
        s.gathers.take_if(|gathers| gathers.is_empty());
        Some(answer)
    }

    /// A live message passes a session that waits for retained ones.
    pub(super) fn note_live(&mut self, session: u32, message: &Content<'_>) {
        if let Some(s) = self.sessions.get_mut(session as usize) {
            self.counters.gather_topics_over_bound += s.note_live(message);
        }
    }
}
