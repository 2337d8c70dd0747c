//! JSON that is opened only where it is changed: everything else stays as it was written, byte for byte.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Arrays directly in arrays that a path leads through. Deeper ones are refused, because what lies in them would not be seen.
pub const MAX_NESTED_ARRAYS: u32 = 32;

/// A JSON value, opened down to where it was changed.
#[derive(Debug)]
pub enum Document<'a> {
    /// As it was written.
    Raw(&'a RawValue),
    /// A number that was computed.
    Number(serde_json::Number),
    /// A text that was computed.
    Text(String),
    /// An array that was opened.
    Array(Vec<Document<'a>>),
    /// An object that was opened.
    Object(Object<'a>),
}

/// Room for so many is made at once.
const USUAL_FIELDS: usize = 16;

/// One step on the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The field of this name. An array stands for each of its elements.
    Name(String),
    /// Any field of an object, any element of an array.
    Any,
}

/// What becomes of a value that a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays where it is.
    Keep,
    /// It goes.
    Remove,
}

/// There are more than [`MAX_NESTED_ARRAYS`] arrays in each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooDeep;

/// Names and values, in order; a name may occur more than once.
#[derive(Debug)]
pub struct Object<'a>(Vec<(Name<'a>, Document<'a>)>);

/// A field's name, borrowed where it is written without escapes: then it can be written again as it stands.
#[derive(Debug)]
struct Name<'a>(Cow<'a, str>);

impl<'a> Document<'a> {
    /// `None`: not JSON.
    pub fn parse(text: &'a str) -> Option<Self> {
        // An object is most often there to be opened, and to open it finds out whether it is one.
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => serde_json::from_str(text).ok().map(Self::Object),
            _ => serde_json::from_str(text).ok().map(Self::Raw),
        }
    }

    /// Calls `change` with each object that may have the field at the end of `path`, and that field's name. An array on
    /// the way stands for each of its elements. Ends early, with `None`, when `change` does.
    pub fn each(
        &mut self,
        path: &[String],
        change: &mut impl FnMut(&mut Object<'a>, &str) -> Option<()>,
    ) -> Option<()> {
        self.open();
        match self {
            // One level of arrays per name: how deep this goes is up to the path, not to who wrote the payload.
            Self::Array(elements) => elements.iter_mut().try_for_each(|element| {
                element.open();
                element.follow(path, change)
            }),
            _ => self.follow(path, change),
        }
    }

    fn follow(&mut self, path: &[String], change: &mut impl FnMut(&mut Object<'a>, &str) -> Option<()>) -> Option<()> {
        match (self, path) {
            (Self::Object(object), [name]) => change(object, name),
            (Self::Object(object), [name, rest @ ..]) => {
                object.fields(name).try_for_each(|field| field.each(rest, change))
            }
            _ => Some(()),
        }
    }

    /// Calls `change` with each value that the path leads to, which may be an array, too, and removes what it says.
    ///
    /// # Errors
    /// Where a value may be hidden too deep to be found.
    pub fn edit(&mut self, path: &[Step], change: &mut impl FnMut(&mut Document<'a>) -> Fate) -> Result<(), TooDeep> {
        self.edit_within(path, MAX_NESTED_ARRAYS, change).map(|_| ())
    }

    fn edit_within(
        &mut self,
        path: &[Step],
        arrays_left: u32,
        change: &mut impl FnMut(&mut Document<'a>) -> Fate,
    ) -> Result<Fate, TooDeep> {
        let [step, rest @ ..] = path else {
            return Ok(change(self));
        };
        self.open();
        match self {
            Self::Array(elements) => {
                let rest = if *step == Step::Any { rest } else { path };
                let arrays_left = arrays_left.checked_sub(1).ok_or(TooDeep)?;
                try_retain(elements, |element| element.edit_within(rest, arrays_left, change))?;
            }
            Self::Object(Object(fields)) => try_retain(fields, |(name, value)| match step {
                Step::Name(wanted) if *wanted != *name.0 => Ok(Fate::Keep),
                _ => value.edit_within(rest, MAX_NESTED_ARRAYS, change),
            })?,
            _ => {}
        }
        Ok(Fate::Keep)
    }

    /// The elements of an array; `None`: it is something else.
    pub fn elements(&mut self) -> Option<&mut Vec<Document<'a>>> {
        self.open();
        match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        }
    }

    /// What a text says, and a number or a truth value as it is written; `None`: it is something else.
    pub fn scalar(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Raw(raw) => match raw.get().as_bytes().first()? {
                b'"' => serde_json::from_str(raw.get()).ok().map(Cow::Owned),
                b'{' | b'[' | b'n' => None,
                _ => Some(Cow::Borrowed(raw.get())),
            },
            Self::Number(number) => Some(Cow::Owned(number.to_string())),
            Self::Text(text) => Some(Cow::Owned(text.clone())),
            Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Raw(raw) if raw.get() == "null")
    }

    /// Arrays and objects are split into what they hold, everything else stays as it is.
    fn open(&mut self) {
        let Self::Raw(raw) = self else { return };
        let text = raw.get();
        let opened = match text.as_bytes().first() {
            Some(b'[') => serde_json::from_str(text)
                .map(|all: Vec<&RawValue>| Self::Array(all.into_iter().map(Self::Raw).collect())),
            Some(b'{') => serde_json::from_str(text).map(Self::Object),
            _ => return,
        };
        if let Ok(opened) = opened {
            *self = opened;
        }
    }

    /// The number this is; `None`: it is something else.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Raw(raw) => serde_json::from_str(raw.get()).ok(),
            Self::Number(number) => number.as_f64(),
            Self::Text(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// `None`: JSON has no such number, it is too large. Whole numbers are written without a point.
    pub fn set_number(&mut self, number: f64) -> Option<()> {
        /// Up to here every whole number is exact.
        const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
        let number = if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
            #[allow(clippy::cast_possible_truncation)] // It was just found to fit.
            let whole = number as i64;
            serde_json::Number::from(whole)
        } else {
            serde_json::Number::from_f64(number)?
        };
        *self = Self::Number(number);
        Some(())
    }
}

impl<'a> Object<'a> {
    /// The values of this name.
    pub fn fields(&mut self, name: &str) -> impl Iterator<Item = &mut Document<'a>> {
        self.0
            .iter_mut()
            .filter(move |(known, _)| known.0 == name)
            .map(|(_, value)| value)
    }

    /// Whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(known, _)| known.0 != name);
        self.0.len() < before
    }

    /// Whether there was one. Another field that already has the new name goes.
    pub fn rename(&mut self, name: &str, to: &str) -> bool {
        if name == to || self.fields(name).next().is_none() {
            return false;
        }
        self.remove(to);
        self.0
            .iter_mut()
            .filter(|(known, _)| known.0 == name)
            .for_each(|(known, _)| known.0 = Cow::Owned(to.to_owned()));
        true
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(Name<'de>, Document<'de>)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(USUAL_FIELDS);
                while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, Document::Raw(value)));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Fields).map(Self)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(name))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(name.to_owned()))
            }
        }
        deserializer.deserialize_str(Text).map(Self)
    }
}

impl Document<'_> {
    /// The payload that it has become, which most often is about as long as the one it was made of.
    pub fn to_payload(&self, made_of: &[u8]) -> Vec<u8> {
        let mut json = String::with_capacity(made_of.len());
        // A `String` takes everything.
        let _ = self.write(&mut json);
        json.into_bytes()
    }

    fn write<W: fmt::Write>(&self, json: &mut W) -> fmt::Result {
        match self {
            Self::Raw(raw) => json.write_str(raw.get()),
            Self::Number(number) => write!(json, "{number}"),
            Self::Text(text) => write_quoted(json, text),
            Self::Array(elements) => {
                json.write_char('[')?;
                write_separated(json, elements, |json, element| element.write(json))?;
                json.write_char(']')
            }
            Self::Object(Object(fields)) => {
                json.write_char('{')?;
                write_separated(json, fields, |json, (name, value)| {
                    name.write(json)?;
                    json.write_char(':')?;
                    value.write(json)
                })?;
                json.write_char('}')
            }
        }
    }
}

impl Name<'_> {
    fn write<W: fmt::Write>(&self, json: &mut W) -> fmt::Result {
        match &self.0 {
            Cow::Borrowed(plain) => {
                json.write_char('"')?;
                json.write_str(plain)?;
                json.write_char('"')
            }
            Cow::Owned(name) => write_quoted(json, name),
        }
    }
}

impl fmt::Display for Document<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f)
    }
}

fn write_quoted<W: fmt::Write>(json: &mut W, text: &str) -> fmt::Result {
    json.write_str(&serde_json::to_string(text).map_err(|_| fmt::Error)?)
}

fn write_separated<W: fmt::Write, T>(
    json: &mut W,
    items: &[T],
    write: impl Fn(&mut W, &T) -> fmt::Result,
) -> fmt::Result {
    items.iter().enumerate().try_for_each(|(index, item)| {
        if index > 0 {
            json.write_char(',')?;
        }
        write(json, item)
    })
}

/// Removes what `fate` says, and ends early when it fails.
fn try_retain<T>(items: &mut Vec<T>, mut fate: impl FnMut(&mut T) -> Result<Fate, TooDeep>) -> Result<(), TooDeep> {
    let mut outcome = Ok(());
    items.retain_mut(|item| {
        let found = outcome.and_then(|()| fate(item));
        outcome = found.map(|_| ());
        found != Ok(Fate::Remove)
    });
    outcome
}
