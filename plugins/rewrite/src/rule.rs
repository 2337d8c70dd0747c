//! One rule: as it is written, and as it is applied.

use crate::json::Document;
use crate::operation::{Operation, OperationConfig};
use nervewire_plugin_sdk::{
    Property,
    prelude::*,
    topic::{Capture, Template, captures, client_value, is_valid_filter, is_valid_name},
};

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    r#match: String,
    topic: Option<String>,
    #[serde(default)]
    json: Vec<OperationConfig>,
    #[serde(default)]
    on_invalid: OnInvalid,
    tag: Option<Tag>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnInvalid {
    #[default]
    Reject,
    Pass,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    name: String,
    value: String,
}

/// A rule as it is applied.
#[derive(Debug)]
pub(crate) struct RewriteRule {
    filter: String,
    topic: Option<Template>,
    operations: Vec<Operation>,
    on_invalid: OnInvalid,
    tag: Option<Tag>,
}

impl RewriteRule {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: RuleConfig) -> Result<Self, String> {
        if !is_valid_filter(&config.r#match) {
            return Err(format!("match = `{}` is no topic filter", config.r#match));
        }
        if config.topic.is_none() && config.json.is_empty() && config.tag.is_none() {
            return Err("changes nothing, write topic, json or tag".to_owned());
        }
        let topic = config
            .topic
            .as_deref()
            .map(|topic| parse_topic(topic, &config.r#match))
            .transpose()?;
        let numbered = config.json.into_iter().zip(1..);
        let compile = |(operation, number): (OperationConfig, u32)| {
            Operation::compile(operation).map_err(|error| format!("json, entry {number}: {error}"))
        };
        Ok(Self {
            topic,
            operations: numbered.map(compile).collect::<Result<_, _>>()?,
            filter: config.r#match,
            on_invalid: config.on_invalid,
            tag: config.tag,
        })
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        topic::matches(&self.filter, topic)
    }

    pub(crate) fn apply(&self, client: &Client, mut message: Message) -> Transformation {
        let Some(payload) = self.payload(&message.payload) else {
            return Transformation::Reject(Rejection::PayloadFormatInvalid);
        };
        let Ok(topic) = self
            .topic
            .as_ref()
            .map(|topic| self.render(topic, client, &message.topic).ok_or(()))
            .transpose()
        else {
            return Transformation::Reject(Rejection::TopicNameInvalid);
        };
        if payload.is_none() && topic.is_none() && self.tag.is_none() {
            return Transformation::Pass;
        }
        message.payload = payload.unwrap_or(message.payload);
        message.topic = topic.unwrap_or(message.topic);
        self.tag.iter().for_each(|tag| tag.put_on(&mut message));
        Transformation::Replace(message)
    }

    /// The new payload, where it changes; `None`: it must be rejected.
    fn payload(&self, payload: &[u8]) -> Option<Option<Vec<u8>>> {
        if self.operations.is_empty() || payload.is_empty() {
            return Some(None);
        }
        match (self.edit(payload), self.on_invalid) {
            (Some(edited), _) => Some(edited),
            (None, OnInvalid::Pass) => Some(None),
            (None, OnInvalid::Reject) => None,
        }
    }

    /// `None`: not JSON, or no longer.
    fn edit(&self, payload: &[u8]) -> Option<Option<Vec<u8>>> {
        let mut document = Document::parse(std::str::from_utf8(payload).ok()?)?;
        let mut changed = false;
        for operation in &self.operations {
            changed |= operation.apply(&mut document)?;
        }
        Some(changed.then(|| document.to_string().into_bytes()))
    }

    fn render(&self, template: &Template, client: &Client, topic: &str) -> Option<String> {
        let (mut levels, mut rest) = (Vec::new(), None);
        captures(&self.filter, topic, |capture| match capture {
            Capture::Level(level) => levels.push(level),
            Capture::Rest(levels) => rest = levels,
        });
        let mut rendered = template.render(|name| match level_number(name) {
            _ if name == "#" => Some(rest.unwrap_or_default()),
            Some(number) => levels.get(number - 1).copied(),
            None => client_value(client, name),
        })?;
        if rest.is_none() && template.variables().last() == Some("#") {
            rendered.truncate(rendered.strip_suffix('/').map_or(rendered.len(), str::len));
        }
        is_valid_name(&rendered).then_some(rendered)
    }
}

impl Tag {
    fn put_on(&self, message: &mut Message) {
        message.user_properties.retain(|property| property.name != self.name);
        message.user_properties.push(Property::new(&self.name, &self.value));
    }
}

fn parse_topic(text: &str, filter: &str) -> Result<Template, String> {
    let template = Template::parse(text)?;
    let wildcards = filter.split('/').filter(|level| *level == "+").count();
    let known = |name: &str| match level_number(name) {
        _ if name == "#" => filter.ends_with('#') && text.ends_with("${#}") && text.matches("${#}").count() == 1,
        Some(number) => number <= wildcards,
        None => Template::is_client_variable(name),
    };
    if let Some(name) = template.variables().find(|name| !known(name)) {
        return Err(format!(
            "`${{{name}}}` in topic = `{text}` stands for nothing: match = `{filter}` has {wildcards} times `+`, `${{#}}` \
             must end the topic and needs `#` in match, and a sender has ${{client_id}}, ${{username}} and ${{attr.NAME}}"
        ));
    }
    let sample = template.render(|_| Some("name")).unwrap_or_default();
    if !is_valid_name(&sample) {
        return Err(format!("topic = `{text}` is no topic name"));
    }
    Ok(template)
}

/// Counted from one.
fn level_number(variable: &str) -> Option<usize> {
    variable.parse().ok().filter(|number| *number > 0)
}
