//! One rule: as it is written, and as it is applied.

use crate::operation::{Operation, OperationConfig};
use nervewire_plugin_parts::{
    CapturedTopic, OnInvalid, check_filter, compile_each,
    json::{Document, Room, Unreadable},
    set_property,
};
use nervewire_plugin_sdk::prelude::*;

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
    topic: Option<CapturedTopic>,
    operations: Vec<Operation>,
    on_invalid: OnInvalid,
    tag: Option<Tag>,
}

impl RewriteRule {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: RuleConfig) -> Result<Self, String> {
        check_filter(&config.r#match)?;
        if config.topic.is_none() && config.json.is_empty() && config.tag.is_none() {
            return Err("changes nothing, write topic, json or tag".to_owned());
        }
        let topic = config
            .topic
            .as_deref()
            .map(|topic| CapturedTopic::parse("topic", topic, &config.r#match))
            .transpose()?;
        Ok(Self {
            topic,
            operations: compile_each("json", config.json, Operation::compile)?,
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
            .map(|topic| topic.render(client, &message.topic).ok_or(()))
            .transpose()
        else {
            return Transformation::Reject(Rejection::TopicNameInvalid);
        };
        if payload.is_none() && topic.is_none() && self.tag.is_none() {
            return Transformation::Pass;
        }
        message.payload = payload.unwrap_or(message.payload);
        message.topic = topic.unwrap_or(message.topic);
        if let Some(tag) = &self.tag {
            set_property(&mut message, &tag.name, &tag.value);
        }
        Transformation::Replace(message)
    }

    /// The new payload, where it changes; `None`: it must be rejected.
    fn payload(&self, payload: &[u8]) -> Option<Option<Vec<u8>>> {
        if self.operations.is_empty() || payload.is_empty() {
            return Some(None);
        }
        match (self.edit(payload), self.on_invalid) {
            (Ok(edited), _) => Some(edited),
            (Err(Unreadable::NotJson), OnInvalid::Pass) => Some(None),
            (Err(_), _) => None,
        }
    }

    /// The new payload, where it changes.
    fn edit(&self, payload: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut room = Room::default();
        let mut document = Document::of_payload(payload, &mut room)?;
        let mut changed = false;
        for operation in &self.operations {
            changed |= operation.apply(&mut document, &mut room)?;
        }
        Ok(changed.then(|| document.to_payload(payload)))
    }
}
