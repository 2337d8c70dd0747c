//! The way to values in a JSON document.

use crate::json::Step;

/// A path with `*`: `contacts.*.phone`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

impl Path {
    /// Names and `*`, separated by dots.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let step = |name: String| match name.as_str() {
            "*" => Step::Any,
            _ => Step::Name(name),
        };
        Ok(Self(parse_names(text)?.into_iter().map(step).collect()))
    }

    /// Its steps, at least one.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

/// Names, separated by dots.
///
/// # Errors
/// What to write instead.
pub fn parse_names(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<_> = text.split('.').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err(format!(
            "\"{text}\" has an empty name, write names separated by single dots"
        ));
    }
    Ok(names)
}
