//! Bans as the store keeps them: the shard that owns their partition remembers what it has recorded, so that a checkpoint can
//! tell what is still true. Who is banned is decided elsewhere.

use super::commit::Then;
use super::{Notice, Shard};
use crate::store::{BannedSubject, Partition, Record, StoredBan};
use crate::time::Millis;
use smallvec::smallvec;

/// Where all bans are.
const BANS: Partition = Partition(0);

impl Shard {
    /// The shard that records bans.
    pub fn keeps_bans(&self) -> bool {
        BANS.owner(self.config.shards) == self.config.shard
    }

    /// Records a ban; [`Notice::Kept`] with this number says that it is durable.
    pub fn keep_ban(&mut self, now: Millis, ban: StoredBan, number: u64) {
        self.kept_bans.retain(|_, ban| ban.is_in_force(now));
        self.kept_bans.insert(ban.subject.clone(), ban.clone());
        self.record_ban(now, Record::Banned(Box::new(ban)), number);
    }

    /// Records that a ban has been lifted; as [`Shard::keep_ban`].
    pub fn lift_ban(&mut self, now: Millis, subject: BannedSubject, number: u64) {
        self.kept_bans.remove(&subject);
        self.record_ban(now, Record::Lifted(subject), number);
    }

    /// The bans that the store held, and those that were recorded since.
    pub fn kept_bans(&self) -> impl Iterator<Item = &StoredBan> {
        self.kept_bans.values()
    }

    fn record_ban(&mut self, now: Millis, record: Record, number: u64) {
        let commit = self.begin(smallvec![Then::Kept(number)]);
        if self.waits_for_store() {
            self.within(Some(commit), |shard| shard.append(BANS, vec![record]));
        }
        self.part_settled(now, commit, Ok(()));
    }

    pub(super) fn ban_kept(&mut self, number: u64) {
        self.notices.push_back(Notice::Kept(number));
    }

    pub(super) fn restore_ban(&mut self, ban: StoredBan) {
        self.kept_bans.insert(ban.subject.clone(), ban);
    }

    pub(super) fn restore_lifted(&mut self, subject: &BannedSubject) {
        self.kept_bans.remove(subject);
    }

    pub(super) fn is_banned_as_recorded(&self, now: Millis, ban: &StoredBan) -> bool {
        ban.is_in_force(now) && self.kept_bans.get(&ban.subject) == Some(ban)
    }
}
