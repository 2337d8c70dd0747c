//! One change to a JSON payload.

use nervewire_plugin_parts::{
    Scale,
    json::{Document, Room, Unreadable},
    parse_names,
};
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

impl Operation {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: OperationConfig) -> Result<Self, String> {
        let scales = config.factor.is_some() || config.offset.is_some() || config.round.is_some();
        match (config.rename, config.to, config.drop, config.scale) {
            (Some(path), Some(to), None, None) if !scales => rename(&path, to),
            (None, None, Some(path), None) if !scales => Ok(Self::Drop {
                path: parse_names(&path)?,
            }),
            (None, None, None, Some(path)) => {
                let scale = Scale::new(config.factor.unwrap_or(1.0), config.offset.unwrap_or(0.0), config.round)?;
                Ok(Self::Scale {
                    path: parse_names(&path)?,
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

    /// Whether anything changed.
    ///
    /// # Errors
    /// The payload cannot be looked through, or a number has become too large to write.
    pub(crate) fn apply(&self, document: &mut Document<'_>, room: &mut Room) -> Result<bool, Unreadable> {
        let mut changed = false;
        match self {
            Self::Rename { path, to } => document.each(path, room, &mut |object, name| {
                changed |= object.rename(name, to);
                Ok(())
            }),
            Self::Drop { path } => document.each(path, room, &mut |object, name| {
                changed |= object.remove(name);
                Ok(())
            }),
            Self::Scale { path, scale } => document.each(path, room, &mut |object, name| {
                for field in object.fields(name) {
                    changed |= scale_field(*scale, field)?;
                }
                Ok(())
            }),
        }?;
        Ok(changed)
    }
}

/// Whether it was a number.
fn scale_field(scale: Scale, field: &mut Document<'_>) -> Result<bool, Unreadable> {
    let Some(number) = field.number() else {
        return Ok(false);
    };
    // One that is too large to write would be no JSON.
    field.set_number(scale.of(number)).ok_or(Unreadable::NotJson)?;
    Ok(true)
}

fn rename(path: &str, to: String) -> Result<Operation, String> {
    if to.is_empty() || to.contains('.') {
        return Err(format!(
            "to = \"{to}\": a renamed field stays in its object, write its new name only"
        ));
    }
    Ok(Operation::Rename {
        path: parse_names(path)?,
        to,
    })
}
