//! The messages of one publisher that are on their way.

/// What the broker still owes the publisher for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Owed {
    #[default]
    Nothing,
    Puback,
    Pubrec,
    Pubcomp,
}

impl Owed {
    /// What a PUBLISH at `qos` is answered with.
    pub(super) fn for_qos(qos: u8) -> Self {
        match qos {
            0 => Owed::Nothing,
            1 => Owed::Puback,
            _ => Owed::Pubrec,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Subscribers that have yet to receive the message.
    receivers: u32,
    owed: Owed,
}

/// A window over consecutive sequence numbers. It moves on when its oldest message is received by everybody and
/// acknowledged.
#[derive(Debug)]
pub(super) struct Window {
    oldest: u64,
    next: u64,
    limit: u64,
    slots: Box<[Slot]>,
}

/// Sequence numbers map to the packet identifiers 1 to 65,535 in turn.
const PACKET_IDS: u64 = 65_535;

impl Window {
    /// At most `limit` messages on their way, and never more than there are packet identifiers.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, PACKET_IDS as usize);
        let slots = vec![Slot::default(); limit.next_power_of_two()].into_boxed_slice();
        Self {
            oldest: 0,
            next: 0,
            limit: limit as u64,
            slots,
        }
    }

    /// How many messages may be sent now.
    #[inline]
    pub(super) fn room(&self) -> u64 {
        self.limit - (self.next - self.oldest)
    }

    /// Messages sent so far.
    #[inline]
    pub(super) fn sent(&self) -> u64 {
        self.next
    }

    /// Messages on their way.
    pub(super) fn in_flight(&self) -> u64 {
        self.next - self.oldest
    }

    /// Takes the next sequence number for a message that `receivers` subscribers will get. There has to be room.
    #[inline]
    pub(super) fn send(&mut self, receivers: u32, owed: Owed) -> u64 {
        let sequence = self.next;
        self.next += 1;
        *self.slot(sequence) = Slot { receivers, owed };
        self.settle();
        sequence
    }

    /// The packet identifier that goes with `sequence`.
    #[inline]
    pub(super) fn packet_id(sequence: u64) -> u16 {
        (sequence % PACKET_IDS + 1) as u16
    }

    /// One more subscriber has message `sequence`.
    #[inline]
    pub(super) fn received(&mut self, sequence: u64) {
        if (self.oldest..self.next).contains(&sequence) {
            let slot = self.slot(sequence);
            slot.receivers = slot.receivers.saturating_sub(1);
            self.settle();
        }
    }

    /// The broker has answered packet `packet_id` with what was `owed`; `then` is owed from now on. False when that
    /// was not to be expected.
    #[inline]
    pub(super) fn answered(&mut self, packet_id: u16, owed: Owed, then: Owed) -> bool {
        let Some(sequence) = self.sequence_of(packet_id) else {
            return false;
        };
        let slot = self.slot(sequence);
        if slot.owed != owed {
            return false;
        }
        slot.owed = then;
        self.settle();
        true
    }

    #[inline]
    fn sequence_of(&self, packet_id: u16) -> Option<u64> {
        let position = u64::from(packet_id).checked_sub(1)?;
        let behind = (position + PACKET_IDS - self.oldest % PACKET_IDS) % PACKET_IDS;
        let sequence = self.oldest + behind;
        (sequence < self.next).then_some(sequence)
    }

    #[inline]
    fn slot(&mut self, sequence: u64) -> &mut Slot {
        let mask = self.slots.len() - 1;
        &mut self.slots[sequence as usize & mask]
    }

    #[inline]
    fn settle(&mut self) {
        while self.oldest < self.next {
            let slot = *self.slot(self.oldest);
            if slot.receivers > 0 || slot.owed != Owed::Nothing {
                break;
            }
            self.oldest += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_complete_when_everybody_has_it_and_the_broker_has_answered() {
        let mut window = Window::new(2);
        assert_eq!(window.send(2, Owed::Puback), 0);
        assert_eq!(window.send(1, Owed::Puback), 1);
        assert_eq!(window.room(), 0);
        window.received(0);
        window.received(0);
        assert_eq!(window.room(), 0);
        assert!(window.answered(1, Owed::Puback, Owed::Nothing));
        assert_eq!((window.room(), window.in_flight()), (1, 1));
        assert!(window.answered(2, Owed::Puback, Owed::Nothing));
        window.received(1);
        assert_eq!((window.room(), window.in_flight(), window.sent()), (2, 0, 2));
    }

    #[test]
    fn the_qos_2_handshake_has_an_order() {
        let mut window = Window::new(1);
        window.send(0, Owed::for_qos(2));
        assert!(!window.answered(1, Owed::Pubcomp, Owed::Nothing));
        assert!(window.answered(1, Owed::Pubrec, Owed::Pubcomp));
        assert!(!window.answered(1, Owed::Pubrec, Owed::Pubcomp));
        assert_eq!(window.room(), 0);
        assert!(window.answered(1, Owed::Pubcomp, Owed::Nothing));
        assert_eq!(window.room(), 1);
    }

    #[test]
    fn unknown_answers_are_refused() {
        let mut window = Window::new(4);
        window.send(0, Owed::Puback);
        for packet_id in [0, 2, u16::MAX] {
            assert!(!window.answered(packet_id, Owed::Puback, Owed::Nothing), "{packet_id}");
        }
    }

    #[test]
    fn packet_identifiers_wrap_without_zero() {
        let mut window = Window::new(3);
        for sequence in 0..2 * PACKET_IDS + 5 {
            assert_eq!(window.send(1, Owed::Puback), sequence);
            let packet_id = Window::packet_id(sequence);
            assert_ne!(packet_id, 0);
            window.received(sequence);
            assert!(window.answered(packet_id, Owed::Puback, Owed::Nothing), "{sequence}");
        }
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn messages_nobody_owes_anything_for_leave_the_window_at_once() {
        let mut window = Window::new(1);
        assert_eq!((window.send(0, Owed::Nothing), window.send(0, Owed::Nothing)), (0, 1));
        assert_eq!(window.room(), 1);
    }
}
