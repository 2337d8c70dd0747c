//! A glance at the packets that are decoded next.

use super::Frame;
use crate::PacketType;

/// The topic name of a PUBLISH that lies ahead, as it stands there: nothing of it is validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicAhead<'a> {
    /// Its bytes.
    pub topic: &'a [u8],
    /// Where its packet ends.
    pub end: usize,
}

/// The topic names of the whole PUBLISH packets in `bytes`, which begin with a packet. Ends where nothing can be told; what is
/// wrong there is found by decoding.
pub fn topics_ahead(bytes: &[u8]) -> impl Iterator<Item = TopicAhead<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = bytes.get(at..)?;
            let packet = PacketType::of_first_byte(*rest.first()?)?;
            let frame = Frame::measure(rest, u32::MAX).ok()??;
            let body = rest.get(frame.header_bytes..frame.packet_bytes)?;
            at += frame.packet_bytes;
            if packet == PacketType::Publish {
                let (length, behind) = body.split_first_chunk()?;
                let topic = behind.get(..usize::from(u16::from_be_bytes(*length)))?;
                return Some(TopicAhead { topic, end: at });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(bytes: &[u8]) -> Vec<(&[u8], usize)> {
        topics_ahead(bytes).map(|ahead| (ahead.topic, ahead.end)).collect()
    }

    #[test]
    fn topics_of_whole_publishes_are_seen_until_something_is_incomplete_or_wrong() {
        let publishes = b"\x30\x05\x00\x01axx\xc0\x00\x32\x06\x00\x02bc\x00\x01";
        assert_eq!(ahead(publishes), [(&b"a"[..], 7), (b"bc", 17)]);
        assert_eq!(ahead(&publishes[..16]), [(&b"a"[..], 7)]);
        assert_eq!(ahead(b"\x30\x03\x00\x05a\x30\x03\x00\x01b"), []);
        assert_eq!(ahead(b"\x30\xff\xff\xff\xff\x01"), []);
        assert_eq!(ahead(b"\x00\x00"), []);
        assert_eq!(ahead(b"\x30\x00"), []);
        assert_eq!(ahead(b""), []);
    }
}
