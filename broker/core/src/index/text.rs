//! The text of a filter, inside its place in the table where it is short: a match then waits for one cache line less.

/// Bytes that fit beside the length and the tag.
const MAX_SHORT_BYTES: usize = 30;

#[derive(Debug)]
pub(super) enum Text {
    Short { len: u8, bytes: [u8; MAX_SHORT_BYTES] },
    Long(Box<str>),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            // The bytes were a string; checking that again costs less than the cache line that they save.
            Text::Short { len, bytes } => str::from_utf8(&bytes[..usize::from(*len)]).unwrap_or_default(),
            Text::Long(text) => text,
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        let mut bytes = [0; MAX_SHORT_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(short) => {
                short.copy_from_slice(text.as_bytes());
                Text::Short {
                    len: text.len() as u8,
                    bytes,
                }
            }
            None => Text::Long(text.into()),
        }
    }
}
