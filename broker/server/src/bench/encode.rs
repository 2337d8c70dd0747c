//! Hand-written encoders for the few packets the load generator sends.
//!
//! They share nothing with the broker's codec on purpose: a mistake in that codec would otherwise cancel itself out
//! between the two ends.

use std::ops::Range;

use super::filters::Numbered;
use super::target::Version;

pub(super) const CONNECT: u8 = 0x10;
pub(super) const CONNACK: u8 = 0x20;
pub(super) const PUBLISH: u8 = 0x30;
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
/// PUBREL and SUBSCRIBE carry the reserved flags 0010 [MQTT-3.6.1-1], [MQTT-3.8.1-1].
pub(super) const PUBREL: u8 = 0x62;
/// PUBREL without its flags.
pub(super) const PUBREL_KIND: u8 = 0x60;
pub(super) const PUBCOMP: u8 = 0x70;
pub(super) const SUBSCRIBE: u8 = 0x82;
/// SUBSCRIBE without its flags.
pub(super) const SUBSCRIBE_KIND: u8 = 0x80;
pub(super) const SUBACK: u8 = 0x90;
/// UNSUBSCRIBE with its reserved flags [MQTT-3.10.1-1].
pub(super) const UNSUBSCRIBE: u8 = 0xA2;
/// UNSUBSCRIBE without its flags.
pub(super) const UNSUBSCRIBE_KIND: u8 = 0xA0;
pub(super) const UNSUBACK: u8 = 0xB0;
pub(super) const PINGREQ: u8 = 0xC0;
pub(super) const PINGRESP: u8 = 0xD0;
pub(super) const DISCONNECT: u8 = 0xE0;

/// Who connects, and with what.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
}

/// How long a client's session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    /// It is new, and ends with the connection.
    Clean,
    /// It is what is there, and stays when the connection ends.
    Durable,
}

/// CONNECT without keep alive: a loaded generator must not be taken for a dead client.
pub(super) fn connect(version: Version, client_id: &str, credentials: &Credentials, session: Session) -> Vec<u8> {
    /// Session Expiry Interval of an hour, in seconds. Without it, a session of 5.0 ends with its connection.
    const EXPIRY: [u8; 6] = [5, 0x11, 0, 0, 0x0E, 0x10];
    let mut body = Vec::new();
    string(&mut body, b"MQTT");
    body.extend_from_slice(&[version.level(), connect_flags(credentials, session), 0, 0]);
    match (version, session) {
        (Version::V5, Session::Durable) => body.extend_from_slice(&EXPIRY),
        _ => no_properties(&mut body, version),
    }
    string(&mut body, client_id.as_bytes());
    for field in [&credentials.username, &credentials.password].into_iter().flatten() {
        string(&mut body, field.as_bytes());
    }
    packet(CONNECT, &body)
}

fn connect_flags(credentials: &Credentials, session: Session) -> u8 {
    let clean = if session == Session::Clean { 0x02 } else { 0 };
    let username = if credentials.username.is_some() { 0x80 } else { 0 };
    let password = if credentials.password.is_some() { 0x40 } else { 0 };
    clean | username | password
}

/// SUBSCRIBE to all `filters` at `qos`, with packet identifier 1.
pub(super) fn subscribe(version: Version, filters: &[String], qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    no_properties(&mut body, version);
    for filter in filters {
        string(&mut body, filter.as_bytes());
        body.push(qos);
    }
    packet(SUBSCRIBE, &body)
}

/// SUBSCRIBE at `qos` to `filters` with each of `numbers`.
pub(super) fn subscribe_numbered(
    version: Version,
    packet_id: u16,
    filters: &Numbered,
    numbers: impl Iterator<Item = u64>,
    qos: u8,
) -> Vec<u8> {
    numbered(SUBSCRIBE, version, packet_id, filters, numbers, &[qos])
}

/// UNSUBSCRIBE from `filters` with each of `numbers`.
pub(super) fn unsubscribe_numbered(
    version: Version,
    packet_id: u16,
    filters: &Numbered,
    numbers: impl Iterator<Item = u64>,
) -> Vec<u8> {
    numbered(UNSUBSCRIBE, version, packet_id, filters, numbers, &[])
}

fn numbered(
    first: u8,
    version: Version,
    packet_id: u16,
    filters: &Numbered,
    numbers: impl Iterator<Item = u64>,
    options: &[u8],
) -> Vec<u8> {
    let length = (filters.text().len() as u16).to_be_bytes();
    let mut body = packet_id.to_be_bytes().to_vec();
    no_properties(&mut body, version);
    for number in numbers {
        body.extend_from_slice(&length);
        filters.append(number, &mut body);
        body.extend_from_slice(options);
    }
    packet(first, &body)
}

/// A PUBLISH encoded once, whose packet identifier and first payload bytes are patched for every message.
#[derive(Debug)]
pub(super) struct PublishTemplate {
    bytes: Vec<u8>,
    topic: Range<usize>,
    packet_id_at: Option<usize>,
    payload_at: usize,
}

impl PublishTemplate {
    /// The same for messages that the broker shall retain.
    pub(super) fn retained(version: Version, topic: &str, payload_bytes: usize) -> Self {
        const RETAIN: u8 = 0x01;
        let mut template = Self::new(version, topic, 0, payload_bytes);
        template.bytes[0] |= RETAIN;
        template
    }

    /// A template for messages of `payload_bytes` on `topic`.
    pub(super) fn new(version: Version, topic: &str, qos: u8, payload_bytes: usize) -> Self {
        let mut body = Vec::new();
        string(&mut body, topic.as_bytes());
        let packet_id_in_body = (qos > 0).then_some(body.len());
        if qos > 0 {
            body.extend_from_slice(&[0, 0]);
        }
        no_properties(&mut body, version);
        let payload_in_body = body.len();
        body.resize(payload_in_body + payload_bytes, b'x');
        let bytes = packet(PUBLISH | (qos << 1), &body);
        let header = bytes.len() - body.len();
        let topic_at = header + 2;
        Self {
            bytes,
            topic: topic_at..topic_at + topic.len(),
            packet_id_at: packet_id_in_body.map(|at| at + header),
            payload_at: payload_in_body + header,
        }
    }

    /// Size of the encoded packet.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends one message to `out`; `stamp` replaces the beginning of the payload.
    #[inline]
    pub(super) fn append(&self, out: &mut Vec<u8>, packet_id: u16, stamp: &[u8]) {
        self.append_with(out, packet_id, stamp, |_| {});
    }

    /// The same, and `write_topic` changes the topic, but not its length.
    #[inline]
    pub(super) fn append_with(
        &self,
        out: &mut Vec<u8>,
        packet_id: u16,
        stamp: &[u8],
        write_topic: impl FnOnce(&mut [u8]),
    ) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let message = &mut out[start..];
        if let Some(at) = self.packet_id_at {
            message[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        message[self.payload_at..self.payload_at + stamp.len()].copy_from_slice(stamp);
        write_topic(&mut message[self.topic.clone()]);
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in its short form, which both versions read as success [MQTT5 3.4.2.1].
pub(super) fn acknowledge(out: &mut Vec<u8>, kind: u8, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// PINGREQ.
pub(super) fn pingreq() -> [u8; 2] {
    [PINGREQ, 0]
}

/// A normal DISCONNECT.
pub(super) fn disconnect() -> [u8; 2] {
    [DISCONNECT, 0]
}

/// CONNACK of the relay: accepted, no session.
pub(super) fn connack(version: Version) -> Vec<u8> {
    let mut body = vec![0, 0];
    no_properties(&mut body, version);
    packet(CONNACK, &body)
}

/// SUBACK of the relay, with one of `codes` for each filter.
pub(super) fn suback(version: Version, packet_id: u16, codes: &[u8]) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    no_properties(&mut body, version);
    body.extend_from_slice(codes);
    packet(SUBACK, &body)
}

/// UNSUBACK of the relay, with a code for each filter where the version has them.
pub(super) fn unsuback(version: Version, packet_id: u16, filters: usize) -> Vec<u8> {
    let mut body = packet_id.to_be_bytes().to_vec();
    if version == Version::V5 {
        no_properties(&mut body, version);
        body.resize(body.len() + filters, 0);
    }
    packet(UNSUBACK, &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let digit = (rest & 0x7F) as u8;
        rest >>= 7;
        out.push(if rest > 0 { digit | 0x80 } else { digit });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// The argument check has held topics and names to what the 16 bits of the length can express.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text);
}

fn no_properties(out: &mut Vec<u8>, version: Version) {
    if version == Version::V5 {
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(username: Option<&str>, password: Option<&str>) -> Credentials {
        Credentials {
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
        }
    }

    #[test]
    fn connect_is_laid_out_as_the_specification_says() {
        let v4 = connect(Version::V4, "ab", &credentials(None, None), Session::Clean);
        assert_eq!(v4, b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ab");
        let v5 = connect(Version::V5, "a", &credentials(Some("u"), Some("p")), Session::Clean);
        assert_eq!(
            v5,
            b"\x10\x14\x00\x04MQTT\x05\xc2\x00\x00\x00\x00\x01a\x00\x01u\x00\x01p"
        );
        let durable = |version| connect(version, "a", &credentials(None, None), Session::Durable);
        assert_eq!(durable(Version::V4), b"\x10\x0d\x00\x04MQTT\x04\x00\x00\x00\x00\x01a");
        let expiry = b"\x10\x13\x00\x04MQTT\x05\x00\x00\x00\x05\x11\x00\x00\x0e\x10\x00\x01a";
        assert_eq!(durable(Version::V5), expiry);
    }

    #[test]
    fn subscribe_lists_every_filter_with_its_qos() {
        let filters = ["a/+".to_owned(), "b".to_owned()];
        assert_eq!(
            subscribe(Version::V4, &filters, 1),
            b"\x82\x0c\x00\x01\x00\x03a/+\x01\x00\x01b\x01"
        );
        assert_eq!(
            subscribe(Version::V5, &filters[1..], 2),
            b"\x82\x07\x00\x01\x00\x00\x01b\x02"
        );
    }

    #[test]
    fn numbered_filters_are_subscribed_to_and_left() {
        let filters = Numbered::new("a", "/00");
        assert_eq!(
            subscribe_numbered(Version::V4, 2, &filters, [7, 10].into_iter(), 1),
            b"\x82\x10\x00\x02\x00\x04a/07\x01\x00\x04a/10\x01"
        );
        assert_eq!(
            unsubscribe_numbered(Version::V5, 3, &filters, [7].into_iter()),
            b"\xa2\x09\x00\x03\x00\x00\x04a/07"
        );
    }

    #[test]
    fn a_topic_can_be_changed_in_its_packet() {
        let mut out = b"before".to_vec();
        PublishTemplate::retained(Version::V4, "t/0", 1).append_with(&mut out, 0, b"A", |topic| topic[2] = b'7');
        assert_eq!(out, b"before\x31\x06\x00\x03t/7A");
    }

    fn check_publish(version: Version, qos: u8, expected: &[u8]) {
        let template = PublishTemplate::new(version, "t", qos, 4);
        let mut out = Vec::new();
        template.append(&mut out, 0x0102, b"AB");
        assert_eq!(out, expected, "version {version:?} QoS {qos}");
        assert_eq!(template.len(), expected.len());
    }

    #[test]
    fn publish_template_patches_identifier_and_stamp() {
        check_publish(Version::V4, 0, b"\x30\x07\x00\x01tABxx");
        check_publish(Version::V4, 1, b"\x32\x09\x00\x01t\x01\x02ABxx");
        check_publish(Version::V5, 0, b"\x30\x08\x00\x01t\x00ABxx");
        check_publish(Version::V5, 2, b"\x34\x0a\x00\x01t\x01\x02\x00ABxx");
    }

    #[test]
    fn long_packets_have_a_long_remaining_length() {
        let template = PublishTemplate::new(Version::V4, "t", 0, 16_384);
        let mut out = Vec::new();
        template.append(&mut out, 0, b"");
        assert_eq!(&out[..4], &[0x30, 0x83, 0x80, 0x01]);
        assert_eq!(out.len(), 4 + 3 + 16_384);
    }
}
