//! Hook `authorize`: may this client do that?

use crate::{Client, Plugin, Qos};
use std::time::Duration;

/// Implemented by plugins that say what a client may do.
///
/// Every authorizer of the chain is heard; a deny wins, else any allow.
pub trait Authorize: Plugin {
    /// Called once per connection and again when policy changes. `None`: [`authorize`](Self::authorize) is called for
    /// every request. A list is evaluated inside the broker, first match first, at no cost of a call; `authorize` is
    /// called only where it says ask, and where nothing matches this plugin abstains.
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        let _ = client;
        None
    }

    /// Called for each request that no rule decides; about several requests of one client one after the other, before the first
    /// of them takes effect, where the broker has them at hand.
    fn authorize(&mut self, client: &Client, request: &Request) -> Verdict {
        let _ = (client, request);
        Verdict::abstain()
    }
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message to a topic.
    Publish,
    /// Subscribe to a filter.
    Subscribe,
    /// Receive a message of a subscription it holds.
    Deliver,
}

/// What a client wants to do, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What.
    pub action: Action,
    /// A topic name; for subscribe a topic filter, without its `$share/group/`.
    pub topic: String,
    /// The quality of service asked for.
    pub qos: Qos,
    /// The message's retain flag; false for subscribe.
    pub retain: bool,
}

/// The actions a rule is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Actions {
    pub publish: bool,
    pub subscribe: bool,
    pub deliver: bool,
}

impl Actions {
    /// Publish, subscribe and deliver.
    pub const ALL: Self = Self {
        publish: true,
        subscribe: true,
        deliver: true,
    };

    fn or_all(self) -> Self {
        if self == Self::default() { Self::ALL } else { self }
    }
}

/// What a rule does with a request it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// This plugin allows it.
    Allow,
    /// This plugin denies it.
    Deny,
    /// [`Authorize::authorize`] is called.
    Ask,
}

/// One line of an ordered list; the first that applies decides.
///
/// ```
/// use nervewire_plugin_sdk::{Qos, Rule};
/// let rules = vec![
///     Rule::allow().publish().subscribe().topic("dev/7/#").max_qos(Qos::AtLeastOnce),
///     Rule::deny().publish().topic("cmd/#").retain(true),
///     Rule::ask().topic("cmd/#"), // no action named: all of them
/// ];
/// assert!(rules[2].actions.deliver);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub effect: Effect,
    /// The actions it is about.
    pub actions: Actions,
    /// The topics it is about.
    pub topic_filter: String,
    /// Applies to requests of at most this quality of service.
    pub max_qos: Qos,
    /// Applies only to messages with this retain flag; `None`: to both.
    pub retain: Option<bool>,
}

impl Rule {
    /// The beginning of a rule that allows.
    pub fn allow() -> RuleBuilder {
        RuleBuilder::new(Effect::Allow)
    }

    /// The beginning of a rule that denies.
    pub fn deny() -> RuleBuilder {
        RuleBuilder::new(Effect::Deny)
    }

    /// The beginning of a rule that has [`Authorize::authorize`] called.
    pub fn ask() -> RuleBuilder {
        RuleBuilder::new(Effect::Ask)
    }

    /// Applies to requests of at most this quality of service.
    pub fn max_qos(mut self, max_qos: Qos) -> Self {
        self.max_qos = max_qos;
        self
    }

    /// Applies only to messages with this retain flag.
    pub fn retain(mut self, retain: bool) -> Self {
        self.retain = Some(retain);
        self
    }
}

/// A rule that lacks its topic; where no action is named it is about all of them.
#[derive(Clone, Copy, Debug)]
#[must_use = "a rule is complete once its topic is named"]
pub struct RuleBuilder {
    effect: Effect,
    actions: Actions,
}

impl RuleBuilder {
    fn new(effect: Effect) -> Self {
        Self {
            effect,
            actions: Actions::default(),
        }
    }

    /// About publishing.
    pub fn publish(mut self) -> Self {
        self.actions.publish = true;
        self
    }

    /// About subscribing.
    pub fn subscribe(mut self) -> Self {
        self.actions.subscribe = true;
        self
    }

    /// About the delivery of messages.
    pub fn deliver(mut self) -> Self {
        self.actions.deliver = true;
        self
    }

    /// About exactly these actions.
    pub fn actions(mut self, actions: Actions) -> Self {
        self.actions = actions;
        self
    }

    /// The rule, for topics that match this filter, at every quality of service.
    pub fn topic(self, filter: impl Into<String>) -> Rule {
        Rule {
            effect: self.effect,
            actions: self.actions.or_all(),
            topic_filter: filter.into(),
            max_qos: Qos::ExactlyOnce,
            retain: None,
        }
    }
}

/// An authorizer's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, unless another authorizer denies.
    Allow,
    /// Denied, whatever others say.
    Deny,
    /// Not mine to decide.
    Abstain,
}

/// What an answer depends on beyond action, QoS and retain flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Dependencies {
    pub client: bool,
    pub user: bool,
    pub topic: bool,
}

/// An authorizer's answer, and how long it holds for whom.
///
/// ```
/// use nervewire_plugin_sdk::Verdict;
/// use std::time::Duration;
/// // Everybody may do this with this topic for a minute:
/// let verdict = Verdict::allow().cache(Duration::from_secs(60)).for_any_client().for_any_user();
/// assert_eq!(verdict.cache_milliseconds, 60_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The decision.
    pub decision: Decision,
    /// The same request may be answered from a cache for this long; 0: never.
    pub cache_milliseconds: u32,
    /// What "the same request" means.
    pub depends_on: Dependencies,
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        Self {
            decision,
            cache_milliseconds: 0,
            depends_on: Dependencies {
                client: true,
                user: true,
                topic: true,
            },
        }
    }

    /// Allowed, unless another authorizer denies.
    pub fn allow() -> Self {
        Self::of(Decision::Allow)
    }

    /// Denied.
    pub fn deny() -> Self {
        Self::of(Decision::Deny)
    }

    /// Not mine to decide.
    pub fn abstain() -> Self {
        Self::of(Decision::Abstain)
    }

    /// Holds this long for this client, user and topic; at most `u32::MAX` milliseconds.
    pub fn cache(mut self, duration: Duration) -> Self {
        self.cache_milliseconds = u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        self
    }

    /// The cached answer holds for every client.
    pub fn for_any_client(mut self) -> Self {
        self.depends_on.client = false;
        self
    }

    /// The cached answer holds for every user.
    pub fn for_any_user(mut self) -> Self {
        self.depends_on.user = false;
        self
    }

    /// The cached answer holds for every topic.
    pub fn for_any_topic(mut self) -> Self {
        self.depends_on.topic = false;
        self
    }
}
