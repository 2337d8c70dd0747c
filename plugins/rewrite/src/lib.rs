//! `builtin:rewrite`: other topics, other JSON fields, a tag.
//!
//! ```toml
//! [[plugin]]
//! name = "rewrite"
//! component = "builtin:rewrite"
//! grants = ["publish:site/#"]     # else a message with a new topic is authorized again as its sender
//! config.rules = [
//!   { match = "legacy/+/sensors/#", topic = "site/${1}/${#}" },
//!   { match = "dev/+/telemetry", json = [
//!       { rename = "reading.tmp", to = "celsius" },
//!       { drop = "debug" },
//!       { scale = "outside_f", factor = 0.5556, offset = -17.78, round = 2 },
//!     ], tag = { name = "source", value = "rewrite" } },
//! ]
//! ```
//!
//! The first rule whose `match` matches the topic applies, messages that match none pass. A rule has:
//!
//! | key | meaning |
//! |---|---|
//! | `match` | a topic filter |
//! | `topic` | the new topic: `${1}`, `${2}`, ... is what the first, second, ... `+` of `match` stands for, `${#}` at the end is what its `#` stands for (nothing: the `/` before it goes, too); `${client_id}`, `${username}` and `${attr.NAME}` are the sender's |
//! | `json` | changes to a payload that is JSON, in this order |
//! | `on_invalid` | what becomes of a payload that `json` should change and that is not JSON: `"reject"` (payload format invalid, the default) or `"pass"` |
//! | `tag` | a user property; one of this name that the sender set is replaced |
//!
//! Each entry of `json` is one of:
//!
//! | entry | meaning |
//! |---|---|
//! | `{ rename = "a.b", to = "c" }` | field `b` of object `a` is called `c`, in its place; another `c` of `a` goes |
//! | `{ drop = "a.b" }` | it goes |
//! | `{ scale = "a.b", factor = 2.0, offset = 1.0, round = 2 }` | a number is multiplied, added to and rounded to so many digits; `factor` defaults to 1, `offset` to 0, without `round` nothing is rounded; what is not a number stays |
//!
//! Names on the way to a field are separated by dots; an array on the way stands for each of its elements (not so
//! an array in an array). A field that
//! is not there is no error. More than 49,152 fields and elements in what has to be opened are rejected. What no entry
//! touches stays as it was, in its order and to the last digit. An empty payload
//! (which clears a retained message) has no fields. A topic that a client's name or a captured level would make invalid
//! is rejected.

mod operation;
mod rule;

use nervewire_plugin_parts::compile_each;
use nervewire_plugin_sdk::{export, prelude::*};
use rule::{RewriteRule, RuleConfig};

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
}

/// The plugin: an ordered list of rules.
#[derive(Debug)]
pub struct Rewrite {
    rules: Vec<RewriteRule>,
}

impl Plugin for Rewrite {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        Ok(Self {
            rules: compile_each("config.rules", config.rules, RewriteRule::compile)?,
        })
    }
}

impl Transform for Rewrite {
    fn transform(&mut self, client: &Client, message: Message) -> Transformation {
        match self.rules.iter().find(|rule| rule.matches(&message.topic)) {
            Some(rule) => rule.apply(client, message),
            None => Transformation::Pass,
        }
    }
}

export!(Rewrite: transform);

#[cfg(test)]
mod tests;
