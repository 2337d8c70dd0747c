//! Rates of a client beyond its PUBLISH packets. A client over one is read later; one that stays over it for long has to go.

use super::conn::Bucket;
use super::{ConnId, Shard};
use crate::handshake::Accepted;
use crate::limits::{RATE_PAUSE_MS, ShardConfig};
use crate::rate::SharedRate;
use crate::time::Millis;
use nervewire_codec::{PublishRef, ReasonCode};
use std::sync::Arc;

/// The rates of a connection, where any is bounded.
#[derive(Debug)]
pub(super) struct Rates {
    /// Bytes of topics and payloads that it publishes.
    bytes: Bucket,
    /// Filters that it subscribes to or unsubscribes from.
    filters: Bucket,
    /// PUBLISH packets of everybody with its user name.
    user: Option<Arc<dyn SharedRate>>,
    /// PUBLISH packets of everybody from its address.
    address: Option<Arc<dyn SharedRate>>,
    /// Since when it has been over some rate, and until when that made it wait.
    over: Option<(Millis, Millis)>,
}

impl Rates {
    pub(super) fn new(config: &ShardConfig, accepted: &Accepted, publish_rate_per_s: u32) -> Option<Box<Self>> {
        let (user, address) = (accepted.rates.user.clone(), accepted.rates.address.clone());
        let bounded = [
            publish_rate_per_s,
            config.per_client.publish_bytes_per_s,
            config.per_client.subscribe_rate_per_s,
        ];
        if user.is_none() && address.is_none() && bounded == [0; 3] {
            return None;
        }
        Some(Box::new(Self {
            bytes: Bucket::new(config.per_client.publish_bytes_per_s),
            filters: Bucket::new(config.per_client.subscribe_rate_per_s),
            user,
            address,
            over: None,
        }))
    }
}

impl Shard {
    /// A PUBLISH counts for every rate but the client's own in packets, which the caller has asked.
    pub(super) fn charge_publish(&mut self, now: Millis, id: ConnId, publish: &PublishRef<'_>, own: Option<Millis>) {
        let Some(rates) = self.conns.get_mut(id.0 as usize).and_then(|conn| conn.rates.as_mut()) else {
            return;
        };
        let bytes = (publish.topic.len() + publish.payload.len()) as u64;
        let bytes = rates.bytes.take(now, bytes);
        let user = rates.user.as_ref().and_then(|bucket| bucket.take(now, 1));
        let address = rates.address.as_ref().and_then(|bucket| bucket.take(now, 1));
        self.counters.paused_publish_bytes += u64::from(bytes.is_some());
        self.counters.paused_user_publish_rate += u64::from(user.is_some());
        self.counters.paused_address_publish_rate += u64::from(address.is_some());
        // What others owe, too, is not waited for in one piece: each looks again whether the debt is paid.
        let soon = |until: Millis| until.min(now + RATE_PAUSE_MS);
        let shared = user.max(address).map(soon);
        self.wait_for_rate(now, id, own.max(bytes).max(shared));
    }

    /// A SUBSCRIBE or UNSUBSCRIBE of so many filters.
    pub(super) fn charge_filters(&mut self, now: Millis, id: ConnId, filters: usize) {
        let Some(rates) = self.conns.get_mut(id.0 as usize).and_then(|conn| conn.rates.as_mut()) else {
            return;
        };
        let until = rates.filters.take(now, filters as u64);
        self.counters.paused_subscribe_rate += u64::from(until.is_some());
        self.wait_for_rate(now, id, until);
    }

    fn wait_for_rate(&mut self, now: Millis, id: ConnId, until: Option<Millis>) {
        let Some(until) = until else { return };
        self.pause(id, until);
        let over_ms = u64::from(self.config.per_client.over_rate_s) * 1_000;
        let Some(rates) = self.conns.get_mut(id.0 as usize).and_then(|conn| conn.rates.as_mut()) else {
            return;
        };
        // Whoever has kept its rate for a while since has begun anew.
        let goes_on = rates.over.filter(|(_, waited)| now <= *waited + RATE_PAUSE_MS);
        let since = goes_on.map_or(now, |(since, _)| since);
        rates.over = Some((since, until));
        if over_ms > 0 && now - since >= over_ms {
            self.counters.over_rate_disconnected += 1;
            self.counters.disconnects_server += 1;
            let why = "over its rate for too long";
            self.disconnect(now, id, ReasonCode::MessageRateTooHigh, Some(why));
        }
    }
}
