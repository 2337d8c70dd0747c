//! Shared subscriptions: each group lives on one shard, which hands its messages out in turn (MQTT 5.0 section 4.8.2).

use super::arriving::Arriving;
use super::mesh::Assignment;
use super::subscribe::{Entry, split};
use super::{MeshMessage, SessionRef, Shard, SharedKey};
use crate::index::Index;
use crate::message::Message;
use crate::queued::Queued;
use crate::time::Millis;
use hashbrown::{HashMap, HashSet};
use nervewire_codec::Utf8String;
use slab::Slab;
use std::sync::Arc;

/// The groups that this shard owns, of one tenant.
#[derive(Debug, Default)]
pub(super) struct SharedGroups {
    index: Index<()>,
    groups: Slab<Group>,
    by_key: HashMap<Arc<SharedKey>, u32>,
}

#[derive(Debug)]
struct Group {
    key: Arc<SharedKey>,
    members: Vec<Member>,
    /// Of the members, so that a start with many of them does not look through all for each.
    sessions: HashSet<SessionRef>,
    /// The member that is next.
    cursor: usize,
}

#[derive(Debug)]
struct Member {
    session: SessionRef,
    entry: Entry,
    online: bool,
}

impl SharedGroups {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Members of all groups.
    pub(super) fn members(&self) -> usize {
        self.groups.iter().map(|(_, group)| group.members.len()).sum()
    }

    /// Whether the group is new.
    fn join(&mut self, key: Arc<SharedKey>, session: SessionRef, (entry, online): (Entry, bool)) -> bool {
        let known = self.by_key.get(&key).copied();
        let slot = match known {
            Some(slot) => slot,
            None => {
                let slot = self.groups.insert(Group {
                    key: key.clone(),
                    members: Vec::new(),
                    sessions: HashSet::new(),
                    cursor: 0,
                }) as u32;
                self.index.insert(&key.filter, slot, ());
                self.by_key.insert(key, slot);
                slot
            }
        };
        let Some(group) = self.groups.get_mut(slot as usize) else {
            return false;
        };
        let member = Member { session, entry, online };
        if group.sessions.insert(session) {
            group.members.push(member);
        } else if let Some(known) = group.members.iter_mut().find(|member| member.session == session) {
            *known = member;
        }
        known.is_none()
    }

    /// Whether the group is no more.
    fn leave(&mut self, key: &SharedKey, session: SessionRef) -> bool {
        let Some(slot) = self.by_key.get(key).copied() else {
            return false;
        };
        let Some(group) = self.groups.get_mut(slot as usize) else {
            return false;
        };
        let Some(position) = group.members.iter().position(|member| member.session == session) else {
            return false;
        };
        group.members.remove(position);
        group.sessions.remove(&session);
        if position < group.cursor {
            group.cursor -= 1;
        }
        let gone = group.members.is_empty();
        if gone {
            self.index.remove(&key.filter, slot);
            self.groups.remove(slot as usize);
            self.by_key.remove(key);
        }
        gone
    }

    fn presence(&mut self, key: &SharedKey, session: SessionRef, online: bool) {
        let group = self
            .by_key
            .get(key)
            .and_then(|slot| self.groups.get_mut(*slot as usize));
        let member = group.and_then(|group| group.members.iter_mut().find(|member| member.session == session));
        if let Some(member) = member {
            member.online = online;
        }
    }
}

impl Group {
    /// Round robin over the connected members; while nobody is connected, over all.
    fn next(&mut self) -> Option<(SessionRef, Entry)> {
        let count = self.members.len();
        let turn = (0..count).map(|step| (self.cursor + step) % count);
        let chosen = turn
            .clone()
            .find(|at| self.members[*at].online)
            .or_else(|| turn.clone().next())?;
        self.cursor = (chosen + 1) % count;
        self.members.get(chosen).map(|member| (member.session, member.entry))
    }
}

impl Shard {
    pub(super) fn shared_join(&mut self, now: Millis, key: Arc<SharedKey>, session: SessionRef, how: (Entry, bool)) {
        let space = self.space_of(key.tenant.as_ref());
        let space = self.spaces.get_mut(space as usize);
        if space.is_some_and(|space| space.groups.join(key.clone(), session, how)) {
            self.filter_comes(key.tenant.as_deref(), &key.filter);
        }
        self.announce_interest(now);
    }

    pub(super) fn shared_leave(&mut self, key: &SharedKey, session: SessionRef) {
        let Some(slot) = self.by_tenant.get(&key.tenant).copied() else {
            return;
        };
        let space = self.spaces.get_mut(slot as usize);
        if space.is_some_and(|space| space.groups.leave(key, session)) {
            self.filter_goes(key.tenant.as_deref(), &key.filter);
        }
        self.release_space(slot);
    }

    pub(super) fn shared_presence(&mut self, key: &SharedKey, session: SessionRef, online: bool) {
        let space = self
            .by_tenant
            .get(&key.tenant)
            .and_then(|slot| self.spaces.get_mut(*slot as usize));
        if let Some(space) = space {
            space.groups.presence(key, session, online);
        }
    }

    /// Tells the owners of a session's groups that its connection came or went.
    pub(super) fn shared_presence_of(&mut self, now: Millis, session: u32, online: bool) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        let (space, serial) = (s.space, s.serial);
        let shared: Vec<Utf8String> = s.subscriptions.shared().keys().cloned().collect();
        for filter in shared {
            let (Some(group), topic) = split(&filter) else { continue };
            let key = self.shared_key(space, group, topic);
            let session = SessionRef {
                shard: self.config.shard,
                slot: session,
                serial,
            };
            let owner = key.owner(self.config.shards);
            self.send_mesh(now, owner, MeshMessage::SharedPresence { key, session, online });
        }
    }

    /// One member of each group that matches gets the message [MQTT-4.8.2-2].
    pub(super) fn deliver_to_groups(&mut self, now: Millis, space: u32, arriving: &mut Arriving<'_>) {
        let Some(space) = self
            .spaces
            .get_mut(space as usize)
            .filter(|space| !space.groups.is_empty())
        else {
            return;
        };
        let SharedGroups { index, groups, .. } = &mut space.groups;
        let already = &self.already;
        let mut chosen = Vec::new();
        let topic = arriving.content.topic;
        index.matches(&topic, &mut |slot, ()| {
            let Some(group) = groups.get_mut(slot as usize) else {
                return;
            };
            if already.has_group(&arriving.content, &group.key) {
                return;
            }
            if let Some((session, entry)) = group.next() {
                chosen.push((session, assignment(arriving.keep(), entry, group.key.clone())));
            }
        });
        for (session, queued) in chosen {
            self.assign(now, session, queued);
        }
    }

    fn assign(&mut self, now: Millis, session: SessionRef, queued: Queued) {
        let confirm = self.confirm();
        let delivery = Assignment { queued, confirm };
        self.send_mesh(now, session.shard, MeshMessage::Assign { session, delivery });
    }

    /// A message that the group's owner chose one of our sessions for.
    pub(super) fn assigned(&mut self, now: Millis, session: SessionRef, mut queued: Queued) {
        if self
            .sessions
            .get(session.slot as usize)
            .is_some_and(|s| s.serial == session.serial)
        {
            if self.record_queued(session.slot, &mut queued) {
                self.deliver(now, session.slot, queued);
            }
            return;
        }
        // It ended while the message was on its way.
        if let Some(key) = queued.shared.clone() {
            let owner = key.owner(self.config.shards);
            let confirm = self.confirm();
            self.send_mesh(now, owner, MeshMessage::Reassign(Assignment { queued, confirm }));
        }
    }

    /// A message that comes back from a member whose session ended.
    pub(super) fn reassign(&mut self, now: Millis, queued: Queued) {
        let Some(key) = queued.shared.clone() else { return };
        let space = self
            .by_tenant
            .get(&key.tenant)
            .and_then(|slot| self.spaces.get_mut(*slot as usize));
        let next = space.and_then(|space| {
            let slot = *space.groups.by_key.get(&key)?;
            space.groups.groups.get_mut(slot as usize)?.next()
        });
        // What came by a shared subscription never leaves memory before it is done with.
        match next.zip(queued.body()) {
            Some(((session, entry), message)) => {
                let mut next = assignment(message, entry, key);
                next.refusals = queued.refusals;
                self.assign(now, session, next);
            }
            None => self.counters.dropped.no_shared_member += 1,
        }
    }
}

fn assignment(message: &Arc<Message>, entry: Entry, key: Arc<SharedKey>) -> Queued {
    let qos = message.app.qos.min(entry.options.qos);
    let retain = message.app.retain && entry.options.retain_as_published;
    let identifier = (entry.identifier != 0).then_some(entry.identifier);
    let queued = Queued::new(message.clone(), 0, qos, retain);
    queued.with_identifiers(identifier.as_slice()).by(Some(key))
}
