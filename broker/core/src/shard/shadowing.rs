//! Where plugins in shadow mode look over a shard's shoulder. Each place is one branch where there are none.

use super::Shard;
use super::deliver::Target;
use super::judge::{Judge, request_of};
use super::publish::app_message;
use crate::hook::{Action, Decision};
use crate::message::Content;
use crate::policy::{ClientRules, RequestRef};
use crate::shadow::{Differences, Ruled, ShadowAnswer, ShadowQuestion, Shadowing};
use crate::time::Millis;
use nervewire_codec::PublishRef;
use std::sync::Arc;

impl Shard {
    /// The next question for a comparison.
    pub fn next_shadow_question(&mut self) -> Option<ShadowQuestion> {
        self.shadowing.as_mut()?.next_question()
    }

    /// The answer to one of them; `None`: there will be none.
    pub fn shadow_answered(&mut self, now: Millis, id: u64, answer: Option<ShadowAnswer>) {
        self.with_shadowing(|_, shadowing| match answer {
            Some(answer) => shadowing.answered(now, id, answer),
            None => shadowing.unanswered(id),
        });
    }

    /// What was seen of the plugins in shadow mode.
    pub fn shadow_differences(&self) -> &[Differences] {
        self.shadowing.as_ref().map_or(&[], |shadowing| shadowing.differences())
    }

    /// Forgets what was seen of one of them, and answers whether it is in shadow mode.
    pub fn reset_shadow(&mut self, plugin: &str) -> bool {
        self.shadowing.as_mut().is_some_and(|shadowing| shadowing.reset(plugin))
    }

    fn with_shadowing(&mut self, work: impl FnOnce(&Self, &mut Shadowing)) {
        let Some(mut shadowing) = self.shadowing.take() else {
            return;
        };
        if shadowing.is_crowded() {
            shadowing.purge(|slot, serial| self.sessions.get(slot as usize).is_some_and(|s| s.serial == serial));
        }
        work(self, &mut shadowing);
        for (plugin, client_id, error) in shadowing.take_refused() {
            self.notices.push_back(super::Notice::ShadowRulesRefused {
                plugin,
                client_id,
                error,
            });
        }
        self.shadowing = Some(shadowing);
    }

    /// A judge has decided.
    pub(super) fn shadow_judged(
        &mut self,
        now: Millis,
        judge: &Judge,
        rules: &Arc<ClientRules>,
        request: &RequestRef<'_>,
        allowed: bool,
        answered: &[(usize, Decision)],
    ) {
        self.with_shadowing(|_, shadowing| {
            let ruled = Ruled {
                session: judge.session,
                client: &judge.client,
                policy: &judge.policy,
                rules,
                request: *request,
                allowed,
                answered,
            };
            shadowing.authorize(now, &ruled);
        });
    }

    /// A request of a session was decided by rules alone.
    pub(super) fn shadow_native(&mut self, now: Millis, session: u32, request: &RequestRef<'_>, allowed: bool) {
        self.with_shadowing(|shard, shadowing| {
            let Some(s) = shard.sessions.get(session as usize) else {
                return;
            };
            let rules = shard.current_rules(session).unwrap_or(&shard.no_rules);
            let ruled = Ruled {
                session: Some((session, s.serial)),
                client: &s.client,
                policy: &shard.policy,
                rules,
                request: *request,
                allowed,
                answered: &[],
            };
            shadowing.authorize(now, &ruled);
        });
    }

    /// A PUBLISH took no detour.
    #[inline(never)]
    pub(super) fn shadow_publish(&mut self, now: Millis, session: u32, publish: &PublishRef<'_>, allowed: bool) {
        let request = request_of(publish);
        self.shadow_native(now, session, &request, allowed);
        if !allowed {
            return;
        }
        self.with_shadowing(|shard, shadowing| {
            if let Some(s) = shard.sessions.get(session as usize)
                && shadowing.is_interested_in(&publish.topic)
            {
                let all = 0..=shard.policy.transforms.len();
                let message = app_message(publish.clone());
                shadowing.pass(&shard.policy, &s.client, &message, all, None);
            }
        });
    }

    /// A delivery was decided by rules alone.
    #[inline(never)]
    pub(super) fn shadow_delivery(
        &mut self,
        now: Millis,
        session: u32,
        message: &Content<'_>,
        target: &Target,
        allowed: bool,
    ) {
        let request = RequestRef {
            action: Action::Deliver,
            topic: &message.topic,
            qos: target.qos,
            retain: target.retain,
        };
        self.shadow_native(now, session, &request, allowed);
    }

    /// The head of a session's queue needs no judgement.
    pub(super) fn shadow_queued(&mut self, now: Millis, session: u32) {
        let head = self.sessions.get(session as usize).and_then(|s| s.queue.front());
        let Some((head, message)) = head.and_then(|head| Some((head, head.body()?.clone()))) else {
            return;
        };
        let request = RequestRef {
            action: Action::Deliver,
            topic: &message.app.topic,
            qos: head.qos,
            retain: head.retain,
        };
        self.shadow_native(now, session, &request, true);
    }

    /// A message goes on in the chain of transforms, or has come to its end.
    pub(super) fn shadow_pass(
        &mut self,
        judge: &Judge,
        message: &crate::hook::AppMessage,
        positions: std::ops::RangeInclusive<usize>,
        asked: Option<usize>,
    ) {
        self.with_shadowing(|_, shadowing| {
            shadowing.pass(&judge.policy, &judge.client, message, positions, asked);
        });
    }

    /// A transform has answered.
    pub(super) fn shadow_transformed(
        &mut self,
        now: Millis,
        judge: &Judge,
        message: &crate::hook::AppMessage,
        answer: (usize, &crate::hook::Transformation),
    ) {
        self.with_shadowing(|_, shadowing| {
            shadowing.transformed(now, &judge.policy, &judge.client, message, answer);
        });
    }
}
