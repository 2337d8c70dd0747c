//! What leaves a session: its will when the connection ends, its shared messages when the session does or may not have them. A
//! crash must not find them neither here nor there, so the log goes on saying of the session what it said before, until where they went to is
//! durable. Whoever needs the session's next record waits for that.

use super::commit::Then;
use super::mesh::Confirm;
use super::record::state;
use super::{CommitId, Shard};
use crate::store::{ClientKey, Record, SessionState};
use crate::time::Millis;
use hashbrown::HashSet;
use smallvec::{SmallVec, smallvec};

/// A session's record that is still to be made, because something is leaving it.
#[derive(Debug)]
pub(super) struct Unsettled {
    /// Everything that is leaving.
    commit: CommitId,
    /// The session has ended.
    gone: bool,
    /// What the log says of it.
    recorded: Box<SessionState>,
    /// Commits that wait for the next record.
    waiting: SmallVec<[CommitId; 1]>,
    /// Of the copies that are on their way to other members of their shared subscriptions.
    orders: HashSet<u64>,
}

impl Shard {
    /// Something is about to leave a session that is in the log. It goes as a part of the commit that this answers; the caller
    /// settles that part.
    pub(super) fn leaving(&mut self, session: u32) -> Option<CommitId> {
        let s = self.sessions.get(session as usize).filter(|s| s.stored)?;
        let key = ClientKey::of(&s.client);
        if let Some(unsettled) = self.unsettled.get(&key) {
            let commit = unsettled.commit;
            self.add_part(commit);
            return Some(commit);
        }
        let recorded = Box::new(state(s));
        let commit = self.begin_owned(smallvec![Then::Settled(Box::new(key.clone()))]);
        let unsettled = Unsettled {
            commit,
            gone: false,
            recorded,
            waiting: SmallVec::new(),
            orders: HashSet::new(),
        };
        self.unsettled.insert(key, unsettled);
        Some(commit)
    }

    /// A copy that the log says is with a session that something is leaving goes to another member.
    pub(super) fn copy_leaves(&mut self, key: &ClientKey, order: u64) {
        if let Some(unsettled) = self.unsettled.get_mut(key) {
            unsettled.orders.insert(order);
        }
    }

    /// The log is about to say that the copy is with the session no more.
    pub(super) fn copy_has_left(&mut self, key: &ClientKey, order: u64) {
        if let Some(unsettled) = self.unsettled.get_mut(key) {
            unsettled.orders.remove(&order);
        }
    }

    /// Whether a copy is on its way from this session to another.
    pub(super) fn is_on_its_way(&self, key: &ClientKey, order: u64) -> bool {
        let unsettled = self.unsettled.get(key);
        unsettled.is_some_and(|unsettled| unsettled.orders.contains(&order))
    }

    /// The session that something is leaving has ended. The current commit waits for the record of that.
    pub(super) fn end_when_settled(&mut self, key: &ClientKey) {
        if let Some(unsettled) = self.unsettled.get_mut(key) {
            unsettled.gone = true;
        }
        self.waits_to_be_settled(key);
    }

    /// Whether the next record of a session must wait; then the current commit waits for it.
    pub(super) fn waits_to_be_settled(&mut self, key: &ClientKey) -> bool {
        if self.unsettled.is_empty() || !self.unsettled.contains_key(key) {
            return false;
        }
        if let Some(Confirm { commit, .. }) = self.confirm()
            && let Some(unsettled) = self.unsettled.get_mut(key)
        {
            unsettled.waiting.push(commit);
        }
        true
    }

    /// An earlier session of this client has ended, and the log does not say so yet: the current commit waits until it does.
    pub(super) fn wait_for_end(&mut self, key: &ClientKey) {
        if self.unsettled.get(key).is_some_and(|unsettled| unsettled.gone) {
            self.waits_to_be_settled(key);
        } else if let Some(end) = self.ends.get(key).copied()
            && let Some(confirm) = self.confirm()
        {
            self.follow_by(end, Then::Confirm(confirm));
        }
    }

    /// Whether the log does not say yet that an earlier session of this client has ended.
    pub(super) fn is_ending(&self, key: &ClientKey) -> bool {
        self.ends.contains_key(key) || self.unsettled.get(key).is_some_and(|unsettled| unsettled.gone)
    }

    /// The log says that a session has ended, unless one after it has ended meanwhile.
    pub(super) fn ended(&mut self, key: &ClientKey, commit: CommitId) {
        if self.ends.get(key) == Some(&commit) {
            self.ends.remove(key);
        }
    }

    /// What the log says of a session whose next record must wait, and whether that will be its end.
    pub(super) fn unsettled(&self, key: &ClientKey) -> Option<(&SessionState, bool)> {
        let unsettled = self.unsettled.get(key)?;
        Some((&unsettled.recorded, unsettled.gone))
    }

    /// Everything that was leaving is where it belongs.
    pub(super) fn settled(&mut self, now: Millis, key: &ClientKey) {
        let Some(Unsettled { gone, waiting, .. }) = self.unsettled.remove(key) else {
            return;
        };
        let told = waiting.into_iter().map(|commit| self.settles_part_of(commit)).collect();
        let commit = self.begin(told);
        if gone {
            self.ends.insert(key.clone(), commit);
            self.follow_by(commit, Then::Ended(Box::new(key.clone()), commit));
        }
        self.within(Some(commit), |shard| {
            if gone {
                shard.append(key.partition(), vec![Record::Gone(key.clone())]);
            }
            if let Some(session) = shard.sessions.find(key.tenant.as_deref(), &key.client_id) {
                shard.record_session(session);
            }
        });
        self.part_settled(now, commit, Ok(()));
    }
}
