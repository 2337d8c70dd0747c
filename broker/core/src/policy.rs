//! The policy of one generation: which plugins are asked about what, in which order, and what counts when nobody decides.

use crate::fold::{AuthorizationFold, DefaultDecision};
use crate::hook::{Action, Decision, OnFailure, Rule};
use crate::rules::{CompiledRules, RuleDecision, RuleError};
use nervewire_codec::{QoS, Utf8String, topic};

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
}

/// A plugin that authorizes.
#[derive(Clone, Debug, Default)]
pub struct Authorizer {
    /// Where it is heard; `None`: everywhere, `$`-topics included.
    pub topics: Option<Vec<Utf8String>>,
    /// What a failed call counts as.
    pub on_failure: OnFailure,
}

/// A plugin that transforms.
#[derive(Clone, Debug, Default)]
pub struct Transform {
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

fn selects(topics: Option<&[Utf8String]>, topic: &str) -> bool {
    topics.is_none_or(|filters| filters.iter().any(|filter| topic::matches(filter, topic)))
}

impl Authorizer {
    fn concerns(&self, action: Action, topic: &str) -> bool {
        match action {
            Action::Publish | Action::Deliver => selects(self.topics.as_deref(), topic),
            Action::Subscribe => self
                .topics
                .as_deref()
                .is_none_or(|filters| filters.iter().any(|f| topic::overlaps(f, topic))),
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum AuthorizerRules {
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
        answers: Vec<Result<Option<Vec<Rule>>, crate::hook::CallFailed>>,
    ) -> (Self, Vec<(usize, RuleError)>) {
        let mut errors = Vec::new();
        let authorizers: Vec<_> = answers
            .into_iter()
            .enumerate()
            .map(|(position, answer)| match answer {
                Err(_) => AuthorizerRules::Failed,
                Ok(None) => AuthorizerRules::Ask,
                Ok(Some(rules)) => CompiledRules::compile(&rules).map_or_else(
                    |error| {
                        errors.push((position, error));
                        AuthorizerRules::Failed
                    },
                    AuthorizerRules::Rules,
                ),
            })
            .collect();
        let may_deny_deliveries = authorizers.iter().any(|rules| match rules {
            AuthorizerRules::Rules(rules) => rules.may_deny_deliveries(),
            AuthorizerRules::Ask => false,
            AuthorizerRules::Failed => true,
        });
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
        answered: impl Fn(usize) -> Option<Decision>,
    ) -> Native {
        let mut fold = AuthorizationFold::default();
        for (position, authorizer) in policy.authorizers.iter().enumerate() {
            if !authorizer.concerns(request.action, request.topic) {
                continue;
            }
            let decision = match self.decide(position, authorizer, request) {
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

    fn decide(&self, position: usize, authorizer: &Authorizer, request: &RequestRef<'_>) -> Option<Decision> {
        match self.authorizers.get(position) {
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

fn evaluate(rules: &CompiledRules, request: &RequestRef<'_>) -> RuleDecision {
    match request.action {
        Action::Publish => rules.publish(request.topic, request.qos, request.retain),
        Action::Subscribe => rules.subscribe(request.topic, request.qos).decision,
        Action::Deliver => rules.deliver(request.topic, request.qos, request.retain),
    }
}
