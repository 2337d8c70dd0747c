//! One rule: as it is written, and as it is applied.

use crate::field::{Field, FieldConfig, Tally};
use nervewire_plugin_parts::{
    OnInvalid, check_filter, compile_each,
    json::{Document, Room, Unreadable},
};
use nervewire_plugin_sdk::prelude::*;
use std::collections::BTreeMap;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleConfig {
    r#match: String,
    fields: Vec<FieldConfig>,
    #[serde(default)]
    unless_attributes: BTreeMap<String, String>,
    #[serde(default)]
    on_invalid: OnInvalid,
}

/// A rule as it is applied.
#[derive(Debug)]
pub(crate) struct RedactRule {
    filter: String,
    fields: Vec<Field>,
    unless_attributes: BTreeMap<String, String>,
    on_invalid: OnInvalid,
}

impl RedactRule {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: RuleConfig, files: &Files) -> Result<Self, String> {
        check_filter(&config.r#match)?;
        if config.fields.is_empty() {
            return Err("changes nothing, write fields".to_owned());
        }
        Ok(Self {
            filter: config.r#match,
            fields: compile_each("fields", config.fields, |field| Field::compile(field, files))?,
            unless_attributes: config.unless_attributes,
            on_invalid: config.on_invalid,
        })
    }

    pub(crate) fn applies(&self, client: &Client, topic: &str) -> bool {
        topic::matches(&self.filter, topic) && !self.exempts(client)
    }

    fn exempts(&self, client: &Client) -> bool {
        let has = |(name, value): (&String, &String)| {
            let mut attributes = client.attributes.iter();
            attributes.any(|attribute| attribute.name == *name && attribute.value == *value)
        };
        !self.unless_attributes.is_empty() && self.unless_attributes.iter().all(has)
    }

    /// The new payload, where it changes.
    ///
    /// # Errors
    /// The payload is not JSON, or cannot be looked through.
    pub(crate) fn redact(&self, payload: &[u8]) -> Result<Option<Vec<u8>>, Rejection> {
        match self.edited(payload) {
            Ok((document, tally)) => {
                tally.count();
                Ok(tally.changed().then(|| document.to_payload(payload)))
            }
            Err(why) => {
                counters::add("invalid", 1);
                let passes =
                    self.on_invalid == OnInvalid::Pass && why == Unreadable::NotJson && !may_have_fields(payload);
                if passes {
                    Ok(None)
                } else {
                    Err(Rejection::PayloadFormatInvalid)
                }
            }
        }
    }

    fn edited<'a>(&self, payload: &'a [u8]) -> Result<(Document<'a>, Tally), Unreadable> {
        let mut room = Room::default();
        let mut document = Document::of_payload(payload, &mut room)?;
        let mut tally = Tally::default();
        for field in &self.fields {
            field.apply(&mut document, &mut room, &mut tally)?;
        }
        Ok((document, tally))
    }
}

/// Whether somebody who is less strict about JSON could find fields in it.
fn may_have_fields(payload: &[u8]) -> bool {
    const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
    let text = payload.strip_prefix(BYTE_ORDER_MARK).unwrap_or(payload);
    matches!(text.trim_ascii_start().first(), Some(b'{' | b'['))
}
