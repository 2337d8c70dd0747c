//! `builtin:schema`: payloads that must be JSON of a certain form, said as JSON Schema.
//!
//! ```toml
//! [[plugin]]
//! name = "schema"
//! component = "builtin:schema"
//! limits = { memory_mib = 32 }
//! files = { weld = "weld.schema.json", units = "units.schema.json" }
//! config.rules = [
//!   { match = "plant/+/weld/#", file = "weld" },
//!   { match = "plant/+/temperature", on_invalid = "tag",
//!     schema = { type = "object", required = ["celsius"], properties.celsius = { "$ref" = "units#/$defs/celsius" } } },
//! ]
//! ```
//!
//! The first rule whose `match` matches the topic applies, messages that match none pass. A rule has:
//!
//! | key | meaning |
//! |---|---|
//! | `match` | a topic filter |
//! | `schema` or `file` | the schema itself, or the name in `files` under which it is |
//! | `on_invalid` | a payload that is not JSON or not as the schema says: `"reject"` (payload format invalid, the default) or `"tag"`: it passes with a user property that says why |
//! | `tag` | the name of that user property, `"schema-error"` where nothing is said; one that the sender set goes, so that a message without it was valid |
//!
//! Schemas are of draft 2020-12, or of the older draft that their `$schema` names. With `config.formats = false` the keyword
//! `format` is only an annotation, else it is checked. `$ref` leads to other files by their names in `files`, or by their `$id`; a
//! plugin has no network, and a reference to anything else is refused when the configuration is loaded, as every schema is that
//! is none. Patterns are matched in time that grows with the length of the text only; look-around and back-references, which could not
//! be, are refused.
//!
//! An empty payload with the retain flag clears a retained message and passes. Counters: `valid`, `rejected`, `tagged`.

mod rule;
mod schemas;

use nervewire_plugin_parts::compile_each;
use nervewire_plugin_sdk::{export, prelude::*};
use rule::{Judgement, RuleConfig, SchemaRule};
use schemas::{Builder, Schemas};

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
    #[serde(default = "yes")]
    formats: bool,
}

fn yes() -> bool {
    true
}

/// The plugin: an ordered list of rules, and all their schemas.
#[derive(Debug)]
pub struct Schema {
    rules: Vec<SchemaRule>,
    schemas: Schemas,
}

impl Plugin for Schema {
    type Config = Config;

    fn init(config: Config, files: Files) -> Result<Self, String> {
        let mut schemas = Builder::new(&files, config.formats)?;
        let compile = |rule| SchemaRule::compile(rule, &mut schemas);
        let rules = compile_each("config.rules", config.rules, compile)?;
        Ok(Self {
            rules,
            schemas: schemas.finish(),
        })
    }
}

impl Transform for Schema {
    fn transform(&mut self, _client: &Client, message: Message) -> Transformation {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(&message.topic)) else {
            return Transformation::Pass;
        };
        let (counter, outcome) = match rule.judge(message, &self.schemas) {
            Judgement::Valid => ("valid", Transformation::Pass),
            Judgement::ValidWithoutTag(message) => ("valid", Transformation::Replace(message)),
            Judgement::Tagged(message) => ("tagged", Transformation::Replace(message)),
            Judgement::Rejected => ("rejected", Transformation::Reject(Rejection::PayloadFormatInvalid)),
        };
        counters::add(counter, 1);
        outcome
    }
}

export!(Schema: transform);

#[cfg(test)]
mod tests;
