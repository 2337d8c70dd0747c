//! Runs of PUBLISHes of one client: where plugins take several questions at once, what was read is decoded up to the next packet of
//! another kind, asked about, and only then fed.

use super::worker::Worker;
use nervewire_codec::{PacketRef, PublishRef, Version, decode_in_place};
use nervewire_core::shard::{ConnId, Feed, MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, may_be_asked_ahead};
use smallvec::SmallVec;

/// PUBLISHes that follow one another, and where each ends in what was read.
#[derive(Default)]
struct Run<'r> {
    publishes: SmallVec<[PublishRef<'r>; MAX_BATCH_MESSAGES]>,
    ends: SmallVec<[usize; MAX_BATCH_MESSAGES]>,
}

impl<'r> Run<'r> {
    /// Takes those at the start of `bytes`. What is no such packet, or none at all, is for the caller to find.
    fn take_from(&mut self, bytes: &'r [u8], version: Version, max_packet_bytes: u32) {
        let mut end = 0;
        while self.publishes.len() < MAX_BATCH_MESSAGES
            && let Some(PacketRef::Publish(publish)) = packet(&bytes[end..], version, max_packet_bytes, &mut end)
            && may_be_asked_ahead(&publish)
            && end <= MAX_BATCH_BYTES
        {
            self.publishes.push(publish);
            self.ends.push(end);
        }
    }

    /// The one at this position, which is not taken again.
    fn publish(&mut self, position: usize) -> Option<PublishRef<'r>> {
        let publish = self.publishes.get_mut(position)?;
        let properties = publish.properties.take();
        Some(PublishRef {
            properties,
            ..publish.clone()
        })
    }
}

/// The next packet; where it ends is added to `end`.
fn packet<'r>(bytes: &'r [u8], version: Version, max_packet_bytes: u32, end: &mut usize) -> Option<PacketRef<'r>> {
    // Nothing but a PUBLISH is decoded here.
    const PUBLISH: u8 = 3;
    bytes.first().filter(|first| **first >> 4 == PUBLISH)?;
    let (packet, used) = decode_in_place(bytes, Some(version), max_packet_bytes).ok()??;
    *end += used;
    Some(packet)
}

impl Worker {
    /// Feeds a run of PUBLISHes: how many bytes they had, and whether to read on. `None`: there is no run, nothing was fed.
    pub(super) fn feed_run(
        &mut self,
        id: ConnId,
        bytes: &[u8],
        version: Version,
        max_packet_bytes: u32,
    ) -> Option<(usize, bool)> {
        let mut run = Run::default();
        run.take_from(bytes, version, max_packet_bytes);
        if run.publishes.len() < 2 {
            return None;
        }
        let mut ahead = self.shard.ask_ahead(self.now, id, &run.publishes, &mut self.plugins)?;
        let was_worth_it = !ahead.is_empty();
        let (mut position, mut fed) = (0, (0, true));
        while fed.1
            && let Some(publish) = run.publish(position)
        {
            let mut plugins = ahead.at(position, &mut self.plugins);
            let feed = self.shard.publish(self.now, id, publish, &mut plugins);
            drop(plugins);
            fed = (run.ends[position], self.goes_on(id, feed));
            position += 1;
        }
        self.shard.settle_ahead(self.now, id, &ahead);
        self.plugins.batch_is_worth_it = was_worth_it;
        Some(fed)
    }

    /// Does what a packet has left to do; answers whether the next may be fed.
    pub(super) fn goes_on(&mut self, id: ConnId, feed: Feed) -> bool {
        if self.shard.wants_attention() {
            self.run_calls();
            self.write_full();
        }
        feed == Feed::More || self.may_feed(id)
    }
}
