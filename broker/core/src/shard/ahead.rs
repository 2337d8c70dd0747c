//! Looking ahead: a shard with many subscriptions waits for memory whenever a topic is looked up. What several PUBLISHes will need
//! is asked for at once, before the first of them is fed, so that they wait together.

use super::arriving::Arriving;
use super::{COMMON_SPACE, ConnId, Packed, Shard};
use crate::time::Millis;
use nervewire_codec::topics_ahead;

/// PUBLISHes that are prepared for at once. What they need fits into the nearest cache.
const WINDOW_MESSAGES: usize = 16;

/// Longer topics are looked up without preparation.
const MAX_TOPIC_BYTES: usize = 256;

impl Shard {
    /// Prepares for the packets at the start of `bytes`, which are to be fed next: for how many bytes of them. Nothing changes
    /// but how long the next calls take.
    pub fn look_ahead(&self, id: ConnId, bytes: &[u8]) -> usize {
        let session = self.conn(id).and_then(|conn| conn.session);
        let session = session.and_then(|session| self.sessions.get(session as usize));
        let Some(space) = session.map(|s| s.space).filter(|space| self.is_worth_preparing(*space)) else {
            return bytes.len();
        };
        let mut end = bytes.len();
        let ahead = topics_ahead(bytes)
            .take(WINDOW_MESSAGES)
            .inspect(|ahead| end = ahead.end);
        self.prepare(space, ahead.map(|ahead| ahead.topic));
        end
    }

    /// Routes messages of another shard, all of clients without a tenant.
    pub(super) fn route_packed(&mut self, now: Millis, packed: &Packed) {
        let mut ahead = packed.messages();
        for (position, content) in packed.messages().enumerate() {
            if position % WINDOW_MESSAGES == 0 && self.is_worth_preparing(COMMON_SPACE) {
                let ahead = ahead.by_ref().take(WINDOW_MESSAGES);
                self.prepare(COMMON_SPACE, ahead.map(|content| content.topic.as_str().as_bytes()));
            }
            self.route_here(now, &mut Arriving::in_place(content));
        }
    }

    fn is_worth_preparing(&self, space: u32) -> bool {
        let space = self.spaces.get(space as usize);
        space.is_some_and(|space| space.index.is_larger_than_caches())
    }

    fn prepare<'a>(&self, space: u32, topics: impl Iterator<Item = &'a [u8]>) {
        if let Some(space) = self.spaces.get(space as usize) {
            space
                .index
                .prepare(topics.filter(|topic| topic.len() <= MAX_TOPIC_BYTES));
        }
    }
}
