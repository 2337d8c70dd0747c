//! One line of an access list.

use crate::placeholder::{expand, is_placeholder};
use nervewire_plugin_sdk::topic::{self, Template};
use nervewire_plugin_sdk::{Action, Client, Decision, Effect, Qos, Request, Rule};
use std::borrow::Cow;

/// What a line is about, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effects {
    /// Whether it allows or denies.
    pub allow: bool,
    /// It is about publishing.
    pub publish: bool,
    /// It is about subscribing, and what is delivered for it.
    pub subscribe: bool,
}

/// One line of an access list; the first that applies decides.
#[derive(Clone, Debug)]
pub struct Entry {
    effects: Effects,
    topic: Topic,
    /// By level.
    qos: [bool; 3],
    /// Of messages; a subscription has none.
    retain: Option<bool>,
}

#[derive(Clone, Debug)]
enum Topic {
    Filter(Template),
    /// `eq TOPIC`: this very topic or filter, nothing in it is a wildcard or a name.
    Exactly(String),
}

impl Entry {
    /// A line for all QoS levels and both values of RETAIN.
    ///
    /// # Errors
    /// What is wrong with the topic.
    pub fn new(effects: Effects, text: &str) -> Result<Self, String> {
        let topic = match text.strip_prefix("eq ") {
            Some(exact) => Topic::Exactly(checked(exact)?.to_owned()),
            None => Topic::Filter(parse(text)?),
        };
        Ok(Self {
            effects,
            topic,
            qos: [true; 3],
            retain: None,
        })
    }

    /// Only for these QoS levels.
    ///
    /// # Errors
    /// A level that there is not.
    pub fn qos(mut self, levels: &[u8]) -> Result<Self, String> {
        self.qos = [false; 3];
        for level in levels {
            match self.qos.get_mut(usize::from(*level)) {
                Some(place) => *place = true,
                None => return Err(format!("QoS {level}, there are 0, 1 and 2")),
            }
        }
        Ok(self)
    }

    /// Only for messages with this RETAIN flag.
    #[must_use]
    pub fn retain(mut self, retain: Option<bool>) -> Self {
        self.retain = retain;
        self
    }

    /// What the line says to a request; `None`: it does not apply.
    pub(crate) fn decide(&self, client: &Client, request: &Request) -> Option<Decision> {
        let about = match request.action {
            Action::Publish => self.effects.publish && self.retain.is_none_or(|retain| retain == request.retain),
            Action::Subscribe | Action::Deliver => self.effects.subscribe,
        };
        let applies = about && self.has_qos(request.qos) && self.is_about(client, request);
        let decision = if self.effects.allow {
            Decision::Allow
        } else {
            Decision::Deny
        };
        applies.then_some(decision)
    }

    fn has_qos(&self, qos: Qos) -> bool {
        self.qos.get(qos as usize).copied().unwrap_or(false)
    }

    fn is_about(&self, client: &Client, request: &Request) -> bool {
        match &self.topic {
            Topic::Exactly(exact) => *exact == request.topic,
            Topic::Filter(template) => expand(template, client).iter().any(|filter| match request.action {
                // A filter that goes beyond the line's is not what the line is about.
                Action::Subscribe => topic::covers(filter, &request.topic),
                Action::Publish | Action::Deliver => topic::matches(filter, &request.topic),
            }),
        }
    }

    /// Whether it allows a filter by its letters, which a rule that denies the rest of it would take back.
    pub(crate) fn allows_a_filter_by_its_letters(&self) -> bool {
        let is_filter = |text: &String| text.contains(['+', '#']);
        self.effects.allow && matches!(&self.topic, Topic::Exactly(exact) if is_filter(exact))
    }

    /// The topics it is about.
    pub(crate) fn topics(&self, client: &Client) -> Vec<String> {
        match &self.topic {
            Topic::Exactly(exact) => vec![exact.clone()],
            Topic::Filter(template) => expand(template, client).into_iter().map(Cow::into_owned).collect(),
        }
    }

    /// The line as the broker's own rules; what they cannot say is asked for.
    pub(crate) fn push_rules(&self, client: &Client, rules: &mut Vec<Rule>) {
        for filter in self.topics(client) {
            let exact_filter = matches!(self.topic, Topic::Exactly(_)) && filter.contains(['+', '#']);
            if let (Some(max_qos), false) = (self.max_qos(), exact_filter) {
                self.push_native(&filter, max_qos, rules);
            } else if self.qos.contains(&true) {
                rules.push(self.rule(Effect::Ask, self.effects.publish, self.effects.subscribe, filter));
            }
        }
    }

    /// RETAIN is about messages alone, so that a line about both actions with it is two rules.
    fn push_native(&self, filter: &str, max_qos: Qos, rules: &mut Vec<Rule>) {
        let effect = if self.effects.allow {
            Effect::Allow
        } else {
            Effect::Deny
        };
        let Effects { publish, subscribe, .. } = self.effects;
        let parts = match self.retain {
            None => vec![(publish, subscribe, None)],
            Some(_) => vec![(publish, false, self.retain), (false, subscribe, None)],
        };
        for (publish, subscribe, retain) in parts {
            if publish || subscribe {
                let mut rule = self
                    .rule(effect, publish, subscribe, filter.to_owned())
                    .max_qos(max_qos);
                rule.retain = retain;
                rules.push(rule);
            }
        }
    }

    fn rule(&self, effect: Effect, publish: bool, subscribe: bool, filter: String) -> Rule {
        let actions = nervewire_plugin_sdk::Actions {
            publish,
            subscribe,
            deliver: false,
        };
        let builder = match effect {
            Effect::Allow => Rule::allow(),
            Effect::Deny => Rule::deny(),
            Effect::Ask => Rule::ask(),
        };
        builder.actions(actions).topic(filter)
    }

    /// The highest level, where all below are meant, too.
    fn max_qos(&self) -> Option<Qos> {
        match self.qos {
            [true, false, false] => Some(Qos::AtMostOnce),
            [true, true, false] => Some(Qos::AtLeastOnce),
            [true, true, true] => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    if let Some(name) = template.variables().find(|name| !is_placeholder(name)) {
        return Err(format!("topic `{text}`: unknown name `${{{name}}}`"));
    }
    // What is substituted is a part of one level: whether the filter is valid does not depend on it.
    checked(&template.render(|_| Some("name")).unwrap_or_default())?;
    Ok(template)
}

fn checked(filter: &str) -> Result<&str, String> {
    if filter.starts_with("$share/") {
        return Err(format!("`{filter}`: write the filter behind $share/GROUP/"));
    }
    if !topic::is_valid_filter(filter) {
        return Err(format!("`{filter}` is no topic filter"));
    }
    Ok(filter)
}
