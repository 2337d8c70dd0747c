//! One rule: as it is written, and as it is applied.

use crate::schemas::{Builder, SchemaId, Schemas};
use nervewire_plugin_parts::{check_filter, remove_property, set_property};
use nervewire_plugin_sdk::prelude::*;
use serde_json::Value;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    r#match: String,
    schema: Option<Value>,
    file: Option<String>,
    #[serde(default)]
    on_invalid: OnInvalid,
    tag: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OnInvalid {
    #[default]
    Reject,
    Tag,
}

/// A rule as it is applied.
#[derive(Debug)]
pub(crate) struct SchemaRule {
    filter: String,
    schema: SchemaId,
    /// Of the user property; `None`: what is invalid is rejected.
    tag: Option<String>,
}

/// What a rule says about a message.
#[derive(Debug)]
pub(crate) enum Judgement {
    Valid,
    /// The sender pretended that it was not.
    ValidWithoutTag(Message),
    Tagged(Message),
    Rejected,
}

const DEFAULT_TAG: &str = "schema-error";

impl SchemaRule {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: RuleConfig, schemas: &mut Builder<'_>) -> Result<Self, String> {
        check_filter(&config.r#match)?;
        let schema = match (config.schema, config.file) {
            (Some(schema), None) => schemas.inline(schema)?,
            (None, Some(name)) => schemas.file(&name)?,
            _ => {
                return Err(
                    "write either schema = { ... } or file = \"NAME\", a name in this plugin's files".to_owned(),
                );
            }
        };
        let tag = match (config.on_invalid, config.tag) {
            (OnInvalid::Reject, Some(_)) => return Err("tag means something with on_invalid = \"tag\" only".to_owned()),
            (OnInvalid::Reject, None) => None,
            (OnInvalid::Tag, tag) => Some(tag.unwrap_or_else(|| DEFAULT_TAG.to_owned())),
        };
        Ok(Self {
            filter: config.r#match,
            schema,
            tag,
        })
    }

    pub(crate) fn matches(&self, topic: &str) -> bool {
        topic::matches(&self.filter, topic)
    }

    pub(crate) fn judge(&self, mut message: Message, schemas: &Schemas) -> Judgement {
        let outcome = match message.payload.is_empty() && message.retain {
            true => Ok(()),
            false => schemas.check(self.schema, &message.payload),
        };
        match (outcome, &self.tag) {
            (Ok(()), Some(tag)) if remove_property(&mut message, tag) => Judgement::ValidWithoutTag(message),
            (Ok(()), _) => Judgement::Valid,
            (Err(reason), Some(tag)) => {
                set_property(&mut message, tag, &reason);
                Judgement::Tagged(message)
            }
            (Err(reason), None) => {
                log::debug!("{}: {reason}", message.topic);
                Judgement::Rejected
            }
        }
    }
}
