//! Packets of one connection that leave in order, each as soon as what it waits for is durable.

use crate::limits::MAX_PENDING_ACKNOWLEDGEMENTS;
use nervewire_codec::{Packet, PacketId};
use std::collections::VecDeque;

/// What became of everything that a packet waits for.
pub(super) type Outcome = Result<(), NotStored>;

/// Why something is not to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotStored {
    /// It was not even appended, and nothing has changed.
    Refused,
    /// It was appended, and will be durable at some time.
    UnderWay,
}

/// The lanes of one connection. A connection that waits for nothing owns none.
#[derive(Debug, Default)]
pub(super) struct Lanes(Option<Box<[Lane; 2]>>);

/// First in, first out.
#[derive(Debug, Default)]
pub(super) struct Lane {
    held: VecDeque<Held>,
    /// Number of the first that is held.
    first: u64,
}

/// What a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneKind {
    /// Of what the client sent, in the order of its packets [MQTT-4.6.0-2].
    Acknowledgements,
    /// PUBLISH with QoS 1 or 2 and PUBREL [MQTT-4.6.0-1], [MQTT-4.6.0-4].
    Deliveries,
}

#[derive(Debug)]
struct Held {
    outgoing: Outgoing,
    /// `None`: not known yet.
    outcome: Option<Outcome>,
}

/// A packet to be written.
#[derive(Debug)]
pub(super) enum Outgoing {
    Packet(Packet),
    /// The message in flight under this identifier.
    Publish {
        packet_id: PacketId,
        dup: bool,
    },
}

impl Lanes {
    pub(super) fn lane(&mut self, kind: LaneKind) -> &mut Lane {
        &mut self.0.get_or_insert_default()[kind as usize]
    }

    /// Whether a packet of this kind would have to wait for others.
    pub(super) fn are_waited_for(&self, kind: LaneKind) -> bool {
        self.0
            .as_ref()
            .is_some_and(|lanes| !lanes[kind as usize].held.is_empty())
    }

    /// Whether no more packets may be made to wait: the client is not read. Deliveries count because a client can ask for the
    /// same PUBREL again and again.
    pub(super) fn are_full(&self) -> bool {
        let full = |lane: &Lane| lane.held.len() >= MAX_PENDING_ACKNOWLEDGEMENTS;
        self.0.as_deref().is_some_and(|lanes| lanes.iter().any(full))
    }
}

impl Lane {
    /// Puts a packet at the end, under the number it is settled by.
    pub(super) fn hold(&mut self, outgoing: Outgoing, outcome: Option<Outcome>) -> u64 {
        self.held.push_back(Held { outgoing, outcome });
        self.first + self.held.len() as u64 - 1
    }

    pub(super) fn settle(&mut self, number: u64, outcome: Outcome) {
        let position = number.checked_sub(self.first).map(|position| position as usize);
        if let Some(held) = position.and_then(|position| self.held.get_mut(position)) {
            held.outcome = Some(outcome);
        }
    }

    /// The first packet, once it waits for nothing.
    pub(super) fn next(&mut self) -> Option<(Outgoing, Outcome)> {
        let outcome = self.held.front()?.outcome?;
        let held = self.held.pop_front()?;
        self.first += 1;
        if self.held.is_empty() {
            self.held = VecDeque::new(); // A burst leaves no buffer behind.
        }
        Some((held.outgoing, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(lane: &mut Lane) -> Vec<(bool, bool)> {
        std::iter::from_fn(|| lane.next())
            .map(|(outgoing, outcome)| (matches!(outgoing, Outgoing::Packet(Packet::PingResp)), outcome.is_ok()))
            .collect()
    }

    #[test]
    fn whoever_is_ready_waits_for_those_before() {
        let mut lane = Lane::default();
        let first = lane.hold(Outgoing::Packet(Packet::PingReq), None);
        let second = lane.hold(Outgoing::Packet(Packet::PingResp), Some(Ok(())));
        let third = lane.hold(Outgoing::Packet(Packet::PingResp), None);
        assert_eq!(reasons(&mut lane), []);
        lane.settle(third, Err(NotStored::Refused));
        lane.settle(first, Ok(()));
        assert_eq!(reasons(&mut lane), [(false, true), (true, true), (true, false)]);
        lane.settle(second, Ok(()));
        assert!(lane.held.is_empty());
    }

    #[test]
    fn numbers_go_on_where_the_lane_was_empty() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            let number = lane.hold(Outgoing::Packet(Packet::PingResp), None);
            lane.settle(number, Ok(()));
            assert_eq!(reasons(&mut lane), [(true, true)]);
        }
    }
}
