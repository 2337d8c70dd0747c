//! `builtin:redact`: fields of JSON payloads that must not go on as they are: dropped, replaced by a pseudonym, or made coarse.
//!
//! ```toml
//! [[plugin]]
//! name = "redact"
//! component = "builtin:redact"
//! files = { key = "pseudonym.key" }           # openssl rand -hex 32 > pseudonym.key
//! config.rules = [
//!   { match = "ward/+/vitals/#", unless_attributes = { role = "raw" }, fields = [
//!       { drop = "patient.name" },
//!       { drop = "contacts.*.phone" },
//!       { hash = "patient.id" },
//!       { date = "patient.born", to = "year" },
//!       { keep = "patient.postcode", characters = 2 },
//!       { round = "weight_kg", to = 5.0 },
//!     ] },
//! ]
//! ```
//!
//! Every rule whose `match` matches the topic applies, in order; messages that match none pass. A rule has:
//!
//! | key | meaning |
//! |---|---|
//! | `match` | a topic filter |
//! | `fields` | what becomes of which field, in this order |
//! | `unless_attributes` | the rule does not apply to publishers with all these attributes |
//! | `on_invalid` | what becomes of a payload that is not JSON: `"reject"` (payload format invalid, the default) or `"pass"`, unless it begins with `{` or `[`: somebody else might read fields in it |
//!
//! Each entry of `fields` is one of:
//!
//! | entry | meaning |
//! |---|---|
//! | `{ drop = "a.b" }` | it goes |
//! | `{ hash = "a.b", characters = 32 }` | a text or number becomes the first 16 to 64 hexadecimal digits of its HMAC-SHA-256 under the file `key`: the same everywhere for the same content, and not to be guessed without the key |
//! | `{ date = "a.b", to = "year" }` | a date or time as in ISO 8601 (`2024-05-17`, `2024-05-17T08:15:00Z`) becomes its `"year"`, `"month"` (`2024-05`) or `"day"` |
//! | `{ keep = "a.b", characters = 2 }` | of a text or number the first characters |
//! | `{ round = "a.b", to = 5.0 }` | a number becomes the nearest multiple |
//!
//! Names on the way to a field are separated by dots; `*` is any name, and any element of an array. An array on the way stands
//! for each of its elements, and so does one at the end, unless it is dropped. A field that is not there is no error, and `null`
//! stays `null`. **A field that is there and is not what its entry is about (a date that is none, an object to be hashed) goes**:
//! what could not be made coarse must not pass as it is. What no entry touches stays as it was, in its order and to the last
//! digit. A payload that cannot be looked through is rejected: with arrays in more than 32 arrays on the way to a field, or with more than
//! 49,152 fields and elements in what has to be opened for it, or 512 KiB of new texts.
//!
//! An empty payload (which clears a retained message) has no fields. Counters: `dropped`, `hashed`, `coarsened`, `unfit` (fields
//! that went because they were not what they should be), `invalid` (payloads).

mod date;
mod field;
mod pseudonym;
mod rule;

use nervewire_plugin_parts::compile_each;
use nervewire_plugin_sdk::{export, prelude::*};
use rule::{RedactRule, RuleConfig};

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
}

/// The plugin: an ordered list of rules.
#[derive(Debug)]
pub struct Redact {
    rules: Vec<RedactRule>,
}

impl Plugin for Redact {
    type Config = Config;

    fn init(config: Config, files: Files) -> Result<Self, String> {
        let compile = |rule| RedactRule::compile(rule, &files);
        Ok(Self {
            rules: compile_each("config.rules", config.rules, compile)?,
        })
    }
}

impl Transform for Redact {
    fn transform(&mut self, client: &Client, mut message: Message) -> Transformation {
        let mut changed = false;
        for rule in &self.rules {
            if message.payload.is_empty() || !rule.applies(client, &message.topic) {
                continue;
            }
            match rule.redact(&message.payload) {
                Ok(Some(payload)) if payload != message.payload => {
                    message.payload = payload;
                    changed = true;
                }
                Ok(_) => {}
                Err(rejection) => return Transformation::Reject(rejection),
            }
        }
        if changed {
            Transformation::Replace(message)
        } else {
            Transformation::Pass
        }
    }
}

export!(Redact: transform);

#[cfg(test)]
mod tests;
