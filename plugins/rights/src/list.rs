//! An access list as EMQX has it in tokens and in answers of HTTP backends, in both of its forms.

use crate::entry::{Effects, Entry};
use crate::is_delivery;
use nervewire_plugin_sdk::{Client, Decision, Request, Rule, counters};
use serde::Deserialize;

/// Lines of one list.
pub const MAX_ENTRIES: usize = 256;
/// Rules that a client may have in the broker, less those that deny the rest.
const MAX_RULES: usize = 1020;

/// An ordered list of lines, and what holds where none applies.
#[derive(Clone, Debug)]
pub struct AccessList {
    entries: Vec<Entry>,
    denies_the_rest: bool,
}

impl AccessList {
    /// Reads `[{"permission": "allow", "action": "publish", "topic": "t"}]`, which leaves the rest to other authorizers, or
    /// `{"pub": ["t"], "sub": [], "all": []}`, which denies it.
    ///
    /// # Errors
    /// What is not understood: a line that is skipped might have been one that denies.
    pub fn parse(json: &str) -> Result<Self, String> {
        let form: Form = serde_json::from_str(json).map_err(|error| explain(json, &error))?;
        let list = match form {
            Form::Lines(lines) => Self::of(lines.iter().map(Line::entry).collect::<Result<_, _>>()?),
            Form::Topics(topics) => Self {
                entries: topics.entries()?,
                denies_the_rest: true,
            },
        };
        if list.entries.len() > MAX_ENTRIES {
            return Err(format!(
                "an access list of {} lines, at most {MAX_ENTRIES} are taken",
                list.entries.len()
            ));
        }
        Ok(list)
    }

    /// These lines; the rest is left to others.
    pub fn of(entries: Vec<Entry>) -> Self {
        Self {
            entries,
            denies_the_rest: false,
        }
    }

    /// Nothing is allowed.
    pub fn deny_all() -> Self {
        Self {
            entries: Vec::new(),
            denies_the_rest: true,
        }
    }

    pub(crate) fn denies_the_rest(&self) -> bool {
        self.denies_the_rest
    }

    /// `None`: nothing in it applies, and the rest is left to others.
    pub(crate) fn decide(&self, client: &Client, request: &Request) -> Option<Decision> {
        let decision = self.entries.iter().find_map(|entry| entry.decide(client, request));
        let rest = (self.denies_the_rest && !is_delivery(request)).then_some(Decision::Deny);
        decision.or(rest)
    }

    pub(crate) fn topics(&self, client: &Client) -> Vec<String> {
        self.entries.iter().flat_map(|entry| entry.topics(client)).collect()
    }

    /// Appends the list as the broker's own rules. Where it would be more of them than a client may have, the rest is asked for.
    pub(crate) fn push_rules(&self, client: &Client, rules: &mut Vec<Rule>) {
        for entry in &self.entries {
            entry.push_rules(client, rules);
        }
        if rules.len() > MAX_RULES {
            rules.truncate(MAX_RULES);
            rules.extend(["#", "$SYS/#"].map(|filter| Rule::ask().publish().subscribe().topic(filter)));
            counters::add("access_lists_too_long_for_rules", 1);
        } else if self.denies_the_rest {
            let asks = self.entries.iter().any(Entry::allows_a_filter_by_its_letters);
            let rest = if asks { Rule::ask() } else { Rule::deny() };
            rules.extend(["#", "$SYS/#"].map(|filter| rest.publish().subscribe().topic(filter)));
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Lines(Vec<Line>),
    Topics(Topics),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    permission: Permission,
    action: LineAction,
    topic: String,
    qos: Option<Levels>,
    retain: Option<Retain>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Permission {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum LineAction {
    Publish,
    Subscribe,
    All,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Levels {
    One(u8),
    Many(Vec<u8>),
}

/// `true`, `false`, or as EMQX also takes it `"all"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Retain {
    Flag(bool),
    Word(String),
}

impl Line {
    fn entry(&self) -> Result<Entry, String> {
        let effects = Effects {
            allow: self.permission == Permission::Allow,
            publish: self.action != LineAction::Subscribe,
            subscribe: self.action != LineAction::Publish,
        };
        let entry = Entry::new(effects, &self.topic)?;
        let entry = match &self.qos {
            None => entry,
            Some(Levels::One(level)) => entry.qos(&[*level])?,
            Some(Levels::Many(levels)) => entry.qos(levels)?,
        };
        Ok(entry.retain(match &self.retain {
            None => None,
            Some(Retain::Flag(flag)) => Some(*flag),
            Some(Retain::Word(word)) => match word.as_str() {
                "all" => None,
                "true" => Some(true),
                "false" => Some(false),
                _ => return Err(format!("retain {word:?}, write true, false or \"all\"")),
            },
        }))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Topics {
    r#pub: Vec<String>,
    sub: Vec<String>,
    all: Vec<String>,
}

impl Topics {
    fn entries(&self) -> Result<Vec<Entry>, String> {
        let parts = [
            (&self.r#pub, true, false),
            (&self.sub, false, true),
            (&self.all, true, true),
        ];
        let mut entries = Vec::new();
        for (topics, publish, subscribe) in parts {
            let effects = Effects {
                allow: true,
                publish,
                subscribe,
            };
            for topic in topics {
                entries.push(Entry::new(effects, topic)?);
            }
        }
        Ok(entries)
    }
}

/// An untagged enum says of every flaw that no form fits; this says what is wrong with the one that was meant.
fn explain(json: &str, error: &serde_json::Error) -> String {
    let flaw = if json.trim_start().starts_with('[') {
        serde_json::from_str::<Vec<Line>>(json).err()
    } else {
        serde_json::from_str::<Topics>(json).err()
    };
    format!("not an access list: {}", flaw.as_ref().unwrap_or(error))
}
