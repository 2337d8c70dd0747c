//! What becomes of one field.

use crate::date::{Precision, coarse_date};
use crate::pseudonym::Pseudonyms;
use nervewire_plugin_parts::{
    Path,
    json::{Document, Fate, MAX_NESTED_ARRAYS, Room, Unreadable, try_retain},
    round_to_digits,
};
use nervewire_plugin_sdk::prelude::*;

/// A field as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldConfig {
    drop: Option<String>,
    hash: Option<String>,
    date: Option<String>,
    keep: Option<String>,
    round: Option<String>,
    to: Option<To>,
    characters: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum To {
    Multiple(f64),
    Precision(Precision),
}

/// A field as it is treated.
#[derive(Debug)]
pub(crate) struct Field {
    path: Path,
    treatment: Treatment,
}

#[derive(Debug)]
enum Treatment {
    Drop,
    Hash(Pseudonyms),
    Date(Precision),
    Keep { characters: usize },
    Round(Grid),
}

/// How many fields met which fate.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    dropped: u64,
    hashed: u64,
    coarsened: u64,
    unfit: u64,
}

/// The multiples of a number.
#[derive(Clone, Copy, Debug)]
struct Grid {
    step: f64,
    /// After the point, that multiples have.
    digits: u8,
}

/// What the entry of a field looks like.
const FORMS: &str = "write { drop = \"a.b\" }, { hash = \"a.b\", characters = 32 }, { date = \"a.b\", to = \"year\" }, \
                     { keep = \"a.b\", characters = 2 } or { round = \"a.b\", to = 5.0 }";

impl Field {
    /// # Errors
    /// What to write instead.
    pub(crate) fn compile(config: FieldConfig, files: &Files) -> Result<Self, String> {
        let FieldConfig {
            drop,
            hash,
            date,
            keep,
            round,
            to,
            characters,
        } = config;
        let (path, treatment) = match (drop, hash, date, keep, round, to, characters) {
            (Some(path), None, None, None, None, None, None) => (path, Treatment::Drop),
            (None, Some(path), None, None, None, None, characters) => {
                (path, Treatment::Hash(Pseudonyms::new(files, characters)?))
            }
            (None, None, Some(path), None, None, Some(To::Precision(precision)), None) => {
                (path, Treatment::Date(precision))
            }
            (None, None, None, Some(path), None, None, Some(characters)) => (path, Treatment::Keep { characters }),
            (None, None, None, None, Some(path), Some(To::Multiple(step)), None) => {
                (path, Treatment::Round(Grid::new(step)?))
            }
            _ => return Err(FORMS.to_owned()),
        };
        Ok(Self {
            path: Path::parse(&path)?,
            treatment,
        })
    }

    /// # Errors
    /// Something may be hidden where it is not found.
    pub(crate) fn apply(
        &self,
        document: &mut Document<'_>,
        room: &mut Room,
        tally: &mut Tally,
    ) -> Result<(), Unreadable> {
        document.edit(self.path.steps(), room, &mut |value, room| {
            self.treat(value, MAX_NESTED_ARRAYS, room, tally)
        })
    }

    fn treat(
        &self,
        value: &mut Document<'_>,
        arrays_left: u32,
        room: &mut Room,
        tally: &mut Tally,
    ) -> Result<Fate, Unreadable> {
        if matches!(self.treatment, Treatment::Drop) {
            tally.dropped += 1;
            return Ok(Fate::Remove);
        }
        if value.is_null() {
            return Ok(Fate::Keep);
        }
        let Some(elements) = value.elements(room)? else {
            return self.replace(value, room, tally);
        };
        let arrays_left = arrays_left.checked_sub(1).ok_or(Unreadable::TooDeep)?;
        try_retain(elements, |element| self.treat(element, arrays_left, room, tally))?;
        Ok(Fate::Keep)
    }

    /// One that cannot be replaced goes.
    fn replace(&self, value: &mut Document<'_>, room: &mut Room, tally: &mut Tally) -> Result<Fate, Unreadable> {
        let replacement = self.replacement(value, room)?;
        let counter = match (&replacement, &self.treatment) {
            (None, _) => &mut tally.unfit,
            (Some(_), Treatment::Hash(_)) => &mut tally.hashed,
            (Some(_), _) => &mut tally.coarsened,
        };
        *counter += 1;
        let Some(replacement) = replacement else {
            return Ok(Fate::Remove);
        };
        *value = replacement;
        Ok(Fate::Keep)
    }

    /// `None`: it is not what this is about.
    fn replacement<'a>(&self, value: &Document<'a>, room: &mut Room) -> Result<Option<Document<'a>>, Unreadable> {
        let text = |text: Option<String>, room| text.map(|text| Document::text(text, room)).transpose();
        match &self.treatment {
            Treatment::Drop => Ok(None),
            Treatment::Hash(pseudonyms) => text(value.scalar().map(|value| pseudonyms.of(&value)), room),
            Treatment::Date(precision) => text(value.scalar().and_then(|value| coarse_date(&value, *precision)), room),
            Treatment::Keep { characters } => {
                let kept = value.scalar().map(|value| value.chars().take(*characters).collect());
                text(kept, room)
            }
            Treatment::Round(grid) => {
                let mut rounded = Document::Text(String::new());
                let number = value
                    .number()
                    .and_then(|number| rounded.set_number(grid.nearest(number)));
                Ok(number.map(|()| rounded))
            }
        }
    }
}

impl Tally {
    pub(crate) fn changed(&self) -> bool {
        self.dropped + self.hashed + self.coarsened + self.unfit > 0
    }

    /// In the broker's metrics.
    pub(crate) fn count(&self) {
        let named = [
            ("dropped", self.dropped),
            ("hashed", self.hashed),
            ("coarsened", self.coarsened),
            ("unfit", self.unfit),
        ];
        for (name, count) in named.into_iter().filter(|(_, count)| *count > 0) {
            counters::add(name, count);
        }
    }
}

impl Grid {
    fn new(step: f64) -> Result<Self, String> {
        let whole = |digits: &u8| {
            let shifted = step * 10_f64.powi(i32::from(*digits));
            (shifted - shifted.round()).abs() < 1e-9 * shifted
        };
        match (0..=9).find(whole) {
            Some(digits) if step.is_finite() && step > 0.0 => Ok(Self { step, digits }),
            _ => Err(format!(
                "to = {step}, write a number over 0 with at most 9 digits after the point"
            )),
        }
    }

    fn nearest(self, number: f64) -> f64 {
        // Adding zero makes a negative zero an ordinary one.
        round_to_digits((number / self.step).round() * self.step, self.digits) + 0.0
    }
}
