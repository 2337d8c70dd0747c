//! What a shard knows of one connection.

use super::lane::Lanes;
use super::rates::Rates;
use super::{ConnId, Feed, Notice, Shard};
use crate::limits::{MAX_OUTBOUND_TOPIC_ALIASES, OUTPUT_HIGH_WATER_BYTES};
use crate::outbuf::OutBuf;
use crate::rate::Pace;
use crate::time::Millis;
use hashbrown::HashMap;
use nervewire_codec::{Packet, Utf8Ref, Utf8String, Version, encode};

/// A network connection whose CONNECT was let in.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) serial: u64,
    /// Its session; `None` before CONNACK and once it is being closed.
    pub(super) session: Option<u32>,
    pub(super) version: Version,
    pub(super) out: OutBuf,
    /// Its bytes as the shard's memory counts them.
    pub(super) counted_output: u32,
    pub(super) touched: bool,
    /// On the list of those whose output is to be written before more is routed to them.
    pub(super) full: bool,
    pub(super) closing: bool,
    /// CONNACK with success was written.
    pub(super) connected: bool,
    /// Packets that wait for the store, or for such packets.
    pub(super) lanes: Lanes,
    /// A flow of this connection waits for an answer.
    pub(super) waiting: bool,
    pub(super) connected_at: Millis,
    pub(super) last_received: Millis,
    /// One and a half keep alive intervals; 0: off.
    pub(super) keep_alive_ms: u32,
    /// Topics by alias - 1, as the client set them.
    pub(super) inbound_aliases: Vec<Option<Utf8String>>,
    pub(super) outbound_aliases: Option<Box<OutboundAliases>>,
    /// The client's Maximum Packet Size; `u32::MAX`: none, because no packet is as large.
    pub(super) max_packet_bytes: u32,
    /// The client's Receive Maximum, bounded by ours.
    pub(super) window: u16,
    pub(super) wants_problem_information: bool,
    pub(super) authentication: Option<Box<super::auth::Enhanced>>,
    pub(super) publish_bucket: Bucket,
    /// What else is bounded; `None`: nothing, which most often is so.
    pub(super) rates: Option<Box<Rates>>,
    pub(super) plugin_bucket: Bucket,
    /// It is not read before this moment.
    pub(super) paused_until: Option<Millis>,
}

/// Topic aliases towards a client: the first topics get one and keep it.
#[derive(Debug)]
pub(super) struct OutboundAliases {
    pub(super) maximum: u16,
    by_topic: HashMap<Utf8String, u16>,
}

impl OutboundAliases {
    pub(super) fn new(client_maximum: u16) -> Option<Box<Self>> {
        let maximum = client_maximum.min(MAX_OUTBOUND_TOPIC_ALIASES);
        (maximum > 0).then(|| {
            Box::new(Self {
                maximum,
                by_topic: HashMap::new(),
            })
        })
    }

    /// The alias of a topic, and whether the client knows it already.
    pub(super) fn alias(&self, topic: &str) -> Option<(u16, bool)> {
        if let Some(alias) = self.by_topic.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.by_topic.len() + 1).ok()?;
        (next <= self.maximum).then_some((next, false))
    }

    /// The packet that introduces the alias was written.
    pub(super) fn introduce(&mut self, topic: Utf8Ref<'_>, alias: u16) {
        self.by_topic.insert(topic.to_utf8_string(), alias);
    }
}

/// A token bucket that may go into debt by one request: it holds what comes back within a second. All that is kept of it is when
/// it will be full again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    full_at_ns: u64,
    pace: Pace,
}

impl Bucket {
    /// Full, with so many tokens, at most a billion; 0: no bound.
    pub(super) fn new(tokens_per_s: u32) -> Self {
        Self {
            full_at_ns: 0,
            pace: Pace::per_second(tokens_per_s),
        }
    }

    /// Takes tokens; where that leaves a debt, answers when it is paid.
    pub(super) fn take(&mut self, now: Millis, tokens: u64) -> Option<Millis> {
        if self.pace.is_unbounded() {
            return None;
        }
        self.full_at_ns = self.pace.take(self.full_at_ns, now, tokens);
        Pace::paid_at(self.full_at_ns, now)
    }
}

impl Conn {
    /// Its session may send on it now.
    pub(super) fn accepts_output(&self) -> bool {
        !self.closing && self.connected && self.session.is_some() && self.out.len() < OUTPUT_HIGH_WATER_BYTES
    }

    pub(super) fn feed(&self, now: Millis) -> Feed {
        let paused = self.paused_until.is_some_and(|until| until > now);
        if self.waiting || self.closing || paused || self.lanes.are_full() {
            Feed::Stop
        } else {
            Feed::More
        }
    }
}

impl Shard {
    pub(super) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.0 as usize)
    }

    pub(super) fn conn_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.0 as usize)
    }

    /// The connection, where it is still the one that was meant and not about to be closed.
    pub(super) fn same_conn(&mut self, id: ConnId, serial: u64) -> Option<&mut Conn> {
        self.conn_mut(id).filter(|conn| conn.serial == serial && !conn.closing)
    }

    pub(super) fn touch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        if !conn.touched {
            conn.touched = true;
            self.touched.push(id);
        }
        if !conn.full && conn.out.len() >= OUTPUT_HIGH_WATER_BYTES {
            conn.full = true;
            self.full.push(id);
        }
    }

    /// Encodes a packet into a connection's output. A packet over the client's Maximum Packet Size is not sent
    /// [MQTT-3.1.2-24]; where it is an acknowledgement its Reason String and User Properties go first [MQTT-3.2.2-19].
    pub(super) fn send(&mut self, id: ConnId, packet: &Packet) {
        let Some(conn) = self.conns.get_mut(id.0 as usize) else {
            return;
        };
        let (version, max) = (conn.version, conn.max_packet_bytes as usize);
        conn.out.append_with(&mut self.spare, |out| {
            if !encode_within(packet, version, max, out)
                && let Some(shorter) = without_diagnostics(packet)
            {
                encode_within(&shorter, version, max, out);
            }
        });
        self.touch(id);
    }

    /// A flow of this connection has its answer: the driver may go on reading.
    pub(super) fn resume(&mut self, now: Millis, id: ConnId) {
        let Some(conn) = self.conn_mut(id) else { return };
        if !std::mem::replace(&mut conn.waiting, false) {
            return;
        }
        conn.last_received = now;
        if conn.feed(now) == Feed::More {
            self.notices.push_back(Notice::Resume(id));
        }
    }

    /// Charges plugin time to a client; over its budget its socket is not read for a while.
    pub(super) fn charge(&mut self, now: Millis, id: ConnId, serial: u64, spent_ns: u64) {
        let Some(conn) = self.same_conn(id, serial) else { return };
        if let Some(until) = conn.plugin_bucket.take(now, spent_ns) {
            self.counters.paused_plugin_time += 1;
            self.pause(id, until);
        }
    }

    /// Does not read a connection before `until`.
    pub(super) fn pause(&mut self, id: ConnId, until: Millis) {
        let Some(conn) = self.conn_mut(id) else { return };
        let until = conn.paused_until.map_or(until, |earlier| earlier.max(until));
        conn.paused_until = Some(until);
        let serial = conn.serial;
        self.timers.resume(until, id, serial);
    }
}

/// Appends a packet unless it is too large; answers whether it did.
pub(super) fn encode_within(packet: &Packet, version: Version, max_bytes: usize, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let fits = encode(packet, version, out).is_ok() && out.len() - start <= max_bytes;
    if !fits {
        out.truncate(start);
    }
    fits
}

fn without_diagnostics(packet: &Packet) -> Option<Packet> {
    let mut packet = packet.clone();
    let properties = match &mut packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => &mut ack.properties,
        Packet::ConnAck(ack) => &mut ack.properties,
        Packet::SubAck(ack) => &mut ack.properties,
        Packet::UnsubAck(ack) => &mut ack.properties,
        Packet::Disconnect(disconnect) => &mut disconnect.properties,
        Packet::Auth(auth) => &mut auth.properties,
        _ => return None,
    };
    let properties = properties.as_mut()?;
    properties.reason_string = None;
    properties.user_properties.clear();
    Some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_burst_through_and_then_asks_to_wait_for_the_debt() {
        let mut bucket = Bucket::new(10);
        for _ in 0..10 {
            assert_eq!(bucket.take(0, 1), None);
        }
        assert_eq!(bucket.take(0, 1), Some(100));
        assert_eq!(bucket.take(100, 1), Some(200));
        assert_eq!(bucket.take(1_100, 1), None);
    }

    #[test]
    fn a_bucket_without_capacity_has_no_bound() {
        assert_eq!(Bucket::new(0).take(0, u64::MAX), None);
    }

    #[test]
    fn a_bucket_takes_any_number_at_any_time() {
        let mut bucket = Bucket::new(u32::MAX);
        assert_eq!(bucket.take(Millis::MAX, u64::MAX), None);
        let mut bucket = Bucket::new(1);
        assert!(bucket.take(0, u64::MAX).is_some());
        assert!(bucket.take(1, u64::MAX).is_some());
    }

    #[test]
    fn fractions_of_a_token_are_not_lost() {
        let mut bucket = Bucket::new(3);
        let (mut taken, mut paid_at) = (0, 0);
        for now in 0..=10_000 {
            while now >= paid_at {
                taken += 1;
                paid_at = bucket.take(now, 1).unwrap_or(0);
            }
        }
        // The burst, what came back in ten seconds, and the debt.
        assert_eq!(taken, 3 + 30 + 1);
    }
}
