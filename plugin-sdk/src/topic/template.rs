use super::{MAX_TOPIC_BYTES, substitutable};
use crate::Client;
use std::borrow::Cow;

/// Bytes that most topics fit into.
const USUAL_TOPIC_BYTES: usize = 64;

/// A topic or topic filter with variables in it: `dev/${client_id}/#`.
///
/// A variable may be a part of a level. Rendering is safe whatever a client calls itself: a value that is missing, empty
/// or holds a wildcard, a separator or a control character makes the whole result `None`, and so does one that
/// makes the result begin with `$`.
///
/// ```
/// use nervewire_plugin_sdk::{testing, topic::Template};
/// let template = Template::parse("dev/${client_id}/#").unwrap();
/// assert_eq!(template.for_client(&testing::client("7")).as_deref(), Some("dev/7/#"));
/// assert_eq!(template.for_client(&testing::client("+")), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    /// With which every topic begins that it could ever match.
    beginning: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(String),
}

impl Template {
    /// Splits text at its `${variables}`; which of them mean something is the caller's to check.
    ///
    /// # Errors
    /// In words: a `${` without its `}`, or nothing between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `${{` without its `}}`"))?;
            if name.is_empty() {
                return Err(format!("`{text}` has a variable without a name"));
            }
            parts.extend(literal(before));
            parts.push(Part::Variable(name.to_owned()));
            rest = tail;
        }
        parts.extend(literal(rest));
        let beginning = match parts.first() {
            Some(Part::Text(text)) => plain_beginning(text).to_owned(),
            _ => String::new(),
        };
        Ok(Self { parts, beginning })
    }

    /// Whether this topic filter of the client's matches a topic name.
    ///
    /// ```
    /// use nervewire_plugin_sdk::{testing, topic::Template};
    /// let template = Template::parse("dev/${client_id}/#").unwrap();
    /// assert!(template.matches(&testing::client("7"), "dev/7/temperature"));
    /// assert!(!template.matches(&testing::client("8"), "dev/7/temperature"));
    /// ```
    pub fn matches(&self, client: &Client, topic: &str) -> bool {
        // Most filters that do not match begin otherwise, and need not be rendered to see that.
        topic.starts_with(&self.beginning)
            && self
                .for_client(client)
                .is_some_and(|filter| super::matches(&filter, topic))
    }

    /// The names of its variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// With `client_id`, `username` and `attr.NAME` taken from the client, each of them [`substitutable`].
    pub fn for_client<'a>(&'a self, client: &'a Client) -> Option<Cow<'a, str>> {
        self.render(|name| client_value(client, name))
    }

    /// With what `value` says for each variable, which must be safe to put into a topic. `None` where it has no value,
    /// where the result would begin with a `$` that the template does not begin with, or be too long for a topic.
    pub fn render<'a>(&'a self, mut value: impl FnMut(&'a str) -> Option<&'a str>) -> Option<Cow<'a, str>> {
        let mut text = |part: &'a Part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Variable(name) => value(name),
        };
        let result = match self.parts.as_slice() {
            [whole] => Cow::Borrowed(text(whole)?),
            parts => {
                let mut result = String::with_capacity(USUAL_TOPIC_BYTES);
                for part in parts {
                    result.push_str(text(part)?);
                }
                Cow::Owned(result)
            }
        };
        let meant = matches!(self.parts.first(), Some(Part::Text(text)) if text.starts_with('$'));
        (result.len() <= MAX_TOPIC_BYTES && (meant || !result.starts_with('$'))).then_some(result)
    }

    /// Whether [`for_client`](Self::for_client) knows a variable of this name.
    pub fn is_client_variable(name: &str) -> bool {
        matches!(name, "client_id" | "username") || name.strip_prefix("attr.").is_some_and(|name| !name.is_empty())
    }
}

/// What stands before the first wildcard of a filter; the separator before a `#` is no part of what it matches.
fn plain_beginning(filter: &str) -> &str {
    let plain = filter.find(['+', '#']).map_or(filter, |wildcard| &filter[..wildcard]);
    plain.strip_suffix('/').unwrap_or(plain)
}

fn literal(text: &str) -> Option<Part> {
    (!text.is_empty()).then(|| Part::Text(text.to_owned()))
}

/// What a variable stands for: `client_id`, `username` or `attr.NAME`. `None`: the client has no such name, or it is not
/// [`substitutable`].
pub fn client_value<'a>(client: &'a Client, variable: &str) -> Option<&'a str> {
    let value = match variable {
        "client_id" => Some(client.client_id.as_str()),
        "username" => client.username.as_deref(),
        _ => client.attribute(variable.strip_prefix("attr.")?),
    };
    value.filter(|value| substitutable(value))
}
