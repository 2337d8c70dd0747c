//! The rules that a guest returned for one client, compiled once and evaluated natively on every PUBLISH, SUBSCRIBE and
//! delivery, without allocating.
//!
//! Rules are an ordered list; the first that applies decides. A rule applies to requests of at most its QoS. For a delivery
//! the QoS is that of the message as it is delivered: a deny for subscribe with `max_qos` 0 stops deliveries at QoS 0 only.

mod pattern;

#[cfg(test)]
mod tests;

use crate::hook::{Action, Actions, Effect, Rule};
use crate::policy::RequestRef;
use nervewire_codec::QoS;
use nervewire_codec::topic::TopicError;
use pattern::{Name, Pattern};
use std::fmt;

/// Rules that one client may have.
pub const MAX_RULES_PER_CLIENT: usize = 1_024;

/// Bytes that the topic filters of one client's rules may have together.
pub const MAX_RULE_BYTES_PER_CLIENT: usize = 65_536;

/// What the rules say to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleDecision {
    /// A rule allows it.
    Allow,
    /// A rule forbids it.
    Deny,
    /// The plugin has to be asked.
    Ask,
    /// No rule applies.
    Abstain,
}

/// What the rules say to a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeDecision {
    /// About the topic filter as a whole.
    pub decision: RuleDecision,
    /// Some topics of the filter may be forbidden all the same: [`CompiledRules::deliver`] judges each delivery.
    pub check_deliveries: bool,
}

/// Why a guest's rules were not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// More than [`MAX_RULES_PER_CLIENT`].
    #[error("{0} rules, allowed are {MAX_RULES_PER_CLIENT}")]
    TooMany(usize),
    /// Filters of more than [`MAX_RULE_BYTES_PER_CLIENT`].
    #[error("topic filters of {0} bytes, allowed are {MAX_RULE_BYTES_PER_CLIENT}")]
    TooLarge(usize),
    /// Not a topic filter.
    #[error("rule {index}: topic filter: {error}")]
    InvalidFilter {
        /// Counted from 0.
        index: usize,
        /// What is wrong with it.
        error: TopicError,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct CompiledRule {
    effect: Effect,
    actions: Actions,
    max_qos: QoS,
    retain: Option<bool>,
    pattern: Pattern,
}

/// One client's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompiledRules {
    rules: Box<[CompiledRule]>,
    may_deny_deliveries: bool,
}

impl CompiledRules {
    /// Checks and prepares what a guest returned. Errors name the first rule that is wrong.
    pub fn compile(rules: &[Rule]) -> Result<Self, RuleError> {
        if rules.len() > MAX_RULES_PER_CLIENT {
            return Err(RuleError::TooMany(rules.len()));
        }
        let bytes = rules.iter().map(|rule| rule.topic_filter.len()).sum();
        if bytes > MAX_RULE_BYTES_PER_CLIENT {
            return Err(RuleError::TooLarge(bytes));
        }
        let compiled = rules.iter().enumerate().map(|(index, rule)| {
            CompiledRule::compile(rule).map_err(|error| RuleError::InvalidFilter { index, error })
        });
        let rules = compiled.collect::<Result<Box<[_]>, _>>()?;
        let may_deny_deliveries = rules.iter().any(CompiledRule::may_deny_deliveries);
        Ok(CompiledRules {
            rules,
            may_deny_deliveries,
        })
    }

    /// May the client publish this?
    pub fn publish(&self, topic: &str, qos: QoS, retain: bool) -> RuleDecision {
        let rule = self.first(topic, qos, retain, |actions| actions.publish);
        rule.map_or(RuleDecision::Abstain, |rule| rule.effect.into())
    }

    /// May the client subscribe to this filter (without its `$share/group/`) with this maximum QoS?
    ///
    /// The first rule that covers the filter decides. Before that, an allow that only overlaps is skipped, an ask that
    /// overlaps has the filter asked for, and a deny that may stop some deliveries has each of them checked: it only overlaps, is
    /// about deliveries alone, about one RETAIN flag, or about a QoS below the requested one.
    pub fn subscribe(&self, filter: &str, qos: QoS) -> SubscribeDecision {
        let mut check_deliveries = false;
        let mut overlapping = self.overlapping(filter);
        let decision = overlapping.find_map(|rule| {
            let decision = rule.decide_subscribe(filter, qos);
            check_deliveries |= decision.is_none() && rule.may_deny_deliveries();
            decision
        });
        SubscribeDecision {
            decision: decision.unwrap_or(RuleDecision::Abstain),
            check_deliveries,
        }
    }

    /// The rules that are about some of what a topic filter matches.
    fn overlapping(&self, filter: &str) -> impl Iterator<Item = &CompiledRule> {
        let about = |rule: &&CompiledRule| rule.actions.subscribe || rule.actions.deliver;
        let rules = self.rules.iter().filter(about);
        rules.filter(move |rule| rule.pattern.overlaps(filter))
    }

    /// Which rule decides, counted from 0; `None`: none applies.
    pub fn deciding(&self, request: &RequestRef<'_>) -> Option<usize> {
        let RequestRef { topic, qos, retain, .. } = *request;
        let rule = match request.action {
            Action::Publish => self.first(topic, qos, retain, |actions| actions.publish),
            Action::Subscribe => self
                .overlapping(topic)
                .find(|rule| rule.decide_subscribe(topic, qos).is_some()),
            Action::Deliver => self.first(topic, qos, retain, |actions| actions.subscribe || actions.deliver),
        }?;
        self.rules.iter().position(|other| std::ptr::eq(other, rule))
    }

    /// A rule in words, as explanations quote it.
    pub fn describe(&self, rule: usize) -> Option<String> {
        self.rules.get(rule).map(ToString::to_string)
    }

    /// May this message be delivered to the client? `qos` is the QoS of the delivery. Only a deny stops it. The first rule
    /// about subscribe or deliver that applies decides; where that is an ask about subscribe alone, the plugin was asked then.
    pub fn deliver(&self, topic: &str, qos: QoS, retain: bool) -> RuleDecision {
        match self.first(topic, qos, retain, |actions| actions.subscribe || actions.deliver) {
            Some(rule) if rule.effect == Effect::Ask && !rule.actions.deliver => RuleDecision::Abstain,
            Some(rule) => rule.effect.into(),
            None => RuleDecision::Abstain,
        }
    }

    /// The first rule about such an action that applies.
    fn first(&self, topic: &str, qos: QoS, retain: bool, about: impl Fn(Actions) -> bool) -> Option<&CompiledRule> {
        let topic = Name::new(topic);
        let mut likely = self.rules.iter().filter(|rule| rule.pattern.may_match(topic));
        likely.find(|rule| about(rule.actions) && rule.applies_to(topic, qos, retain))
    }

    /// Whether [`CompiledRules::deliver`] can answer deny or ask at all; where not, nobody needs to call it.
    pub fn may_deny_deliveries(&self) -> bool {
        self.may_deny_deliveries
    }

    /// Number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule: every request is abstained from.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl CompiledRule {
    fn compile(rule: &Rule) -> Result<Self, TopicError> {
        Ok(CompiledRule {
            effect: rule.effect,
            actions: rule.actions,
            max_qos: rule.max_qos,
            retain: rule.retain,
            pattern: Pattern::compile(&rule.topic_filter)?,
        })
    }

    #[inline]
    fn applies_to(&self, topic: Name<'_>, qos: QoS, retain: bool) -> bool {
        qos <= self.max_qos && self.retain.is_none_or(|only| only == retain) && self.pattern.matches(topic)
    }

    fn may_deny_deliveries(&self) -> bool {
        match self.effect {
            Effect::Allow => false,
            Effect::Deny => self.actions.subscribe || self.actions.deliver,
            Effect::Ask => self.actions.deliver,
        }
    }

    /// What the rule says to a SUBSCRIBE with a filter it overlaps; `None`: the next rule is heard.
    fn decide_subscribe(&self, filter: &str, qos: QoS) -> Option<RuleDecision> {
        if !self.actions.subscribe || qos > self.max_qos {
            return None;
        }
        // A rule about one RETAIN flag is about some of the deliveries only, as if it did not cover the filter.
        let decides = self.effect == Effect::Ask || (self.retain.is_none() && self.pattern.covers(filter));
        decides.then(|| self.effect.into())
    }
}

/// `deny publish,subscribe a/+/b with QoS up to 1, retained only`
impl fmt::Display for CompiledRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let effect = match self.effect {
            Effect::Allow => "allow",
            Effect::Deny => "deny",
            Effect::Ask => "ask",
        };
        let Actions {
            publish,
            subscribe,
            deliver,
        } = self.actions;
        let actions = [(publish, "publish"), (subscribe, "subscribe"), (deliver, "deliver")];
        let actions = actions.iter().filter(|(is_about, _)| *is_about).map(|(_, name)| *name);
        let actions: Vec<_> = actions.collect();
        write!(f, "{effect} {} {}", actions.join(","), self.pattern.filter())?;
        if self.max_qos < QoS::ExactlyOnce {
            write!(f, " with QoS up to {}", self.max_qos as u8)?;
        }
        match self.retain {
            None => Ok(()),
            Some(true) => f.write_str(", retained only"),
            Some(false) => f.write_str(", not retained only"),
        }
    }
}

impl From<Effect> for RuleDecision {
    fn from(effect: Effect) -> Self {
        match effect {
            Effect::Allow => RuleDecision::Allow,
            Effect::Deny => RuleDecision::Deny,
            Effect::Ask => RuleDecision::Ask,
        }
    }
}
