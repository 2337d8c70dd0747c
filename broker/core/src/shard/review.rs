//! Subscriptions after SUBSCRIBE: a session hears only what its client may subscribe to by the policy of this moment and as who it
//! is now. Each filter is judged again before the first delivery under another policy or another identity, natively where rules
//! decide. What is refused then is suspended: nothing that only it matches goes out, until a later policy allows it.

use super::commit::Then;
use super::judge::{Judge, Judgement};
use super::mesh::{Assignment, MeshMessage};
use super::subscribe::{Entry, split};
use super::{Call, Shard};
use crate::hook::{Action, Client};
use crate::limits::{MAX_SHARED_REFUSALS, MAX_SUSPENDED_SUBSCRIPTIONS, SHOWN_SUSPENDED_FILTERS};
use crate::message::noted;
use crate::policy::RequestRef;
use crate::queued::Queued;
use crate::session::Session;
use crate::time::Millis;
use hashbrown::{HashMap, HashSet};
use nervewire_codec::{QoS, Utf8String, topic};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// No policy has judged all of a session's subscriptions.
pub(crate) const UNREVIEWED: u32 = u32::MAX;

/// What a session's client may not hear, and the judging of its subscriptions while a plugin is asked. Empty, it owns nothing.
#[derive(Debug, Default)]
pub(crate) struct Reviewed(Option<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// Filters as subscribed, with `$share/group/`. One whose subscription has ended stays as long as messages of it may wait.
    suspended: HashMap<Utf8String, QoS>,
    /// More were to be suspended than are remembered: only what a subscription matches goes out.
    everything: bool,
    under_way: Option<Review>,
}

/// What became of a filter that was to be suspended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Suspended {
    Now,
    Before,
    OverBound,
}

/// The filters of one session under judgement, by one policy and for one identity.
#[derive(Debug)]
struct Review {
    generation: u64,
    client: Arc<Client>,
    filters: Vec<(Utf8String, QoS)>,
    /// One per filter judged so far.
    allowed: Vec<bool>,
}

impl Reviewed {
    /// Nothing at all is suspended.
    pub(crate) fn is_clear(&self) -> bool {
        let inner = self.0.as_ref();
        inner.is_none_or(|inner| inner.suspended.is_empty() && !inner.everything)
    }

    /// How many are suspended.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.suspended.len())
    }

    fn suspended(&self) -> impl Iterator<Item = (&Utf8String, &QoS)> {
        self.0.iter().flat_map(|inner| &inner.suspended)
    }

    /// Nothing waits that may have come by a filter which is not remembered.
    fn forget_the_rest(&mut self) {
        if let Some(inner) = &mut self.0 {
            inner.everything = false;
        }
    }

    /// The next review begins anew.
    pub(crate) fn forget_review(&mut self) {
        if let Some(inner) = &mut self.0 {
            inner.under_way = None;
        }
    }

    fn is_suspended(&self, filter: &str) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| inner.suspended.contains_key(filter))
    }

    /// Whether one of the filters that matches is suspended.
    fn is_any_suspended(&self, matches: impl Fn(&str) -> bool) -> bool {
        let inner = self.0.as_ref();
        inner.is_some_and(|inner| inner.everything || inner.suspended.keys().any(|filter| matches(filter)))
    }

    fn suspend(&mut self, filter: Utf8String, qos: QoS) -> Suspended {
        let inner = self.0.get_or_insert_default();
        if inner.suspended.contains_key(&filter) {
            return Suspended::Before;
        }
        if inner.suspended.len() >= MAX_SUSPENDED_SUBSCRIPTIONS {
            inner.everything = true;
            return Suspended::OverBound;
        }
        inner.suspended.insert(filter, qos);
        Suspended::Now
    }

    /// Whether it was suspended.
    fn resume(&mut self, filter: &str) -> bool {
        let Some(inner) = &mut self.0 else { return false };
        let resumed = inner.suspended.remove(filter).is_some();
        self.release();
        resumed
    }

    /// What is not in a review is nobody's business any more.
    fn keep(&mut self, reviewed: &[(Utf8String, QoS)]) {
        let Some(inner) = &mut self.0 else { return };
        if !inner.suspended.is_empty() {
            let reviewed: HashSet<&Utf8String> = reviewed.iter().map(|(filter, _)| filter).collect();
            inner.suspended.retain(|filter, _| reviewed.contains(filter));
        }
        self.release();
    }

    fn release(&mut self) {
        self.0
            .take_if(|inner| inner.suspended.is_empty() && inner.under_way.is_none() && !inner.everything);
    }
}

impl Shard {
    /// Whether every subscription of a session was judged by the policy in force.
    pub(super) fn is_reviewed(&self, s: &Session) -> bool {
        s.reviewed == noted(self.policy.generation)
    }

    /// Judges the subscriptions of a session again. Where that needs a plugin: what to ask.
    pub(super) fn review(&mut self, now: Millis, session: u32, judge: &mut Judge) -> Option<Call> {
        let mut review = self.take_review(session, judge)?;
        while let Some((filter, qos)) = review.filters.get(review.allowed.len()) {
            let (_, topic) = split(filter);
            let request = RequestRef {
                action: Action::Subscribe,
                topic,
                qos: *qos,
                retain: false,
            };
            match self.judge(now, judge, &request) {
                Judgement::Allowed => review.allowed.push(true),
                Judgement::Denied => review.allowed.push(false),
                Judgement::Ask(call) => {
                    if let Some(s) = self.sessions.get_mut(session as usize) {
                        s.suspensions.0.get_or_insert_default().under_way = Some(review);
                    }
                    return Some(call);
                }
            }
        }
        self.conclude_review(now, session, review, judge.has_failed());
        None
    }

    /// The review that is under way, where it still holds, else a new one.
    fn take_review(&mut self, session: u32, judge: &Judge) -> Option<Review> {
        let s = self.sessions.get_mut(session as usize)?;
        let under_way = s.suspensions.0.as_mut().and_then(|inner| inner.under_way.take());
        let generation = judge.policy.generation;
        let holds = |review: &Review| review.generation == generation && Arc::ptr_eq(&review.client, &s.client);
        if let Some(review) = under_way.filter(holds) {
            return Some(review);
        }
        let client = s.client.clone();
        Some(Review {
            generation,
            client,
            filters: self.to_be_reviewed(session),
            allowed: Vec::new(),
        })
    }

    /// What a session has subscribed to, and what is suspended of what it had.
    fn to_be_reviewed(&self, session: u32) -> Vec<(Utf8String, QoS)> {
        let Some(s) = self.sessions.get(session as usize) else {
            return Vec::new();
        };
        let mut filters: Vec<(Utf8String, QoS)> = Vec::with_capacity(s.subscriptions.len());
        if let Some(space) = self.spaces.get(s.space as usize) {
            let own = s.subscriptions.filters().iter().filter_map(|filter| {
                let text = space.index.text(*filter);
                let entry = space.index.get(text, session)?.entry;
                Some((Utf8String::try_from(text).ok()?, entry.options.qos))
            });
            filters.extend(own);
        }
        let shared = s.subscriptions.shared().iter();
        filters.extend(shared.map(|(filter, entry)| (filter.clone(), entry.options.qos)));
        if s.queue.is_empty() && s.in_flight.is_empty() {
            return filters;
        }
        let ended = s.suspensions.suspended();
        let ended = ended.filter(|(filter, _)| self.subscription(session, filter).is_none());
        filters.extend(ended.map(|(filter, qos)| (filter.clone(), *qos)));
        filters
    }

    fn conclude_review(&mut self, now: Millis, session: u32, review: Review, failed: bool) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        // Where an authorizer failed, its failure counts for now, and it is asked again before the next delivery.
        s.reviewed = if failed { UNREVIEWED } else { noted(review.generation) };
        if s.queue.is_empty() && s.in_flight.is_empty() {
            s.suspensions.forget_the_rest();
        }
        s.suspensions.keep(&review.filters);
        for ((filter, qos), allowed) in review.filters.iter().zip(&review.allowed) {
            match allowed {
                true => self.resume_subscription(now, session, filter),
                false => self.suspend_subscription(now, session, filter, *qos),
            }
        }
    }

    fn suspend_subscription(&mut self, now: Millis, session: u32, filter: &Utf8String, qos: QoS) {
        if self.suspend(session, filter.clone(), qos) != Suspended::Before
            && self.subscription(session, filter).is_some()
        {
            self.counters.denied_subscribe += 1;
            self.leave_group(now, session, filter);
        }
    }

    fn suspend(&mut self, session: u32, filter: Utf8String, qos: QoS) -> Suspended {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return Suspended::Before;
        };
        let suspended = s.suspensions.suspend(filter, qos);
        self.counters.suspended_over_bound += u64::from(suspended == Suspended::OverBound);
        suspended
    }

    fn resume_subscription(&mut self, now: Millis, session: u32, filter: &Utf8String) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        if s.suspensions.resume(filter)
            && let (Some(group), topic) = split(filter)
            && let Some(entry) = self.subscription(session, filter)
        {
            self.send_join(now, session, (group, topic), entry);
        }
    }

    /// A subscription was made: by a policy that was in force then, and perhaps is no more.
    pub(super) fn subscribed_under(&mut self, session: u32, filter: &str, generation: u64) {
        let current = self.policy.generation;
        if let Some(s) = self.sessions.get_mut(session as usize) {
            s.suspensions.resume(filter);
            if generation != current {
                s.reviewed = UNREVIEWED;
            }
        }
    }

    /// A subscription is about to end that was not judged since the policy changed: what waits of it must not go out for that.
    pub(super) fn unsubscribes(&mut self, session: u32, filter: &str) {
        let Some(s) = self.sessions.get(session as usize) else {
            return;
        };
        if self.is_reviewed(s) || (s.queue.is_empty() && s.in_flight.is_empty()) {
            return;
        }
        let qos = self.subscription(session, filter).map(|entry| entry.options.qos);
        if let (Some(qos), Ok(filter)) = (qos, Utf8String::try_from(filter)) {
            self.suspend(session, filter, qos);
        }
    }

    /// Whether a copy came only by subscriptions that are suspended.
    pub(super) fn is_withheld(&self, session: u32, topic: &str, queued: Option<&Queued>) -> bool {
        let Some(s) = self.sessions.get(session as usize) else {
            return false;
        };
        if s.suspensions.is_clear() {
            return false;
        }
        if let Some(key) = queued.and_then(|queued| queued.shared.as_ref()) {
            let of_group = |filter: &str| split(filter) == (Some(&*key.group), &*key.filter);
            return s.suspensions.is_any_suspended(of_group);
        }
        let matches = |filter: &str| matches!(split(filter), (None, own) if topic::matches(own, topic));
        if !s.suspensions.is_any_suspended(matches) {
            return false;
        }
        let Some(space) = self.spaces.get(s.space as usize) else {
            return true;
        };
        let filters = s.subscriptions.filters().iter().map(|filter| space.index.text(*filter));
        !filters
            .into_iter()
            .any(|filter| matches(filter) && !s.suspensions.is_suspended(filter))
    }

    /// The first filters in alphabetical order that are suspended, of those that `shows` picks.
    pub(super) fn suspended_filters(s: &Session, shows: impl Fn(&str) -> bool) -> Vec<Utf8String> {
        let suspended = s.suspensions.suspended().map(|(filter, _)| filter);
        let mut shown: Vec<_> = suspended.filter(|filter| shows(filter)).cloned().collect();
        shown.sort_unstable();
        shown.truncate(SHOWN_SUSPENDED_FILTERS);
        shown
    }

    /// The same, of those that a message to this topic could come by.
    pub(super) fn suspended_for(s: &Session, topic: &str) -> Vec<Utf8String> {
        Self::suspended_filters(s, |filter| topic::matches(split(filter).1, topic))
    }

    /// How a session has subscribed to a filter, where it has.
    fn subscription(&self, session: u32, filter: &str) -> Option<Entry> {
        let s = self.sessions.get(session as usize)?;
        match split(filter) {
            (Some(_), _) => s.subscriptions.shared().get(filter).copied(),
            (None, own) => {
                let space = self.spaces.get(s.space as usize)?;
                Some(space.index.get(own, session)?.entry)
            }
        }
    }

    /// A message that its session may not have. One that came by a shared subscription is for another member, and the log says
    /// that it is here until it says that it is there.
    pub(super) fn refuse_copy(&mut self, now: Millis, session: u32, mut queued: Queued) {
        self.counters.denied_deliver += 1;
        let (order, qos) = (queued.order, queued.qos);
        queued.refusals = queued.refusals.saturating_add(1);
        let for_another = queued.body().is_some() && queued.refusals < MAX_SHARED_REFUSALS;
        let Some(key) = queued.shared.clone().filter(|_| for_another) else {
            self.counters.dropped.denied += 1;
            return self.record_acknowledged(session, order, qos);
        };
        let serial = self.sessions.get(session as usize).map_or(0, |s| s.serial);
        let given = Then::GivenAway {
            session,
            serial,
            order,
            qos,
        };
        let mut then: SmallVec<_> = smallvec![given];
        then.extend(self.copy_is_given_away(session, order, qos));
        let commit = self.begin_owned(then);
        let owner = key.owner(self.config.shards);
        self.within(Some(commit), |shard| {
            let confirm = shard.confirm();
            shard.send_mesh(now, owner, MeshMessage::Reassign(Assignment { queued, confirm }));
        });
        self.part_settled(now, commit, Ok(()));
    }

    /// A session that the log has is not over before whoever it gives a copy to has that. What then follows is told to whoever waits
    /// for that.
    fn copy_is_given_away(&mut self, session: u32, order: u64, qos: QoS) -> Option<Then> {
        if qos == QoS::AtMostOnce {
            return None;
        }
        let (_, key) = self.durable(session)?;
        let commit = self.leaving(session)?;
        self.copy_leaves(&key, order);
        Some(self.settles_part_of(commit))
    }

    /// Another member of the shared subscription has a message, and the log says so.
    pub(super) fn given_away(&mut self, session: (u32, u64), order: u64, qos: QoS) {
        let (slot, serial) = session;
        if self.sessions.get(slot as usize).is_none_or(|s| s.serial != serial) {
            return;
        }
        if let Some((_, key)) = self.durable(slot) {
            self.copy_has_left(&key, order);
        }
        self.record_acknowledged(slot, order, qos);
    }
}
