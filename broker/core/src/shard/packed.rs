//! Messages for another shard, one behind the other in one buffer.
//!
//! An `Arc<Message>` for each would cost three allocations here, their release by another thread there, and would be for nothing
//! wherever nobody keeps the message. A packed message is routed from the buffer, as a PUBLISH is from the read buffer.

use crate::limits::{MAX_PACKED_BYTES, SHARED_PAYLOAD_BYTES};
use crate::message::Content;
use nervewire_codec::{QoS, Utf8Ref};
use std::sync::Arc;

/// Small messages that are not to be retained, without properties or tenant, in order.
#[derive(Clone, Debug, Default)]
pub struct Packed {
    bytes: Vec<u8>,
    messages: usize,
    /// Each as often as messages of another one come between.
    publishers: Vec<Arc<str>>,
}

/// What stands before topic and payload: message identifier, moment, flags, the lengths of both, position of the publisher.
type Header = [u8; 8 + 8 + 1 + 2 + 2 + 2];

const RETAIN: u8 = 0b100;
const HAS_PUBLISHER: u8 = 0b1000;

impl Packed {
    /// Whether a message can be packed at all.
    #[inline]
    pub(super) fn suits(message: &Content<'_>) -> bool {
        message.payload.len() < SHARED_PAYLOAD_BYTES
            && message.properties.is_none()
            && message.expires_at.is_none()
            && message.tenant.is_none()
            && message.source.is_none()
    }

    /// Whether it takes one more. The bound keeps what is routed at once below what connections' outputs can take.
    #[inline]
    pub(super) fn has_room(&self, message: &Content<'_>) -> bool {
        self.bytes.len() + size_of::<Header>() + message.topic.len() + message.payload.len() <= MAX_PACKED_BYTES
    }

    /// Appends a message that [suits](Packed::suits).
    pub(super) fn push(&mut self, message: &Content<'_>) {
        let mut flags = message.qos as u8 | if message.retain { RETAIN } else { 0 };
        if let Some(publisher) = message.publisher {
            flags |= HAS_PUBLISHER;
            if !self.publishers.last().is_some_and(|last| Arc::ptr_eq(last, publisher)) {
                self.publishers.push(publisher.clone());
            }
        }
        let publisher = self.publishers.len().saturating_sub(1);
        let mut header: Header = [0; size_of::<Header>()];
        header[..8].copy_from_slice(&message.id.to_le_bytes());
        header[8..16].copy_from_slice(&message.accepted_at.to_le_bytes());
        header[16] = flags;
        header[17..19].copy_from_slice(&(message.topic.len() as u16).to_le_bytes());
        header[19..21].copy_from_slice(&(message.payload.len() as u16).to_le_bytes());
        header[21..].copy_from_slice(&(publisher as u16).to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(message.topic.as_bytes());
        self.bytes.extend_from_slice(message.payload);
        self.messages += 1;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Each in its order.
    pub(super) fn messages(&self) -> impl Iterator<Item = Content<'_>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || self.take(&mut rest))
    }

    fn take<'a>(&'a self, rest: &mut &'a [u8]) -> Option<Content<'a>> {
        let id = u64::from_le_bytes(array(rest)?);
        let accepted_at = u64::from_le_bytes(array(rest)?);
        let [flags] = array(rest)?;
        let topic_bytes = u16::from_le_bytes(array(rest)?);
        let payload_bytes = u16::from_le_bytes(array(rest)?);
        let publisher = u16::from_le_bytes(array(rest)?);
        let topic = rest.split_off(..usize::from(topic_bytes))?;
        let payload = rest.split_off(..usize::from(payload_bytes))?;
        let publisher = self.publishers.get(usize::from(publisher));
        Some(Content {
            id,
            accepted_at,
            expires_at: None,
            topic: Utf8Ref::try_from(topic).ok()?,
            payload,
            shared_payload: None,
            qos: QoS::from_bits(flags & 0b11)?,
            retain: flags & RETAIN != 0,
            properties: None,
            publisher: publisher.filter(|_| flags & HAS_PUBLISHER != 0),
            tenant: None,
            source: None,
        })
    }
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (array, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_codec::Utf8String;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let publishers: Vec<Arc<str>> = ["a", "b", "c"].map(Arc::from).to_vec();
        let topics = ["t", "größe/1", "t"].map(|topic| Utf8String::try_from(topic).unwrap());
        let payload = [7; SHARED_PAYLOAD_BYTES - 1];
        let message = |n: usize| Content {
            id: n as u64,
            accepted_at: n as u64 * 1_000,
            expires_at: None,
            topic: topics[n % 3].borrowed(),
            payload: &payload[..n * 700],
            shared_payload: None,
            qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][n % 3],
            retain: n % 2 == 1,
            properties: None,
            publisher: (n != 1).then(|| &publishers[n / 2]),
            tenant: None,
            source: None,
        };
        let mut packed = Packed::default();
        let of = [0, 1, 2, 2, 0, 1];
        for n in of {
            assert!(Packed::suits(&message(n)) && packed.has_room(&message(n)));
            packed.push(&message(n));
        }
        assert_eq!((packed.len(), packed.publishers.len()), (6, 3));
        let out: Vec<String> = packed.messages().map(|message| format!("{message:?}")).collect();
        assert_eq!(out, of.map(|n| format!("{:?}", message(n))));
    }

    #[test]
    fn there_is_a_bound() {
        let topic = Utf8String::from_static("t");
        let message = Content {
            topic: topic.borrowed(),
            payload: &[0; 1_000],
            ..Content::default()
        };
        let mut packed = Packed::default();
        while packed.has_room(&message) {
            packed.push(&message);
        }
        assert!(packed.bytes.len() <= MAX_PACKED_BYTES && packed.bytes.len() > MAX_PACKED_BYTES - 2_000);
        assert!(!Packed::suits(&Content {
            payload: &[0; SHARED_PAYLOAD_BYTES],
            ..message
        }));
    }
}
