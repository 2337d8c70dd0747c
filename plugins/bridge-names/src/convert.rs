//! Values: what one side says becomes what the other understands.

use nervewire_plugin_parts::{
    Path, Scale,
    json::{Document, Fate, Room},
};
use nervewire_plugin_sdk::{prelude::*, serde};
use std::collections::{BTreeMap, HashMap};

/// A conversion as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ConversionConfig {
    #[serde(default)]
    values: BTreeMap<String, Scalar>,
    factor: Option<f64>,
    offset: Option<f64>,
    round: Option<u8>,
    unit: Option<Unit>,
    unit_from: Option<String>,
}

/// A JSON value that is neither an object nor an array.
#[derive(Clone, Debug, PartialEq, Deserialize, serde::Serialize)]
#[serde(untagged, crate = "nervewire_plugin_sdk::serde")]
pub(crate) enum Scalar {
    Truth(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Unit {
    F,
}

/// A conversion as it is applied.
#[derive(Clone, Debug)]
pub(crate) enum Conversion {
    None,
    /// By what it says in lower case.
    Values(HashMap<String, Scalar>),
    Scale(Scale),
    /// From degrees Fahrenheit, where the field says so.
    UnitFrom(Path),
}

/// A value that was converted, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    json: String,
    text: String,
}

/// So many digits has a temperature that was measured.
const CELSIUS_DIGITS: u8 = 1;

impl Conversion {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: ConversionConfig) -> Result<Self, String> {
        let scales = config.factor.is_some() || config.offset.is_some() || config.round.is_some();
        match (config.values.is_empty(), scales, config.unit, config.unit_from) {
            (true, false, None, None) => Ok(Self::None),
            (false, false, None, None) => {
                let pairs = config.values.into_iter();
                Ok(Self::Values(
                    pairs.map(|(key, value)| (key.to_lowercase(), value)).collect(),
                ))
            }
            (true, true, None, None) => {
                let (factor, offset) = (config.factor.unwrap_or(1.0), config.offset.unwrap_or(0.0));
                Ok(Self::Scale(Scale::new(factor, offset, config.round)?))
            }
            (true, false, Some(Unit::F), None) => Ok(Self::Scale(fahrenheit()?)),
            (true, false, None, Some(path)) => Ok(Self::UnitFrom(Path::parse(&path)?)),
            _ => Err(
                "write one of values = { ... }, factor with offset and round, unit = \"F\" or unit_from = \"FIELD\""
                    .to_owned(),
            ),
        }
    }

    /// `None`: it says nothing that is known. `whole` is where it was found.
    pub(crate) fn of(&self, value: &Document<'_>, whole: &mut Document<'_>, room: &mut Room) -> Option<Value> {
        match self {
            Self::None => value.scalar().map(|text| Value {
                json: value.to_string(),
                text: text.into_owned(),
            }),
            Self::Values(values) => values.get(&value.scalar()?.trim().to_lowercase()).map(Value::from),
            Self::Scale(scale) => number(scale.of(value.scalar()?.trim().parse().ok()?)),
            Self::UnitFrom(path) => {
                let unit = first(whole, path, room).and_then(|unit| unit.scalar().map(|text| text.into_owned()));
                match unit.as_deref() {
                    Some("F") => Self::Scale(fahrenheit().ok()?).of(value, whole, room),
                    _ => Self::None.of(value, whole, room),
                }
            }
        }
    }
}

impl Value {
    pub(crate) fn json(&self) -> &str {
        &self.json
    }

    /// A text without its quotes.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<&Scalar> for Value {
    fn from(scalar: &Scalar) -> Self {
        let json = serde_json::to_string(scalar).unwrap_or_default();
        let text = match scalar {
            Scalar::Text(text) => text.clone(),
            _ => json.clone(),
        };
        Self { json, text }
    }
}

/// The first value that the path leads to.
pub(crate) fn first<'a>(document: &mut Document<'a>, path: &Path, room: &mut Room) -> Option<Document<'a>> {
    let mut found = None;
    let looked = document.edit(path.steps(), room, &mut |value, _| {
        if let (None, Document::Raw(raw)) = (&found, &value) {
            found = Some(Document::Raw(raw));
        }
        Ok(Fate::Keep)
    });
    looked.ok().and(found)
}

fn number(number: f64) -> Option<Value> {
    let mut written = Document::Text(String::new());
    written.set_number(number)?;
    let json = written.to_string();
    Some(Value {
        text: json.clone(),
        json,
    })
}

fn fahrenheit() -> Result<Scale, String> {
    Scale::new(5.0 / 9.0, -160.0 / 9.0, Some(CELSIUS_DIGITS))
}
