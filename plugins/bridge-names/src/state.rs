//! From a vendor's message to what it says.

use crate::convert::{Conversion, ConversionConfig, Value, first};
use crate::devices::Devices;
use crate::{Form, MARK};
use nervewire_plugin_parts::{
    CapturedTopic, OnInvalid, Path, check_filter, compile_each,
    json::{Document, Room},
    set_property,
};
use nervewire_plugin_sdk::{
    prelude::*,
    topic::{Capture, captures, is_valid_name, substitutable},
};
use std::rc::Rc;

/// As many as one call may emit.
const MAX_MESSAGES: usize = 16;

/// A rule as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StateConfig {
    r#match: Filters,
    vendor: Option<String>,
    device: Option<String>,
    #[serde(default)]
    fields: Vec<FieldConfig>,
    payload: Option<PayloadConfig>,
    #[serde(default)]
    on_invalid: OnInvalid,
    #[serde(default)]
    ignore: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Filters {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldConfig {
    field: String,
    capability: String,
    #[serde(flatten)]
    conversion: ConversionConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PayloadConfig {
    capability: String,
    #[serde(flatten)]
    conversion: ConversionConfig,
}

/// A rule as it is applied.
#[derive(Debug)]
pub(crate) struct State {
    filter: String,
    /// `None`: what it matches is not touched.
    meaning: Option<Rc<Meaning>>,
    device: Option<CapturedTopic>,
}

#[derive(Debug)]
struct Meaning {
    vendor: String,
    fields: Vec<Field>,
    payload: Option<Payload>,
    on_invalid: OnInvalid,
}

#[derive(Debug)]
struct Field {
    path: Path,
    capability: String,
    conversion: Conversion,
}

#[derive(Debug)]
struct Payload {
    capability: String,
    conversion: Conversion,
}

/// What a vendor's message turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Said(Vec<Message>),
    Unknown,
    Invalid,
}

/// All rules, and how states are written.
#[derive(Debug)]
pub(crate) struct States {
    rules: Vec<State>,
    root: String,
    form: Form,
    keep_original: bool,
}

/// One for each filter.
///
/// # Errors
/// What to write instead.
pub(crate) fn compile(config: StateConfig, root: &str) -> Result<Vec<State>, String> {
    let filters = match config.r#match {
        Filters::One(filter) => vec![filter],
        Filters::Several(filters) => filters,
    };
    for filter in &filters {
        check_filter(filter)?;
        check_apart(filter, root)?;
    }
    let says = !config.fields.is_empty() || config.payload.is_some();
    let meaning = match (config.ignore, config.vendor) {
        (true, None) if !says => None,
        (false, Some(vendor)) if says => Some(Rc::new(Meaning {
            vendor,
            fields: compile_each("fields", config.fields, Field::compile)?,
            payload: config.payload.map(Payload::compile).transpose()?,
            on_invalid: config.on_invalid,
        })),
        _ => return Err("write vendor, and fields or payload or both; or ignore = true alone".to_owned()),
    };
    let state = |filter: String| {
        let device = config.device.as_deref();
        Ok(State {
            device: device
                .map(|device| CapturedTopic::parse("device", device, &filter))
                .transpose()?,
            meaning: meaning.clone(),
            filter,
        })
    };
    filters.into_iter().map(state).collect()
}

/// What is translated and what that becomes must never be taken for each other.
pub(crate) fn check_apart(topic: &str, root: &str) -> Result<(), String> {
    let first = |topic: &str| topic.split('/').next().unwrap_or_default().to_owned();
    if matches!(first(topic).as_str(), "+" | "#") || first(topic) == first(root) {
        return Err(format!(
            "`{topic}` may be a topic below `{root}`, which would be translated again and again: begin it with another name"
        ));
    }
    Ok(())
}

/// # Errors
/// Of a capability that cannot be the level of a topic.
pub(crate) fn check_capability(capability: &str) -> Result<(), String> {
    if substitutable(capability) {
        return Ok(());
    }
    Err(format!("capability = `{capability}` cannot be a level of a topic"))
}

impl State {
    pub(crate) fn vendor(&self) -> Option<&str> {
        self.meaning.as_ref().map(|meaning| meaning.vendor.as_str())
    }

    fn device(&self, client: &Client, topic: &str) -> Option<String> {
        match &self.device {
            Some(device) => device.render(client, topic),
            None => {
                let mut levels = Vec::new();
                captures(&self.filter, topic, |capture| match capture {
                    Capture::Level(level) => levels.push(level),
                    Capture::Rest(rest) => levels.extend(rest),
                });
                Some(levels.join("/"))
            }
        }
    }
}

impl Field {
    fn compile(config: FieldConfig) -> Result<Self, String> {
        check_capability(&config.capability)?;
        Ok(Self {
            path: Path::parse(&config.field)?,
            capability: config.capability,
            conversion: Conversion::compile(config.conversion)?,
        })
    }
}

impl Payload {
    fn compile(config: PayloadConfig) -> Result<Self, String> {
        check_capability(&config.capability)?;
        Ok(Self {
            capability: config.capability,
            conversion: Conversion::compile(config.conversion)?,
        })
    }
}

impl Meaning {
    /// Capabilities with their values; `None`: the payload is not one that the rule is about.
    fn read<'a>(&'a self, payload: &[u8]) -> Option<Vec<(&'a str, Value)>> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut room = Room::default();
        match (Document::parse(text, &mut room), &self.payload) {
            (Ok(mut object @ Document::Object(_)), _) if !self.fields.is_empty() => {
                Some(self.read_fields(&mut object, &mut room))
            }
            (document, Some(payload)) => {
                // Vendors send words without quotes.
                let mut value = document.unwrap_or_else(|_| Document::Text(text.to_owned()));
                let itself = Document::Text(value.scalar()?.into_owned());
                let value = payload.conversion.of(&itself, &mut value, &mut room);
                Some(
                    value
                        .map(|value| (payload.capability.as_str(), value))
                        .into_iter()
                        .collect(),
                )
            }
            _ => None,
        }
    }

    /// Of two fields of one capability the first that is there counts.
    fn read_fields<'a>(&'a self, object: &mut Document<'_>, room: &mut Room) -> Vec<(&'a str, Value)> {
        let mut said: Vec<(&str, Value)> = Vec::new();
        for field in &self.fields {
            let is_said = said.iter().any(|(capability, _)| *capability == field.capability);
            let value = first(object, &field.path, room).filter(|_| !is_said);
            let value = value.and_then(|value| field.conversion.of(&value, object, room));
            said.extend(value.map(|value| (field.capability.as_str(), value)));
        }
        said
    }
}

impl States {
    pub(crate) fn new(rules: Vec<State>, root: String, form: Form, keep_original: bool) -> Self {
        Self {
            rules,
            root,
            form,
            keep_original,
        }
    }

    /// `None`: no rule is about this message.
    pub(crate) fn translate(&self, client: &Client, message: &Message, devices: &Devices) -> Option<Reading> {
        let rule = self
            .rules
            .iter()
            .find(|rule| topic::matches(&rule.filter, &message.topic))?;
        let meaning = rule.meaning.as_ref()?;
        if message.payload.is_empty() {
            return Some(Reading::Unknown);
        }
        let device = rule.device(client, &message.topic).unwrap_or_default();
        let prefix = format!("{}/{}", self.root, devices.name(&meaning.vendor, &device));
        Some(match meaning.read(&message.payload) {
            None if meaning.on_invalid == OnInvalid::Reject => Reading::Invalid,
            Some(said) if !said.is_empty() && is_valid_name(&prefix) && !device.is_empty() => {
                Reading::Said(self.messages(message, &prefix, &said))
            }
            _ => Reading::Unknown,
        })
    }

    fn messages(&self, message: &Message, prefix: &str, said: &[(&str, Value)]) -> Vec<Message> {
        let original = self.keep_original.then(|| message.clone());
        let room = MAX_MESSAGES - usize::from(self.keep_original);
        let made: Vec<_> = match self.form {
            Form::Json => vec![made_of(message, format!("{prefix}/state"), object(said))],
            Form::Messages => {
                counters::add("left_out", said.len().saturating_sub(room) as u64);
                let said = said.iter().take(room);
                said.map(|(capability, value)| {
                    made_of(message, format!("{prefix}/{capability}"), value.text().to_owned())
                })
                .collect()
            }
        };
        original.into_iter().chain(made).collect()
    }
}

/// A message that this plugin makes of another.
pub(crate) fn made_of(message: &Message, topic: String, payload: String) -> Message {
    let mut made = Message {
        topic,
        payload: payload.into_bytes(),
        payload_is_utf8: true,
        content_type: None,
        ..message.clone()
    };
    set_property(&mut made, MARK, "translated");
    made
}

fn object(said: &[(&str, Value)]) -> String {
    let field =
        |(capability, value): &(&str, Value)| format!("{}:{}", Document::Text((*capability).to_owned()), value.json());
    let fields: Vec<_> = said.iter().map(field).collect();
    format!("{{{}}}", fields.join(","))
}
