//! From a command in the common language to the vendor's.

use crate::convert::{Conversion, ConversionConfig};
use crate::state::{check_apart, check_capability, made_of};
use nervewire_plugin_parts::json::{Document, Room};
use nervewire_plugin_sdk::{
    prelude::*,
    topic::{Template, is_valid_name},
};

/// A command as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandConfig {
    vendor: String,
    capability: String,
    topic: String,
    field: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    #[serde(flatten)]
    conversion: ConversionConfig,
}

/// A command as it is applied.
#[derive(Debug)]
pub(crate) struct Command {
    vendor: String,
    capability: String,
    topic: Template,
    field: Option<String>,
    min: Option<f64>,
    max: Option<f64>,
    conversion: Conversion,
}

/// All commands.
#[derive(Debug)]
pub(crate) struct Commands {
    commands: Vec<Command>,
    /// With the separator behind it.
    prefix: String,
}

impl Command {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: CommandConfig, root: &str) -> Result<Self, String> {
        check_capability(&config.capability)?;
        check_apart(&config.topic, root)?;
        let topic = Template::parse(&config.topic)?;
        let known = topic.variables().all(|variable| variable == "device");
        let sample = topic.render(|_| Some("name")).unwrap_or_default();
        if !known || !is_valid_name(&sample) || config.topic.starts_with("${") {
            return Err(format!(
                "topic = `{}`: write a topic name that begins with a name and has `${{device}}` where the device's is",
                config.topic
            ));
        }
        Ok(Self {
            vendor: config.vendor,
            capability: config.capability,
            topic,
            field: config.field,
            min: config.min,
            max: config.max,
            conversion: Conversion::compile(config.conversion)?,
        })
    }

    pub(crate) fn vendor(&self) -> &str {
        &self.vendor
    }

    /// `None`: the payload is no value for this.
    fn payload(&self, payload: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut room = Room::default();
        let said = Document::parse(text, &mut room).unwrap_or_else(|_| Document::Text(text.trim().to_owned()));
        self.check_range(&said)?;
        let value = self
            .conversion
            .of(&said, &mut Document::Text(String::new()), &mut room)?;
        Some(match &self.field {
            Some(field) => format!("{{{}:{}}}", Document::Text(field.clone()), value.json()),
            None => value.text().to_owned(),
        })
    }

    fn check_range(&self, said: &Document<'_>) -> Option<()> {
        if self.min.is_none() && self.max.is_none() {
            return Some(());
        }
        let number: f64 = said.scalar()?.parse().ok()?;
        let within = self.min.is_none_or(|min| number >= min) && self.max.is_none_or(|max| number <= max);
        within.then_some(())
    }
}

impl Commands {
    pub(crate) fn new(commands: Vec<Command>, root: &str) -> Self {
        Self {
            commands,
            prefix: format!("{root}/"),
        }
    }

    /// The name of the device and the capability, where the topic is one of commands.
    pub(crate) fn addressed<'a>(&self, topic: &'a str) -> Option<(&'a str, &'a str)> {
        let path = topic.strip_prefix(&self.prefix)?.strip_suffix("/set")?;
        path.rsplit_once('/')
    }

    /// # Errors
    /// The device has no such capability, or not this value of it.
    pub(crate) fn translate(
        &self,
        vendor: &str,
        device: &str,
        capability: &str,
        message: &Message,
    ) -> Result<Message, Rejection> {
        let mut commands = self.commands.iter();
        let command = commands.find(|command| command.vendor == vendor && command.capability == capability);
        let command = command.ok_or(Rejection::TopicNameInvalid)?;
        let topic = command
            .topic
            .render(|_| Some(device))
            .filter(|topic| is_valid_name(topic));
        let topic = topic.ok_or(Rejection::TopicNameInvalid)?.into_owned();
        let payload = command
            .payload(&message.payload)
            .ok_or(Rejection::PayloadFormatInvalid)?;
        Ok(made_of(message, topic, payload))
    }
}
