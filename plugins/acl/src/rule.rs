//! One line of the rules: as it is written, and as it is applied.

use crate::pattern::Pattern;
use nervewire_plugin_sdk::{Action, Actions, Effect, prelude::*, topic::Template};
use std::{borrow::Cow, collections::BTreeMap};

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    allow: Option<ActionsConfig>,
    deny: Option<ActionsConfig>,
    topics: Vec<String>,
    user: Option<String>,
    client: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    max_qos: Option<u8>,
    retain: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ActionsConfig {
    Publish,
    Subscribe,
    Deliver,
    Both,
    All,
}

impl From<ActionsConfig> for Actions {
    fn from(config: ActionsConfig) -> Self {
        use ActionsConfig::{All, Both, Deliver, Publish, Subscribe};
        Self {
            publish: matches!(config, Publish | Both | All),
            subscribe: matches!(config, Subscribe | Both | All),
            deliver: matches!(config, Deliver | All),
        }
    }
}

/// A rule as it is applied.
#[derive(Debug)]
pub(crate) struct AccessRule {
    effect: Effect,
    actions: Actions,
    topics: Vec<Template>,
    user: Option<Pattern>,
    client: Option<Pattern>,
    attributes: Vec<(String, Pattern)>,
    max_qos: Qos,
    retain: Option<bool>,
}

impl AccessRule {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: RuleConfig) -> Result<Self, String> {
        let (effect, actions) = match (config.allow, config.deny) {
            (Some(actions), None) => (Effect::Allow, actions),
            (None, Some(actions)) => (Effect::Deny, actions),
            _ => return Err("write either allow = \"...\" or deny = \"...\"".to_owned()),
        };
        if config.topics.is_empty() {
            return Err("topics is empty, write at least one topic filter, such as \"#\"".to_owned());
        }
        Ok(Self {
            effect,
            actions: actions.into(),
            topics: config
                .topics
                .iter()
                .map(|topic| parse_topic(topic))
                .collect::<Result<_, _>>()?,
            user: config.user.as_deref().map(Pattern::new),
            client: config.client.as_deref().map(Pattern::new),
            attributes: config
                .attributes
                .iter()
                .map(|(name, value)| (name.clone(), Pattern::new(value)))
                .collect(),
            max_qos: parse_qos(config.max_qos.unwrap_or(2))?,
            retain: config.retain,
        })
    }

    /// The rule for this client: a line per topic, none where it is not about this client.
    pub(crate) fn for_client(&self, client: &Client) -> impl Iterator<Item = Rule> {
        let topics = if self.is_about(client) {
            self.topics.as_slice()
        } else {
            &[]
        };
        topics
            .iter()
            .filter_map(|topic| Some(self.line(topic.for_client(client)?.into_owned())))
    }

    /// The topic filters that every client has of it, whatever its names are.
    pub(crate) fn filters_for_everybody(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let is_for_all = self.client.is_none() && self.user.is_none() && self.attributes.is_empty();
        let topics = if is_for_all { self.topics.as_slice() } else { &[] };
        topics.iter().filter_map(|topic| topic.render(|_| None))
    }

    /// What the rule says to a request; `None`: it does not apply.
    pub(crate) fn decide(&self, client: &Client, request: &Request) -> Option<Effect> {
        let (about, same_retain) = match request.action {
            Action::Publish => (self.actions.publish, self.has_retain(request.retain)),
            // A rule about one retain flag is about some of the messages only.
            Action::Subscribe => (self.actions.subscribe, self.retain.is_none()),
            Action::Deliver => {
                let about = self.actions.subscribe || self.actions.deliver;
                (about, self.has_retain(request.retain))
            }
        };
        let selects = |filter: &Template| match request.action {
            Action::Subscribe => filter
                .for_client(client)
                .is_some_and(|filter| topic::covers(&filter, &request.topic)),
            Action::Publish | Action::Deliver => filter.matches(client, &request.topic),
        };
        let applies = about && same_retain && request.qos <= self.max_qos && self.is_about(client);
        (applies && self.topics.iter().any(selects)).then_some(self.effect)
    }

    fn has_retain(&self, retain: bool) -> bool {
        self.retain.is_none_or(|only| only == retain)
    }

    fn is_about(&self, client: &Client) -> bool {
        let matches = |pattern: &Pattern, name: Option<&str>| name.is_some_and(|name| pattern.matches(name));
        self.client
            .as_ref()
            .is_none_or(|pattern| pattern.matches(&client.client_id))
            && self
                .user
                .as_ref()
                .is_none_or(|pattern| matches(pattern, client.username.as_deref()))
            && self
                .attributes
                .iter()
                .all(|(name, pattern)| matches(pattern, client.attribute(name)))
    }

    fn line(&self, topic_filter: String) -> Rule {
        Rule {
            effect: self.effect,
            actions: self.actions,
            topic_filter,
            max_qos: self.max_qos,
            retain: self.retain,
        }
    }
}

fn parse_topic(text: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    if let Some(name) = template.variables().find(|name| !Template::is_client_variable(name)) {
        return Err(format!(
            "unknown variable `${{{name}}}`, write ${{client_id}}, ${{username}} or ${{attr.NAME}}"
        ));
    }
    // What is substituted is a part of one level: whether the filter is valid does not depend on it.
    let sample = template.render(|_| Some("name")).unwrap_or_default();
    if sample.starts_with("$share/") {
        return Err(format!(
            "`{text}`: rules apply to the filter behind $share/GROUP/, write that"
        ));
    }
    if !topic::is_valid_filter(&sample) {
        return Err(format!(
            "`{text}` is no topic filter: `+` must be a whole level, `#` the whole last one"
        ));
    }
    Ok(template)
}

fn parse_qos(level: u8) -> Result<Qos, String> {
    Qos::from_level(level).ok_or_else(|| format!("max_qos = {level}, write 0, 1 or 2"))
}
