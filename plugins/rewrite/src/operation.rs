//! One change to a JSON payload.

use crate::json::{Document, Field};
use nervewire_plugin_sdk::prelude::*;

/// A change as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperationConfig {
    rename: Option<String>,
    to: Option<String>,
    drop: Option<String>,
    scale: Option<String>,
    factor: Option<f64>,
    offset: Option<f64>,
    round: Option<u8>,
}

/// A change as it is applied.
#[derive(Debug, PartialEq)]
pub(crate) enum Operation {
    Rename { path: Vec<String>, to: String },
    Drop { path: Vec<String> },
    Scale { path: Vec<String>, scale: Scale },
}

/// A linear function of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    factor: f64,
    offset: f64,
    round: Option<u8>,
}

/// Beyond this a 64-bit number has no digits left.
const MAX_DIGITS: u8 = 15;

impl Operation {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: OperationConfig) -> Result<Self, String> {
        let scales = config.factor.is_some() || config.offset.is_some() || config.round.is_some();
        match (config.rename, config.to, config.drop, config.scale) {
            (Some(path), Some(to), None, None) if !scales => rename(&path, to),
            (None, None, Some(path), None) if !scales => Ok(Self::Drop {
                path: parse_path(&path)?,
            }),
            (None, None, None, Some(path)) => {
                let scale = Scale {
                    factor: config.factor.unwrap_or(1.0),
                    offset: config.offset.unwrap_or(0.0),
                    round: config.round.map(check_digits).transpose()?,
                };
                Ok(Self::Scale {
                    path: parse_path(&path)?,
                    scale,
                })
            }
            _ => Err(
                "write { rename = \"a.b\", to = \"c\" }, { drop = \"a.b\" } or { scale = \"a.b\", factor = 1.0, \
                      offset = 0.0, round = 2 }"
                    .to_owned(),
            ),
        }
    }

    /// Whether anything changed; `None`: a number has become too large to write.
    pub(crate) fn apply(&self, document: &mut Document<'_>) -> Option<bool> {
        let mut changed = false;
        match self {
            Self::Rename { path, to } => document.each(path, &mut |object, name| {
                changed |= object.rename(name, to);
                Some(())
            }),
            Self::Drop { path } => document.each(path, &mut |object, name| {
                changed |= object.remove(name);
                Some(())
            }),
            Self::Scale { path, scale } => document.each(path, &mut |object, name| {
                for field in object.fields(name) {
                    changed |= scale.apply(field)?;
                }
                Some(())
            }),
        }?;
        Some(changed)
    }
}

impl Scale {
    fn apply(self, field: &mut Field<'_>) -> Option<bool> {
        let Some(number) = field.number() else {
            return Some(false);
        };
        field.set_number(self.rounded(number * self.factor + self.offset))?;
        Some(true)
    }

    fn rounded(self, number: f64) -> f64 {
        let Some(digits) = self.round else { return number };
        let shift = 10_f64.powi(i32::from(digits));
        let shifted = number * shift;
        // So large that it has no digits after the point anyway.
        if shifted.is_finite() {
            shifted.round() / shift
        } else {
            number
        }
    }
}

fn rename(path: &str, to: String) -> Result<Operation, String> {
    if to.is_empty() || to.contains('.') {
        return Err(format!(
            "to = \"{to}\": a renamed field stays in its object, write its new name only"
        ));
    }
    Ok(Operation::Rename {
        path: parse_path(path)?,
        to,
    })
}

fn parse_path(text: &str) -> Result<Vec<String>, String> {
    let path: Vec<_> = text.split('.').map(str::to_owned).collect();
    if path.iter().any(String::is_empty) {
        return Err(format!(
            "\"{text}\" has an empty name, write names separated by single dots"
        ));
    }
    Ok(path)
}

fn check_digits(digits: u8) -> Result<u8, String> {
    if digits > MAX_DIGITS {
        return Err(format!("round = {digits}, write at most {MAX_DIGITS}"));
    }
    Ok(digits)
}
