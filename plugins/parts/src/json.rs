//! JSON that is opened only where it is changed: everything else stays as it was written, byte for byte.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// Arrays directly in arrays that a path leads through. Deeper ones are refused, because what lies in them would not be seen.
pub const MAX_NESTED_ARRAYS: u32 = 32;

/// Values that are opened of one payload: fields and elements of what changes lie in, and of nothing else. In the 16 MiB that a plugin has
/// by default there is room for them and for [`MAX_TEXT_BYTES`], whatever they are.
pub const MAX_OPENED_VALUES: usize = 49_152;

/// Bytes of the texts that are computed for one payload, which grows by them.
pub const MAX_TEXT_BYTES: usize = 512 * 1024;

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

/// Why a payload cannot be changed. What is left of it then must not go on: it may hold what should have been changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not JSON, or would be none any more.
    NotJson,
    /// A path leads through more than [`MAX_NESTED_ARRAYS`] arrays in each other.
    TooDeep,
    /// More than [`MAX_OPENED_VALUES`] would have to be opened, or more than [`MAX_TEXT_BYTES`] be written.
    TooMuch,
}

/// What may still be opened and written of one payload: who sent it must not decide how much memory that takes.
#[derive(Debug)]
pub struct Room {
    values: usize,
    text_bytes: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            values: MAX_OPENED_VALUES,
            text_bytes: MAX_TEXT_BYTES,
        }
    }
}

impl Room {
    fn take_one<E: Error>(&mut self) -> Result<(), E> {
        let left = self.values.checked_sub(1);
        self.values = left.ok_or_else(|| E::custom("too many values"))?;
        Ok(())
    }
}

/// What is done with a value at the end of a path.
pub type Change<'c, 'a> = dyn FnMut(&mut Document<'a>, &mut Room) -> Result<Fate, Unreadable> + 'c;

/// Names and values, in order; a name may occur more than once.
#[derive(Debug)]
pub struct Object<'a>(Vec<(Name<'a>, Document<'a>)>);

/// A field's name, borrowed where it is written without escapes: then it can be written again as it stands.
#[derive(Debug)]
struct Name<'a>(Cow<'a, str>);

impl<'a> Document<'a> {
    /// A text that was computed.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn text(text: String, room: &mut Room) -> Result<Self, Unreadable> {
        room.text_bytes = room.text_bytes.checked_sub(text.len()).ok_or(Unreadable::TooMuch)?;
        Ok(Self::Text(text))
    }

    /// As [`Document::parse`], of a message's payload.
    ///
    /// # Errors
    /// It is not JSON, or there is no room for what lies in it.
    pub fn of_payload(payload: &'a [u8], room: &mut Room) -> Result<Self, Unreadable> {
        let text = std::str::from_utf8(payload).map_err(|_| Unreadable::NotJson)?;
        Self::parse(text, room)
    }

    /// # Errors
    /// It is not JSON, or there is no room for what lies in it.
    pub fn parse(text: &'a str, room: &mut Room) -> Result<Self, Unreadable> {
        // What has parts is most often there to be opened, and to open it finds out whether it is JSON.
        match text.trim_ascii_start().as_bytes().first() {
            Some(b'{') => read(text, Fields(room)).map(Self::Object),
            Some(b'[') => read(text, Elements(room)).map(Self::Array),
            _ => serde_json::from_str(text)
                .map(Self::Raw)
                .map_err(|_| Unreadable::NotJson),
        }
    }

    /// Calls `change` with each object that may have the field at the end of `path`, and that field's name. An array on
    /// the way stands for each of its elements.
    ///
    /// # Errors
    /// The first of `change`, and where a value may be hidden that is not found.
    pub fn each(
        &mut self,
        path: &[String],
        room: &mut Room,
        change: &mut impl FnMut(&mut Object<'a>, &str) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        self.open(room)?;
        match self {
            // One level of arrays per name: how deep this goes is up to the path, not to who wrote the payload.
            Self::Array(elements) => elements.iter_mut().try_for_each(|element| {
                element.open(room)?;
                element.follow(path, room, change)
            }),
            _ => self.follow(path, room, change),
        }
    }

    fn follow(
        &mut self,
        path: &[String],
        room: &mut Room,
        change: &mut impl FnMut(&mut Object<'a>, &str) -> Result<(), Unreadable>,
    ) -> Result<(), Unreadable> {
        match (self, path) {
            (Self::Object(object), [name]) => change(object, name),
            (Self::Object(object), [name, rest @ ..]) => {
                let mut fields = object.fields(name);
                fields.try_for_each(|field| field.each(rest, room, change))
            }
            _ => Ok(()),
        }
    }

    /// Calls `change` with each value that the path leads to, which may be an array, too, and removes what it says.
    ///
    /// # Errors
    /// The first of `change`, and where a value may be hidden that is not found.
    pub fn edit(&mut self, path: &[Step], room: &mut Room, change: &mut Change<'_, 'a>) -> Result<(), Unreadable> {
        self.edit_within(path, MAX_NESTED_ARRAYS, room, change).map(|_| ())
    }

    fn edit_within(
        &mut self,
        path: &[Step],
        arrays_left: u32,
        room: &mut Room,
        change: &mut Change<'_, 'a>,
    ) -> Result<Fate, Unreadable> {
        let [step, rest @ ..] = path else {
            return change(self, room);
        };
        self.open(room)?;
        match self {
            Self::Array(elements) => {
                let rest = if *step == Step::Any { rest } else { path };
                let arrays_left = arrays_left.checked_sub(1).ok_or(Unreadable::TooDeep)?;
                try_retain(elements, |element| element.edit_within(rest, arrays_left, room, change))?;
            }
            Self::Object(Object(fields)) => try_retain(fields, |(name, value)| match step {
                Step::Name(wanted) if *wanted != *name.0 => Ok(Fate::Keep),
                _ => value.edit_within(rest, MAX_NESTED_ARRAYS, room, change),
            })?,
            _ => {}
        }
        Ok(Fate::Keep)
    }

    /// The elements of an array; `None`: it is something else.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn elements(&mut self, room: &mut Room) -> Result<Option<&mut Vec<Document<'a>>>, Unreadable> {
        self.open(room)?;
        Ok(match self {
            Self::Array(elements) => Some(elements),
            _ => None,
        })
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
    fn open(&mut self, room: &mut Room) -> Result<(), Unreadable> {
        let Self::Raw(raw) = self else { return Ok(()) };
        let text = raw.get();
        *self = match text.as_bytes().first() {
            Some(b'[') => Self::Array(read(text, Elements(room))?),
            Some(b'{') => Self::Object(read(text, Fields(room))?),
            _ => return Ok(()),
        };
        Ok(())
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

/// The whole text. That it was skipped without an error does not mean that it can be read: only then are names looked at closely.
fn read<'de, S: DeserializeSeed<'de>>(text: &'de str, what: S) -> Result<S::Value, Unreadable> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = what.deserialize(&mut json).and_then(|read| json.end().map(|()| read));
    // What it begins with is known, so that the only wrong data is too much of it.
    read.map_err(|error| match error.is_data() {
        true => Unreadable::TooMuch,
        false => Unreadable::NotJson,
    })
}

/// Reads an object.
struct Fields<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Object<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            self.0.take_one()?;
            fields.push((name, Document::Raw(value)));
        }
        // There may be many with few fields.
        fields.shrink_to_fit();
        Ok(Object(fields))
    }
}

/// Reads an array.
struct Elements<'r>(&'r mut Room);

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<Document<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<Document<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element::<&'de RawValue>()? {
            self.0.take_one()?;
            elements.push(Document::Raw(element));
        }
        elements.shrink_to_fit();
        Ok(elements)
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

/// Removes what `fate` says.
///
/// # Errors
/// Its first; what comes behind is kept.
pub fn try_retain<T>(
    items: &mut Vec<T>,
    mut fate: impl FnMut(&mut T) -> Result<Fate, Unreadable>,
) -> Result<(), Unreadable> {
    let mut outcome = Ok(());
    items.retain_mut(|item| {
        let found = outcome.and_then(|()| fate(item));
        outcome = found.map(|_| ());
        found != Ok(Fate::Remove)
    });
    outcome
}
