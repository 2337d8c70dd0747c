//! A PUBLISH put to the plugins that answer on the shard's own thread, while it still lies where it was read.

use super::batch::Batch;
use super::judge::{Judge, Judgement, request_of};
use super::publish::{Origin, PublishFlow, Work, app_message};
use super::route::of_the_message;
use super::{Answer, Call, Shard};
use crate::fold::failed_transformation;
use crate::hook::{AppMessageRef, CallFailed, Client, Transformation, Transformations, Verdict};
use crate::policy::{ClientRules, RequestRef};
use crate::time::Millis;
use nervewire_codec::{PublishRef, ReasonCode};
use std::sync::Arc;

/// The plugins of a shard that are called on its own thread. Whoever is not among them is asked by a [`Call`], as all are about
/// anything else than a PUBLISH.
pub trait PluginsHere {
    /// The verdict of the authorizer at this position of a policy's.
    fn authorize(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &RequestRef<'_>,
    ) -> Option<Answered<Verdict>>;

    /// The answer of the transform at this position of a policy's.
    fn transform(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        message: &AppMessageRef<'_>,
    ) -> Option<Answered<Transformation>>;

    /// The verdicts of such an authorizer on several requests of one client, where it is worth asking about them at once.
    fn authorize_all(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        requests: &[RequestRef<'_>],
    ) -> Batch<Vec<Verdict>> {
        let _ = (generation, authorizer, client, requests);
        Batch::default()
    }

    /// Likewise, the answers of a transform to several messages.
    fn transform_all(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        messages: &[AppMessageRef<'_>],
    ) -> Batch<Transformations> {
        let _ = (generation, transform, client, messages);
        Batch::default()
    }

    /// Whether the next PUBLISH, which a client with these rules sends to this topic, has been asked about already, is allowed, and
    /// comes out of all transforms as it went in.
    fn has_passed(&mut self, generation: u64, client: &Client, rules: &Arc<ClientRules>, topic: &str) -> bool {
        let _ = (generation, client, rules, topic);
        false
    }
}

/// A plugin's answer.
#[derive(Clone, Debug)]
pub struct Answered<T> {
    /// What it said.
    pub answer: Result<T, CallFailed>,
    /// Plugin time that it took, in nanoseconds, charged to the client.
    pub spent_ns: u64,
}

/// No plugin is called on the shard's thread.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere;

impl PluginsHere for Elsewhere {
    fn authorize(&mut self, _: u64, _: usize, _: &Client, _: &RequestRef<'_>) -> Option<Answered<Verdict>> {
        None
    }

    fn transform(&mut self, _: u64, _: usize, _: &Client, _: &AppMessageRef<'_>) -> Option<Answered<Transformation>> {
        None
    }
}

/// How a PUBLISH goes on.
enum Next {
    Pass,
    /// It reaches nobody.
    Done(ReasonCode),
    /// Somebody else has to say whether it may.
    Ask(Call),
    /// This transform is called elsewhere.
    Transform(usize),
    /// This transform made something else of it.
    Transformed(usize, Transformation),
}

impl Shard {
    /// Judges a PUBLISH that rules alone do not decide, or that a transform is concerned by. Most come out of that as they went in, or
    /// not at all: those need no memory of their own.
    #[inline(never)]
    pub(super) fn ask_here(
        &mut self,
        now: Millis,
        origin: Origin,
        session: u32,
        mut publish: PublishRef<'_>,
        plugins: &mut dyn PluginsHere,
    ) {
        if let Some(client) = self.has_passed(session, &publish, plugins) {
            return self.let_through(now, origin, &client, publish);
        }
        let Some(mut judge) = self.judge_of(session) else {
            return;
        };
        publish.properties = of_the_message(publish.properties);
        let next = self.put(now, &mut judge, &publish, plugins);
        if let Origin::Packet { conn, serial, .. } = origin {
            self.charge(now, conn, serial, std::mem::take(&mut judge.spent_ns));
        }
        match next {
            Next::Pass => self.let_through(now, origin, &judge.client, publish),
            Next::Done(reason) => {
                let nothing = (judge.policy.generation, []);
                self.conclude(now, origin, &judge.client, reason, nothing);
            }
            Next::Ask(call) => {
                let flow = PublishFlow::new(origin, judge, Work::unauthorized(app_message(publish)));
                self.ask_about(Box::new(flow), call);
            }
            Next::Transform(transform) => {
                let work = Work::authorized(app_message(publish), transform);
                self.step_publish(now, Box::new(PublishFlow::new(origin, judge, work)));
            }
            Next::Transformed(transform, outcome) => {
                let work = Work::authorized(app_message(publish), transform);
                let flow = Box::new(PublishFlow::new(origin, judge, work));
                self.publish_answered(now, flow, Answer::Transform(Ok(outcome)));
            }
        }
    }

    /// The client, where everybody has said already that its PUBLISH goes on as it is.
    fn has_passed(&self, session: u32, publish: &PublishRef<'_>, plugins: &mut dyn PluginsHere) -> Option<Arc<Client>> {
        let client = &self.sessions.get(session as usize)?.client;
        let rules = self.fresh_rules(session)?;
        plugins
            .has_passed(self.policy.generation, client, rules, &publish.topic)
            .then(|| client.clone())
    }

    fn put(&mut self, now: Millis, judge: &mut Judge, publish: &PublishRef<'_>, plugins: &mut dyn PluginsHere) -> Next {
        let request = request_of(publish);
        match self.judge_here(now, judge, &request, plugins) {
            Judgement::Allowed => {}
            Judgement::Denied => return Next::Done(ReasonCode::NotAuthorized),
            Judgement::Ask(call) => return Next::Ask(call),
        }
        let message = message_of(publish);
        for (position, transform) in judge.policy.transforms.iter().enumerate() {
            if !transform.concerns(&publish.topic) {
                continue;
            }
            let generation = judge.policy.generation;
            let Some(answered) = plugins.transform(generation, position, &judge.client, &message) else {
                return Next::Transform(position);
            };
            judge.spent_ns += answered.spent_ns;
            let outcome = answered.answer;
            match outcome.unwrap_or_else(|_| failed_transformation(transform.on_failure)) {
                Transformation::Pass => {}
                Transformation::Drop => {
                    self.counters.transform_dropped += 1;
                    return Next::Done(ReasonCode::Success);
                }
                Transformation::Reject(reason) => {
                    self.counters.transform_rejected += 1;
                    return Next::Done(reason);
                }
                outcome => return Next::Transformed(position, outcome),
            }
        }
        Next::Pass
    }
}

/// As transforms see it.
pub(super) fn message_of<'a>(publish: &'a PublishRef<'_>) -> AppMessageRef<'a> {
    AppMessageRef {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        retain: publish.retain,
        properties: publish.properties.as_deref(),
    }
}
