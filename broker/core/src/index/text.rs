//! The text of a filter, inside its place where it is short: a match then waits for one cache line less.

/// Bytes that fit beside the length and the tag.
pub(super) const MAX_SHORT_BYTES: usize = 46;

#[derive(Debug)]
pub(super) enum Text {
    Short { len: u8, bytes: [u8; MAX_SHORT_BYTES] },
    Long(Box<str>),
}

impl Text {
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            // The bytes were a string; checking that again is for those who list filters, not for a match.
            Text::Short { .. } => str::from_utf8(self.as_bytes()).unwrap_or_default(),
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
