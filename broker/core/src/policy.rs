//! The policy of one generation: which plugins are asked about what, in which order, and what counts when nobody decides.

use crate::certificates::RevokedCertificates;
use crate::fold::{AuthorizationFold, DefaultDecision};
use crate::hook::{Action, CallFailed, Client, Decision, OnFailure, Request, Rule};
use crate::rules::{CompiledRules, RuleDecision, RuleError};
use nervewire_codec::{QoS, Utf8String, topic};
use std::sync::Arc;

/// Everything the core must know of one generation of plugins. A message keeps the policy it was first judged by.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Counts up with each change that was taken over.
    pub generation: u64,
    /// Plugins with the hook `authorize`, in the order of the configuration.
    pub authorizers: Vec<Authorizer>,
    /// Plugins with the hook `transform`, in the order of the configuration.
    pub transforms: Vec<Transform>,
    /// What holds when every authorizer abstains.
    pub default: DefaultDecision,
    /// Plugins in shadow mode with one of these hooks: asked, compared, and never obeyed.
    pub shadows: Vec<Shadow>,
    /// Plugins that publish in their own name.
    pub publishers: Vec<Publisher>,
    /// What the listeners' revocation lists name.
    pub revoked: Arc<RevokedCertificates>,
    /// Some plugin has the hook `detect`: what clients do is counted for it.
    pub detects: bool,
}

/// A plugin that publishes in its own name.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Whom transforms are told that its messages come from.
    pub client: Arc<Client>,
    /// The first of [`Policy::transforms`] that its messages go through: those before it have had their turn.
    pub first_transform: usize,
}

/// A plugin in shadow mode.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The generation that loaded it: differences of an earlier one say nothing about it.
    pub since: u64,
    /// As which authorizer, and where among those that are obeyed.
    pub authorizes: Option<(Authorizer, Place)>,
    /// As which transform, and where.
    pub transforms: Option<(Transform, Place)>,
}

/// Where a plugin in shadow mode would stand in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// One more, before the plugin at this position; at the end where there is none.
    Before(usize),
    /// In the place of the plugin at this position.
    InsteadOf(usize),
}

/// One plugin of a chain that a plugin in shadow mode is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The one that is obeyed at this position.
    Enforced(usize),
    /// The one in shadow mode.
    Shadow,
}

/// What a chain makes of a request, and who of it decides; `None`: nobody, the default does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The first that denies, else the first that allows.
    pub by: Option<Member>,
}

/// What is known about a chain's ruling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Supposed {
    Ruled(Ruling),
    Ask(Member),
}

/// A plugin that authorizes.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    /// Its plugin's name in the configuration.
    pub name: Arc<str>,
    /// Where it is heard; `None`: everywhere, `$`-topics included.
    pub topics: Option<Vec<Utf8String>>,
    /// What a failed call counts as.
    pub on_failure: OnFailure,
}

/// A plugin that transforms.
#[derive(Clone, Debug, Default)]
pub struct Transform {
    /// Its plugin's name in the configuration.
    pub name: Arc<str>,
    /// Where it is called; `None`: everywhere, `$`-topics included.
    pub topics: Option<Vec<Utf8String>>,
    /// What a failed call counts as.
    pub on_failure: OnFailure,
    /// Topic filters of its `publish:` grants.
    pub publish_grants: Vec<Utf8String>,
}

impl Transform {
    /// Whether it is called for messages of this topic.
    pub fn concerns(&self, topic: &str) -> bool {
        selects(self.topics.as_deref(), topic)
    }

    /// Whether a grant lets it publish to this topic in its own right.
    pub fn may_publish(&self, topic: &str) -> bool {
        self.publish_grants.iter().any(|filter| topic::matches(filter, topic))
    }
}

#[inline]
fn selects(topics: Option<&[Utf8String]>, topic: &str) -> bool {
    topics.is_none_or(|filters| filters.iter().any(|filter| topic::matches(filter, topic)))
}

impl Authorizer {
    /// Whether it is heard about this.
    #[inline]
    pub fn concerns(&self, action: Action, topic: &str) -> bool {
        match action {
            Action::Publish | Action::Deliver => selects(self.topics.as_deref(), topic),
            Action::Subscribe => self
                .topics
                .as_deref()
                .is_none_or(|filters| filters.iter().any(|f| topic::overlaps(f, topic))),
        }
    }
}

impl Policy {
    /// What a request comes to when this authorizer says so, whatever others have said; `None`: that depends on the others. It was asked,
    /// so nobody before it has denied.
    pub(crate) fn decided_by(&self, authorizer: usize, decision: Decision) -> Option<bool> {
        match decision {
            Decision::Deny => Some(false),
            Decision::Allow if authorizer + 1 == self.authorizers.len() => Some(true),
            Decision::Allow | Decision::Abstain => None,
        }
    }
}

/// One client's rules from every authorizer, as of one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientRules {
    /// The generation that gave them.
    pub generation: u64,
    authorizers: Vec<AuthorizerRules>,
    may_deny_deliveries: bool,
    /// Some authorizer did not answer: ask again soon.
    failed: bool,
}

/// What one authorizer said about a client when it was asked for its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AuthorizerRules {
    /// It gave no rules: every request is asked.
    Ask,
    Rules(CompiledRules),
    Failed,
}

/// What is known natively about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// Decided.
    Decided(bool),
    /// The authorizer at this position must be asked first.
    Ask(usize),
}

impl ClientRules {
    /// From the answers of all authorizers in order; the errors name authorizers whose rules were refused, which then count as
    /// failed.
    pub fn new(
        generation: u64,
        answers: Vec<Result<Option<Vec<Rule>>, CallFailed>>,
    ) -> (Self, Vec<(usize, RuleError)>) {
        let mut errors = Vec::new();
        let authorizers: Vec<_> = answers
            .into_iter()
            .enumerate()
            .map(|(position, answer)| {
                AuthorizerRules::compile(answer).unwrap_or_else(|error| {
                    errors.push((position, error));
                    AuthorizerRules::Failed
                })
            })
            .collect();
        let may_deny_deliveries = authorizers.iter().any(AuthorizerRules::may_deny_deliveries);
        let failed = authorizers.iter().any(|rules| matches!(rules, AuthorizerRules::Failed));
        (
            Self {
                generation,
                authorizers,
                may_deny_deliveries,
                failed,
            },
            errors,
        )
    }

    /// Whether some authorizer failed to give its rules.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether deliveries must be judged one by one.
    pub fn may_deny_deliveries(&self) -> bool {
        self.may_deny_deliveries
    }

    /// Judges a request natively as far as possible. `answered` holds what asked authorizers said, by position.
    pub fn judge(
        &self,
        policy: &Policy,
        request: &RequestRef<'_>,
        mut answered: impl FnMut(usize) -> Option<Decision>,
    ) -> Native {
        let mut fold = AuthorizationFold::default();
        for (position, authorizer) in policy.authorizers.iter().enumerate() {
            if !authorizer.concerns(request.action, request.topic) {
                continue;
            }
            let decision = match decide(self.authorizers.get(position), authorizer, request) {
                Some(decision) => decision,
                None => match answered(position) {
                    Some(decision) => decision,
                    None => return Native::Ask(position),
                },
            };
            if fold.hear(decision).is_break() {
                return Native::Decided(false);
            }
        }
        Native::Decided(match request.action {
            // A delivery is stopped only by a deny.
            Action::Deliver => true,
            _ => fold.finish(policy.default),
        })
    }

    /// Judges as [`ClientRules::judge`] does, as if `shadow` with its rules stood in its place; `None`: just as it does.
    pub(crate) fn suppose(
        &self,
        policy: &Policy,
        shadow: Option<(&Authorizer, Place, &AuthorizerRules)>,
        request: &RequestRef<'_>,
        mut answered: impl FnMut(Member) -> Option<Decision>,
    ) -> Supposed {
        let mut fold = AuthorizationFold::default();
        let mut allowed_by = None;
        for member in members(policy.authorizers.len(), shadow.map(|(_, place, _)| place)) {
            let (authorizer, rules) = match (member, shadow) {
                (Member::Shadow, Some((authorizer, _, rules))) => (authorizer, Some(rules)),
                (Member::Shadow, None) => continue,
                (Member::Enforced(position), _) => match policy.authorizers.get(position) {
                    Some(authorizer) => (authorizer, self.authorizers.get(position)),
                    None => continue,
                },
            };
            if !authorizer.concerns(request.action, request.topic) {
                continue;
            }
            let Some(decision) = decide(rules, authorizer, request).or_else(|| answered(member)) else {
                return Supposed::Ask(member);
            };
            if fold.hear(decision).is_break() {
                let by = Some(member);
                return Supposed::Ruled(Ruling { allowed: false, by });
            }
            if decision == Decision::Allow {
                allowed_by = allowed_by.or(Some(member));
            }
        }
        let allowed = request.action == Action::Deliver || fold.finish(policy.default);
        Supposed::Ruled(Ruling {
            allowed,
            by: allowed_by,
        })
    }

    /// What an authorizer's rules say to a request, and why; no decision: it has to be asked.
    pub fn explain(
        &self,
        position: usize,
        authorizer: &Authorizer,
        request: &RequestRef<'_>,
    ) -> (Option<Decision>, String) {
        let rules = self.authorizers.get(position);
        let decision = decide(rules, authorizer, request);
        (decision, crate::shadow::why(authorizer, rules, request))
    }

    /// What an authorizer's rules are, where it answered.
    pub(crate) fn of(&self, authorizer: usize) -> Option<&AuthorizerRules> {
        self.authorizers.get(authorizer)
    }
}

/// A chain of so many, with one more in its place.
fn members(enforced: usize, shadow: Option<Place>) -> impl Iterator<Item = Member> {
    (0..=enforced).flat_map(move |position| {
        let (first, second) = match shadow {
            Some(Place::Before(at)) if at == position => (Some(Member::Shadow), Some(Member::Enforced(position))),
            Some(Place::InsteadOf(at)) if at == position => (Some(Member::Shadow), None),
            _ => (None, Some(Member::Enforced(position))),
        };
        let second = second.filter(|_| position < enforced);
        first.into_iter().chain(second)
    })
}

impl AuthorizerRules {
    pub(crate) fn compile(answer: Result<Option<Vec<Rule>>, CallFailed>) -> Result<Self, RuleError> {
        match answer {
            Err(CallFailed) => Ok(AuthorizerRules::Failed),
            Ok(None) => Ok(AuthorizerRules::Ask),
            Ok(Some(rules)) => CompiledRules::compile(&rules).map(AuthorizerRules::Rules),
        }
    }

    pub(crate) fn may_deny_deliveries(&self) -> bool {
        match self {
            AuthorizerRules::Rules(rules) => rules.may_deny_deliveries(),
            AuthorizerRules::Ask => false,
            AuthorizerRules::Failed => true,
        }
    }
}

/// What an authorizer says natively; `None`: it must be asked.
#[inline]
fn decide(rules: Option<&AuthorizerRules>, authorizer: &Authorizer, request: &RequestRef<'_>) -> Option<Decision> {
    match rules {
        Some(AuthorizerRules::Rules(rules)) => match evaluate(rules, request) {
            RuleDecision::Allow => Some(Decision::Allow),
            RuleDecision::Deny => Some(Decision::Deny),
            RuleDecision::Abstain => Some(Decision::Abstain),
            RuleDecision::Ask => None,
        },
        // Who gives no rules is asked about what the client does, not about each delivery.
        Some(AuthorizerRules::Ask) if request.action == Action::Deliver => Some(Decision::Abstain),
        Some(AuthorizerRules::Ask) => None,
        Some(AuthorizerRules::Failed) | None => Some(crate::fold::failed_decision(authorizer.on_failure)),
    }
}

/// A request by reference, as the hot path has it.
#[derive(Clone, Copy, Debug)]
pub struct RequestRef<'a> {
    /// What it wants to do.
    pub action: Action,
    /// Topic name or filter.
    pub topic: &'a str,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
}

impl RequestRef<'_> {
    /// A copy.
    pub fn to_request(&self) -> Request {
        Request {
            action: self.action,
            topic: Utf8String::try_from(self.topic).unwrap_or_default(),
            qos: self.qos,
            retain: self.retain,
        }
    }
}

impl<'a> From<&'a Request> for RequestRef<'a> {
    fn from(request: &'a Request) -> Self {
        request.by_reference()
    }
}

fn evaluate(rules: &CompiledRules, request: &RequestRef<'_>) -> RuleDecision {
    match request.action {
        Action::Publish => rules.publish(request.topic, request.qos, request.retain),
        Action::Subscribe => rules.subscribe(request.topic, request.qos).decision,
        Action::Deliver => rules.deliver(request.topic, request.qos, request.retain),
    }
}
