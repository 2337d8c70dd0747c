//! The queue of one session while the log is read.

use crate::queued::{Queued, grow_slowly};
use std::collections::{BTreeMap, VecDeque};

/// Copies of messages by their orders. Mostly they come in that order; what a checkpoint has appended again comes late.
#[derive(Debug, Default)]
pub(super) struct ReadQueue {
    in_order: VecDeque<Queued>,
    late: BTreeMap<u64, Queued>,
}

impl ReadQueue {
    /// Takes in a copy; one of the same order was the same, somewhere else.
    pub(super) fn insert(&mut self, queued: Queued) {
        let order = queued.order;
        if self.in_order.back().is_none_or(|last| last.order < order) {
            self.late.remove(&order);
            grow_slowly(&mut self.in_order);
            return self.in_order.push_back(queued);
        }
        match self.position(order).and_then(|at| self.in_order.get_mut(at)) {
            Some(known) => *known = queued,
            None => _ = self.late.insert(order, queued),
        }
    }

    /// Takes out the copy of an order.
    pub(super) fn remove(&mut self, order: u64) -> Option<Queued> {
        match self.position(order) {
            Some(at) => self.in_order.remove(at),
            None => self.late.remove(&order),
        }
    }

    /// All that is left, in order.
    pub(super) fn into_queue(self) -> VecDeque<Queued> {
        let Self { mut in_order, mut late } = self;
        if !late.is_empty() {
            let last = in_order.back().map_or(0, |last| last.order);
            let behind = late.split_off(&last);
            // What came late is mostly older than all the rest.
            let between = in_order.front().map(|first| late.split_off(&first.order));
            late.into_values().rev().for_each(|queued| in_order.push_front(queued));
            in_order.extend(behind.into_values());
            if let Some(between) = between.filter(|between| !between.is_empty()) {
                in_order.extend(between.into_values());
                in_order.make_contiguous().sort_by_key(|queued| queued.order);
            }
        }
        in_order
    }

    fn position(&self, order: u64) -> Option<usize> {
        if self.in_order.front().is_some_and(|first| first.order == order) {
            return Some(0);
        }
        self.in_order.binary_search_by_key(&order, |queued| queued.order).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hook::AppMessage;
    use crate::message::Message;
    use crate::store::Position;
    use nervewire_codec::QoS;
    use proptest::prelude::*;

    fn copy(order: u64, at: u64) -> Queued {
        let app = AppMessage {
            topic: nervewire_codec::Utf8String::from_static("t"),
            payload: bytes::Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        };
        let message = Message {
            id: 1,
            accepted_at: 0,
            app,
            expires_at: None,
            publisher: None,
            tenant: None,
            source: None,
        };
        let mut copy = Queued::stored(&message, order, QoS::AtLeastOnce, false);
        copy.place(Some(Position(at)));
        copy
    }

    proptest! {
        #[test]
        fn a_queue_holds_the_last_copy_of_each_order(steps in prop::collection::vec((0..40u64, any::<bool>()), 0..100)) {
            let (mut queue, mut expected) = (ReadQueue::default(), BTreeMap::new());
            for (at, (order, comes)) in (0..).zip(steps) {
                if comes {
                    queue.insert(copy(order, at));
                    expected.insert(order, Position(at));
                } else {
                    prop_assert_eq!(queue.remove(order).map(|copy| copy.order), expected.remove(&order).map(|_| order));
                }
            }
            let held = queue.into_queue().into_iter().map(|copy| (copy.order, copy.position()));
            prop_assert!(held.eq(expected.into_iter().map(|(order, at)| (order, Some(at)))));
        }
    }
}
