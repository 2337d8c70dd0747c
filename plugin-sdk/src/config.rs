//! From the JSON of a `config` table to the plugin's own type, with errors for the person who wrote the table.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_path_to_error::{Path, Segment};
use std::any::TypeId;
use std::collections::BTreeMap;

/// Parses the plugin's `config` table.
///
/// # Errors
/// Where in the table and what, in words.
pub(crate) fn parse<C: DeserializeOwned + 'static>(json: &str) -> Result<C, String> {
    // serde reads `()` from null only, but a table that is not there arrives as `{}`.
    let json = if TypeId::of::<C>() == TypeId::of::<()>() {
        refuse_keys(json)?
    } else {
        json
    };
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let config = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("{}: {}", place(error.path()), words(error.inner())))?;
    deserializer
        .end()
        .map_err(|error| format!("config: {}", words(&error)))?;
    Ok(config)
}

fn refuse_keys(json: &str) -> Result<&'static str, String> {
    let table: BTreeMap<String, IgnoredAny> =
        serde_json::from_str(json).map_err(|error| format!("config: {}", words(&error)))?;
    match table.keys().next() {
        None => Ok("null"),
        Some(key) => Err(format!(
            "config: unknown key `{key}`, this plugin takes no configuration"
        )),
    }
}

/// `config.rules, entry 2, topics`: counted from one, as people count.
fn place(path: &Path) -> String {
    path.iter().fold("config".to_owned(), |place, segment| match segment {
        Segment::Seq { index } => format!("{place}, entry {}", index + 1),
        Segment::Map { key } if place.ends_with(|last: char| last.is_ascii_digit()) => format!("{place}, {key}"),
        Segment::Map { key } => format!("{place}.{key}"),
        Segment::Enum { .. } | Segment::Unknown => place,
    })
}

/// Without the position: the JSON is the broker's, nobody has seen its lines.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Config {
        greeting: String,
        #[serde(default)]
        doors: Vec<Door>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Door {
        width_mm: u32,
    }

    fn check(json: &str, expected: Result<&str, &str>) {
        let parsed = parse::<Config>(json).map(|config| config.greeting);
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{json}");
    }

    #[test]
    fn errors_say_where_and_what() {
        check(r#"{"greeting": "hi", "doors": [{"width_mm": 900}]}"#, Ok("hi"));
        check("{}", Err("config: missing field `greeting`"));
        check(
            r#"{"greting": "hi"}"#,
            Err("config.greting: unknown field `greting`, expected `greeting` or `doors`"),
        );
        check(
            r#"{"greeting": 7}"#,
            Err("config.greeting: invalid type: integer `7`, expected a string"),
        );
        check(
            r#"{"greeting": "hi", "doors": [{"width_mm": 900}, {"width_mm": -1}]}"#,
            Err("config.doors, entry 2, width_mm: invalid value: integer `-1`, expected u32"),
        );
        check(r#"{"greeting": "hi"} x"#, Err("config: trailing characters"));
    }

    #[test]
    fn unit_takes_an_empty_table_only() {
        assert_eq!(parse::<()>("{}"), Ok(()));
        assert_eq!(
            parse::<()>(r#"{"a": 1}"#),
            Err("config: unknown key `a`, this plugin takes no configuration".to_owned())
        );
    }
}
