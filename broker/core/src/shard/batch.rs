//! Plugins asked about several PUBLISHes of one client at once, while those lie where they were read: to enter a guest costs more than
//! most of its answers do.
//!
//! Only the asking is done ahead. Each PUBLISH is judged when its turn comes, by what holds then, and takes what was said about it
//! where it asks just that; an answer that nobody asks for has no effect.

use super::here::{Answered, PluginsHere, message_of};
use super::judge::{Judge, request_of};
use super::{ConnId, Shard};
use crate::hook::{Action, AppMessageRef, Client, Transformation, Transformations, Verdict};
use crate::policy::{ClientRules, Native, RequestRef};
use crate::time::Millis;
use nervewire_codec::{PublishRef, QoS};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;

/// PUBLISHes that plugins are asked about at once.
pub const MAX_BATCH_MESSAGES: usize = 32;

/// Their topics and payloads. What fits in here has room where a guest need not allocate for it.
pub const MAX_BATCH_BYTES: usize = 24 * 1024;

/// Answers to several questions, in their order; none at all where there was no call or it failed.
#[derive(Clone, Debug, Default)]
pub struct Batch<Answers> {
    /// What the plugin said.
    pub answers: Answers,
    /// Plugin time that all of them took, in nanoseconds.
    pub spent_ns: u64,
}

/// A set of PUBLISHes of a run, by position.
type Bits = u32;
const _: () = assert!(MAX_BATCH_MESSAGES <= Bits::BITS as usize);

/// What plugins have said about a run of PUBLISHes whose turn is yet to come.
#[derive(Debug)]
pub struct Ahead<'r> {
    serial: u64,
    generation: u64,
    client: Arc<Client>,
    /// Where the topic of each lies: what is asked about another is another question.
    topics: OfRun<&'r str>,
    /// By authorizer, and then by PUBLISH.
    verdicts: OfRun<Option<Verdict>>,
    /// For each transform, those that it lets pass.
    passed: SmallVec<[Bits; 4]>,
    /// What else was said, by transform and PUBLISH: most often nothing.
    transformations: Vec<(usize, usize, Transformation)>,
    rules: Arc<ClientRules>,
    /// Those that come out of it as they went in, with nothing to be kept: these need not be judged again.
    passes: Bits,
    answers: u32,
    /// Plugin time that nobody was charged for yet.
    unpaid_ns: u64,
}

impl Ahead<'_> {
    /// The plugins, as they are to be asked about the PUBLISH at this position of the run.
    pub fn at<'a>(&'a mut self, position: usize, plugins: &'a mut dyn PluginsHere) -> impl PluginsHere + 'a
    where
        Self: 'a,
    {
        Asked {
            ahead: self,
            position,
            plugins,
        }
    }

    /// Whether anything was said at all.
    pub fn is_empty(&self) -> bool {
        self.answers == 0
    }

    fn is_about(&self, position: usize, generation: u64, client: &Client, topic: &str) -> bool {
        self.generation == generation
            && std::ptr::eq(&raw const *self.client, client)
            && self
                .topics
                .get(position)
                .is_some_and(|about| std::ptr::eq(*about, topic))
    }

    fn take_transformation(&mut self, transform: usize, position: usize) -> Option<Transformation> {
        let passed = self.passed.get_mut(transform)?;
        if *passed & 1 << position != 0 {
            *passed &= !(1 << position);
            return Some(Transformation::Pass);
        }
        let is_it = |said: &(usize, usize, Transformation)| (said.0, said.1) == (transform, position);
        let found = self.transformations.iter().position(is_it)?;
        Some(self.transformations.swap_remove(found).2)
    }

    /// An answer that was found, with its share of the time.
    fn pay<T>(&mut self, answer: T) -> Answered<T> {
        let spent_ns = self.unpaid_ns / u64::from(self.answers.max(1));
        self.answers = self.answers.saturating_sub(1);
        self.unpaid_ns -= spent_ns;
        Answered {
            answer: Ok(answer),
            spent_ns,
        }
    }
}

/// Takes what was said ahead, and asks about the rest.
struct Asked<'a, 'r> {
    ahead: &'a mut Ahead<'r>,
    position: usize,
    plugins: &'a mut dyn PluginsHere,
}

impl PluginsHere for Asked<'_, '_> {
    fn authorize(
        &mut self,
        generation: u64,
        authorizer: usize,
        client: &Client,
        request: &RequestRef<'_>,
    ) -> Option<Answered<Verdict>> {
        let (ahead, position) = (&mut *self.ahead, self.position);
        if request.action == Action::Publish && ahead.is_about(position, generation, client, request.topic) {
            let place = authorizer * ahead.topics.len() + position;
            if let Some(verdict) = ahead.verdicts.get_mut(place).and_then(Option::take) {
                return Some(ahead.pay(verdict));
            }
        }
        self.plugins.authorize(generation, authorizer, client, request)
    }

    fn transform(
        &mut self,
        generation: u64,
        transform: usize,
        client: &Client,
        message: &AppMessageRef<'_>,
    ) -> Option<Answered<Transformation>> {
        let (ahead, position) = (&mut *self.ahead, self.position);
        if ahead.is_about(position, generation, client, message.topic.as_str())
            && let Some(transformation) = ahead.take_transformation(transform, position)
        {
            return Some(ahead.pay(transformation));
        }
        self.plugins.transform(generation, transform, client, message)
    }

    fn has_passed(&mut self, generation: u64, client: &Client, rules: &Arc<ClientRules>, topic: &str) -> bool {
        let (ahead, position) = (&mut *self.ahead, self.position);
        let passes = ahead.passes & 1 << position != 0
            && ahead.is_about(position, generation, client, topic)
            && Arc::ptr_eq(&ahead.rules, rules);
        ahead.passes &= !(1 << position);
        passes
    }
}

/// Whether plugins may be asked about it ahead: that it will be judged, and as it stands, depends on nothing before it.
pub fn may_be_asked_ahead(publish: &PublishRef<'_>) -> bool {
    let says_more = |publish: &PublishRef<'_>| {
        let properties = publish.properties.as_deref();
        properties.is_some_and(|p| p.topic_alias.is_some() || !p.subscription_identifiers.is_empty())
    };
    publish.qos != QoS::ExactlyOnce && !publish.topic.is_empty() && !says_more(publish)
}

impl Shard {
    /// Asks plugins about PUBLISHes that are to be fed next, all of which [`may_be_asked_ahead`]; `None`: nobody is to be asked.
    pub fn ask_ahead<'r>(
        &self,
        now: Millis,
        id: ConnId,
        run: &[PublishRef<'r>],
        plugins: &mut dyn PluginsHere,
    ) -> Option<Ahead<'r>> {
        let conn = self.conn(id)?;
        // Comparisons are with what a flow does.
        let judge = self.judge_of(conn.session?).filter(|_| self.shadowing.is_none())?;
        let rules = judge.rules.clone()?;
        // What is beyond the client's rate is read later.
        let mut bucket = conn.publish_bucket;
        let within_rate = run.iter().take_while(|_| bucket.take(now, 1).is_none()).count();
        let run = &run[..within_rate];
        let mut ahead = Ahead {
            serial: conn.serial,
            generation: judge.policy.generation,
            client: judge.client.clone(),
            topics: run.iter().map(|publish| publish.topic.as_str()).collect(),
            verdicts: SmallVec::from_elem(None, judge.policy.authorizers.len() * run.len()),
            passed: SmallVec::from_elem(0, judge.policy.transforms.len()),
            transformations: Vec::new(),
            rules,
            passes: Bits::MAX,
            answers: 0,
            unpaid_ns: 0,
        };
        let allowed = self.authorize_ahead(now, &judge, run, &mut ahead, plugins);
        ahead.passes &= transform_ahead(&judge, run, allowed, &mut ahead, plugins);
        Some(ahead)
    }

    /// Which of them are allowed, as far as that can be known; which of these leave nothing to be done but that, is in `ahead`.
    fn authorize_ahead(
        &self,
        now: Millis,
        judge: &Judge,
        run: &[PublishRef<'_>],
        ahead: &mut Ahead<'_>,
        plugins: &mut dyn PluginsHere,
    ) -> Bits {
        let policy = &judge.policy;
        let requests: OfRun<RequestRef<'_>> = run.iter().map(request_of).collect();
        let mut known: OfRun<Native> = (0..run.len())
            .map(|position| self.foretell(now, judge, &requests, position, ahead))
            .collect();
        for authorizer in 0..policy.authorizers.len() {
            let asked = bits((0..run.len()).filter(|position| known[*position] == Native::Ask(authorizer)));
            if asked.count_ones() < 2 {
                continue;
            }
            let batch = plugins.authorize_all(policy.generation, authorizer, &judge.client, &chosen(&requests, asked));
            ahead.unpaid_ns += batch.spent_ns;
            for (position, verdict) in positions(asked).zip(batch.answers) {
                ahead.verdicts[authorizer * run.len() + position] = Some(verdict);
                ahead.answers += 1;
                known[position] = match judge.policy.decided_by(authorizer, verdict.decision) {
                    Some(decided) => Native::Decided(decided),
                    None => self.foretell(now, judge, &requests, position, ahead),
                };
                if verdict.cache_ms > 0 {
                    ahead.passes &= !(1 << position);
                }
            }
        }
        bits((0..run.len()).filter(|position| known[*position] == Native::Decided(true)))
    }

    /// What the judge will find when its turn comes, unless something changes until then.
    fn foretell(
        &self,
        now: Millis,
        judge: &Judge,
        requests: &[RequestRef<'_>],
        position: usize,
        ahead: &mut Ahead<'_>,
    ) -> Native {
        let (client, generation) = (&judge.client, judge.policy.generation);
        let request = &requests[position];
        let Ahead {
            rules,
            verdicts,
            passes,
            ..
        } = ahead;
        rules.judge(&judge.policy, request, |authorizer| {
            if let Some(verdict) = verdicts[authorizer * requests.len() + position] {
                return Some(verdict.decision);
            }
            let cached = self.cached(now, judge.session, client, generation, authorizer, request)?;
            // It is to be counted when its turn comes.
            *passes &= !(1 << position);
            Some(cached.decision)
        })
    }

    /// Charges the client for what was said in vain.
    pub fn settle_ahead(&mut self, now: Millis, id: ConnId, ahead: &Ahead<'_>) {
        if ahead.unpaid_ns > 0 {
            self.charge(now, id, ahead.serial, ahead.unpaid_ns);
        }
    }
}

/// One for each PUBLISH of a run.
type OfRun<T> = SmallVec<[T; MAX_BATCH_MESSAGES]>;

fn bits(positions: impl Iterator<Item = usize>) -> Bits {
    positions.fold(0, |bits, position| bits | 1 << position)
}

fn positions(mut bits: Bits) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let first = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(first)
    })
}

/// Of those at these positions, the ones whose places among them are in `chosen`.
fn spread(chosen: Bits, among: Bits) -> Bits {
    match among.trailing_ones() == among.count_ones() {
        true => chosen & among,
        false => bits(
            positions(among)
                .enumerate()
                .filter(|(nth, _)| chosen & 1 << nth != 0)
                .map(|(_, position)| position),
        ),
    }
}

/// Those at these positions, which most often are all.
fn chosen<T: Copy>(all: &[T], bits: Bits) -> Cow<'_, [T]> {
    match bits.count_ones() as usize == all.len() {
        true => Cow::Borrowed(all),
        false => Cow::Owned(positions(bits).map(|position| all[position]).collect()),
    }
}

/// Each transform gets what is allowed and those before it let pass; answers what all of them did.
fn transform_ahead(
    judge: &Judge,
    run: &[PublishRef<'_>],
    allowed: Bits,
    ahead: &mut Ahead<'_>,
    plugins: &mut dyn PluginsHere,
) -> Bits {
    let policy = &judge.policy;
    let messages: OfRun<AppMessageRef<'_>> = match policy.transforms.is_empty() {
        true => OfRun::new(),
        false => run.iter().map(message_of).collect(),
    };
    let mut left = allowed;
    for (transform, about) in policy.transforms.iter().enumerate() {
        let asked = bits(positions(left).filter(|position| about.concerns(&run[*position].topic)));
        let batch = match asked.count_ones() {
            0 | 1 => Batch::default(),
            _ => plugins.transform_all(policy.generation, transform, &judge.client, &chosen(&messages, asked)),
        };
        ahead.unpaid_ns += batch.spent_ns;
        // What a transform has not passed, the next ones see in another form, or not at all.
        left &= !asked;
        let Transformations { passed, others } = batch.answers;
        ahead.answers += passed.count_ones() + others.len() as u32;
        ahead.passed[transform] = spread(passed, asked);
        left |= ahead.passed[transform];
        let others = others
            .into_iter()
            .filter_map(|(nth, other)| Some((transform, positions(asked).nth(nth)?, other)));
        ahead.transformations.extend(others);
    }
    left
}
