//! Writes a PUBLISH into a connection's output: encoded once per shape, shared by all receivers of that shape.

use super::conn::Conn;
use crate::limits::shared_payload_bytes;
use crate::message::{Content, MessageId};
use crate::outbuf::SpareBuffers;
use crate::time::Millis;
use bytes::Bytes;
use nervewire_codec::{PacketId, PublishHeader, QoS, Version, encode_publish_header, encoded_publish_len};

/// What distinguishes one receiver's copy of a message from another's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'a> {
    pub(super) message: Content<'a>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: &'a [u32],
    pub(super) dup: bool,
    /// Others are likely to get the same.
    pub(super) is_shared: bool,
}

/// Encodings of one message at one moment, by version, QoS and RETAIN.
#[derive(Debug, Default)]
pub(super) struct EncodeCache {
    of: Option<(MessageId, Millis)>,
    bytes: Vec<u8>,
    shapes: [Option<Encoded>; 12],
}

#[derive(Clone, Copy, Debug)]
struct Encoded {
    start: usize,
    end: usize,
    /// Where the packet identifier goes, counted from `start`.
    packet_id: Option<usize>,
}

impl EncodeCache {
    /// Forgets what it holds unless that is of this message: while one is routed, a receiver may be sent another first.
    fn turn_to(&mut self, message: MessageId, now: Millis) {
        if self.of != Some((message, now)) {
            self.of = Some((message, now));
            self.bytes.clear();
            self.shapes = [None; 12];
        }
    }
}

/// Whether the client accepts a packet of this size (its Maximum Packet Size).
pub(super) fn fits(conn: &Conn, shape: &Shape<'_>, now: Millis) -> bool {
    conn.max_packet_bytes == u32::MAX
        || encoded_publish_len(&header(shape, None, shape.qos_id(), now), conn.version)
            <= conn.max_packet_bytes as usize
}

/// Appends the PUBLISH to the connection's output.
pub(super) fn publish(
    conn: &mut Conn,
    shape: &Shape<'_>,
    packet_id: Option<PacketId>,
    now: Millis,
    cache: &mut EncodeCache,
    spare: &mut SpareBuffers,
) {
    if !shape.is_shared || conn.outbound_aliases.is_some() || !shape.identifiers.is_empty() || shape.dup {
        return publish_alone(conn, shape, packet_id, now, spare);
    }
    cache.turn_to(shape.message.id, now);
    let slot = usize::from(conn.version == Version::V5) * 6 + shape.qos as usize * 2 + usize::from(shape.retain);
    let encoded = match cache.shapes[slot] {
        Some(encoded) => encoded,
        None => {
            let start = cache.bytes.len();
            let header = header(shape, None, shape.qos_id(), now);
            let Ok(offset) = encode_publish_header(&header, conn.version, &mut cache.bytes) else {
                return;
            };
            append_small_payload(&mut cache.bytes, shape);
            let encoded = Encoded {
                start,
                end: cache.bytes.len(),
                packet_id: offset.map(|offset| offset - start),
            };
            cache.shapes[slot] = Some(encoded);
            encoded
        }
    };
    conn.out.append_with(spare, |out| {
        let at = out.len();
        out.extend_from_slice(&cache.bytes[encoded.start..encoded.end]);
        if let (Some(offset), Some(packet_id)) = (encoded.packet_id, packet_id) {
            out[at + offset..at + offset + 2].copy_from_slice(&packet_id.get().to_be_bytes());
        }
    });
    append_large_payload(conn, shape);
}

/// A receiver with an encoding of its own.
fn publish_alone(
    conn: &mut Conn,
    shape: &Shape<'_>,
    packet_id: Option<PacketId>,
    now: Millis,
    spare: &mut SpareBuffers,
) {
    let version = conn.version;
    let alias = conn
        .outbound_aliases
        .as_ref()
        .and_then(|aliases| aliases.alias(&shape.message.topic));
    // An alias that would make the packet too large is not used; without one it fits.
    let small = |alias: &_| {
        conn.max_packet_bytes == u32::MAX
            || encoded_publish_len(&header(shape, Some(*alias), packet_id, now), version)
                <= conn.max_packet_bytes as usize
    };
    let alias = alias.filter(small);
    let header = header(shape, alias, packet_id, now);
    let written = conn.out.append_with(spare, |out| {
        encode_publish_header(&header, version, out)?;
        append_small_payload(out, shape);
        Ok::<(), nervewire_codec::EncodeError>(())
    });
    if written.is_err() {
        return;
    }
    if let (Some((alias, false)), Some(aliases)) = (alias, &mut conn.outbound_aliases) {
        aliases.introduce(shape.message.topic, alias);
    }
    append_large_payload(conn, shape);
}

fn header<'a>(
    shape: &Shape<'a>,
    alias: Option<(u16, bool)>,
    packet_id: Option<PacketId>,
    now: Millis,
) -> PublishHeader<'a> {
    let message = &shape.message;
    PublishHeader {
        dup: shape.dup,
        qos: shape.qos,
        retain: shape.retain,
        // A known alias stands for the topic [MQTT-3.3.2-12].
        topic: if matches!(alias, Some((_, true))) {
            ""
        } else {
            message.topic.as_str()
        },
        packet_id,
        topic_alias: alias.map(|(alias, _)| alias),
        message_expiry_interval: message.seconds_left(now),
        subscription_identifiers: shape.identifiers,
        properties: message.properties.map(|p| &**p),
        payload_len: message.payload.len(),
    }
}

impl Shape<'_> {
    /// A stand-in identifier, replaced for each receiver.
    fn qos_id(&self) -> Option<PacketId> {
        (self.qos != QoS::AtMostOnce).then_some(PacketId::MIN)
    }
}

fn append_small_payload(out: &mut Vec<u8>, shape: &Shape<'_>) {
    if payload_to_share(shape).is_none() {
        out.extend_from_slice(shape.message.payload);
    }
}

fn append_large_payload(conn: &mut Conn, shape: &Shape<'_>) {
    if let Some(payload) = payload_to_share(shape) {
        conn.out.append_shared(payload.clone());
    }
}

#[inline]
fn payload_to_share<'a>(shape: &Shape<'a>) -> Option<&'a Bytes> {
    let threshold_bytes = shared_payload_bytes(shape.is_shared);
    shape
        .message
        .shared_payload
        .filter(|payload| payload.len() >= threshold_bytes)
}
