//! A message on its way to one session.

use crate::message::Message;
use crate::shard::SharedKey;
use crate::store::Position;
use crate::time::Millis;
use nervewire_codec::QoS;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::Arc;

/// One copy of a message in a session's queue or in flight: what is needed to decide about it, and its body where that is in
/// memory. A million of them wait for sessions that are away, so it stays small.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    body: Option<Arc<Message>>,
    /// Its place in the order of the session; not less than that of any before it. Where it is recorded, that of its record.
    pub(crate) order: u64,
    position: u64,
    expires_at: Millis,
    /// All Subscription Identifiers, where there are several.
    identifiers: Option<Box<SmallVec<[u32; 4]>>>,
    /// It came by a shared subscription and may be given to another member.
    pub(crate) shared: Option<Arc<SharedKey>>,
    /// The one Subscription Identifier, 0: there is none.
    identifier: u32,
    bytes: u32,
    /// The lower of the message's and the subscription's QoS.
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// It may have been sent before a restart, under another identifier.
    pub(crate) may_be_known: bool,
    /// How many members of its shared subscription may not have it.
    pub(crate) refusals: u8,
}

/// Makes room for one more at the end of a queue. A long one grows by a quarter and not by its double: there may be many.
pub(crate) fn grow_slowly(queue: &mut VecDeque<Queued>) {
    const SLOWLY_GROWING_MESSAGES: usize = 64;
    let messages = queue.len();
    if messages == queue.capacity() && messages >= SLOWLY_GROWING_MESSAGES {
        queue.reserve_exact(messages / 4);
    }
}

/// No log is that long.
const NOT_STORED: u64 = u64::MAX;
const NEVER: Millis = Millis::MAX;

impl Queued {
    /// A copy that is not known to be durable.
    pub(crate) fn new(body: Arc<Message>, order: u64, qos: QoS, retain: bool) -> Self {
        let copy = Self::stored(&body, order, qos, retain);
        Self {
            body: Some(body),
            ..copy
        }
    }

    /// A copy whose record is in the log, without its body.
    pub(crate) fn stored(message: &Message, order: u64, qos: QoS, retain: bool) -> Self {
        Self {
            body: None,
            order,
            position: NOT_STORED,
            expires_at: message.expires_at.unwrap_or(NEVER),
            identifiers: None,
            identifier: 0,
            shared: None,
            bytes: u32::try_from(message.queue_bytes()).unwrap_or(u32::MAX),
            qos,
            retain,
            may_be_known: false,
            refusals: 0,
        }
    }

    /// With the Subscription Identifiers of the session that match, none of which is 0 [MQTT-3.8.2-1].
    #[inline]
    pub(crate) fn with_identifiers(mut self, identifiers: &[u32]) -> Self {
        match identifiers {
            [] => {}
            [one] => self.identifier = *one,
            several => self.identifiers = Some(Box::new(SmallVec::from_slice(several))),
        }
        self
    }

    /// Subscription Identifiers.
    pub(crate) fn identifiers(&self) -> &[u32] {
        match &self.identifiers {
            Some(several) => several,
            None if self.identifier == 0 => &[],
            None => std::slice::from_ref(&self.identifier),
        }
    }

    /// It came by a shared subscription, if any.
    pub(crate) fn by(self, shared: Option<Arc<SharedKey>>) -> Self {
        Self { shared, ..self }
    }

    /// The message, where it is in memory.
    pub(crate) fn body(&self) -> Option<&Arc<Message>> {
        self.body.as_ref()
    }

    /// Takes the message out of memory where it is durable, and answers how many bytes that were. One that may be given to another
    /// member of a shared subscription stays, so that it can be given at once.
    pub(crate) fn evict(&mut self) -> u64 {
        let goes = self.position != NOT_STORED && self.shared.is_none();
        if goes && self.body.take().is_some() {
            self.bytes()
        } else {
            0
        }
    }

    /// The message is here. Answers the bytes that were not in memory.
    pub(crate) fn bring(&mut self, message: Arc<Message>) -> u64 {
        if self.body.is_some() {
            return 0;
        }
        self.body = Some(message);
        self.bytes()
    }

    /// Bytes that are in the store alone.
    pub(crate) fn absent_bytes(&self) -> u64 {
        if self.body.is_some() { 0 } else { self.bytes() }
    }

    /// What it counts in a bound of bytes, in memory or not.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.bytes)
    }

    /// Whether the message is past its expiry.
    pub(crate) fn is_expired(&self, now: Millis) -> bool {
        self.expires_at != NEVER && self.expires_at <= now
    }

    /// Where its record is, once that is durable.
    pub(crate) fn position(&self) -> Option<Position> {
        (self.position != NOT_STORED).then_some(Position(self.position))
    }

    /// Its record is durable, or was appended again and is elsewhere now.
    pub(crate) fn place(&mut self, position: Option<Position>) {
        self.position = position.map_or(NOT_STORED, |position| position.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_kept_however_many_there_are() {
        for identifiers in [&[][..], &[7], &[7, 9], &[1, 2, 3]] {
            let queued = Queued::stored(&message(), 0, QoS::AtLeastOnce, false).with_identifiers(identifiers);
            assert_eq!(queued.identifiers(), identifiers);
        }
    }

    fn message() -> Message {
        Message {
            id: 0,
            accepted_at: 0,
            app: crate::hook::AppMessage {
                topic: nervewire_codec::Utf8String::from_static("a"),
                payload: bytes::Bytes::new(),
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: None,
            },
            expires_at: None,
            publisher: None,
            tenant: None,
            source: None,
        }
    }

    #[test]
    fn a_copy_takes_little_memory() {
        assert!(size_of::<Queued>() <= 64, "{} bytes", size_of::<Queued>());
    }
}
