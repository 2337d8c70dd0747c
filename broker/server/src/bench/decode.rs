//! Hand-written decoders for the few packets the load generator receives.

use super::encode;
use super::target::Version;

/// One whole packet at the front of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Packet type and flags.
    pub(super) first: u8,
    /// What follows the fixed header.
    pub(super) body: &'a [u8],
    /// The packet as it came, with its header.
    pub(super) bytes: &'a [u8],
}

/// What the peer sent is not MQTT as this generator understands it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("the broker sent a remaining length of more than four bytes")]
    RemainingLength,
    #[error("the broker sent a {0} that ends too early")]
    Truncated(&'static str),
    #[error("the broker sent a PUBLISH with QoS 3")]
    Qos,
    #[error("the broker sent the unknown property 0x{0:02x}")]
    Property(u8),
}

/// The first packet in `input`, or `None` while it is incomplete.
#[inline]
pub(super) fn frame(input: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let [first, rest @ ..] = input else { return Ok(None) };
    let Some((length, digits)) = variable_integer(rest)? else {
        return Ok(None);
    };
    let (start, end) = (1 + digits, 1 + digits + length);
    if input.len() < end {
        return Ok(None);
    }
    Ok(Some(Frame {
        first: *first,
        body: &input[start..end],
        bytes: &input[..end],
    }))
}

/// A value and the number of bytes it took.
#[inline]
fn variable_integer(input: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (at, byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((value, at + 1)));
        }
    }
    if input.len() >= 4 {
        Err(Malformed::RemainingLength)
    } else {
        Ok(None)
    }
}

/// A delivered message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Publish<'a> {
    pub(super) qos: u8,
    pub(super) topic: &'a [u8],
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
    pub(super) payload: &'a [u8],
}

/// Decodes a PUBLISH; its properties are skipped.
#[inline]
pub(super) fn publish<'a>(frame: &Frame<'a>, version: Version) -> Result<Publish<'a>, Malformed> {
    const WHAT: &str = "PUBLISH";
    let qos = (frame.first >> 1) & 3;
    if qos == 3 {
        return Err(Malformed::Qos);
    }
    let mut body = frame.body;
    let topic = take_string(&mut body, WHAT)?;
    let packet_id = if qos > 0 { take_u16(&mut body, WHAT)? } else { 0 };
    if version == Version::V5 {
        take_properties(&mut body, WHAT)?;
    }
    Ok(Publish {
        qos,
        topic,
        packet_id,
        payload: body,
    })
}

/// Packet identifier and reason code (0 where the packet leaves it out) of PUBACK, PUBREC, PUBREL and PUBCOMP.
#[inline]
pub(super) fn acknowledgement(frame: &Frame<'_>) -> Result<(u16, u8), Malformed> {
    let mut body = frame.body;
    let packet_id = take_u16(&mut body, "acknowledgement")?;
    Ok((packet_id, body.first().copied().unwrap_or(0)))
}

/// What a CONNACK says that binds the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connack {
    /// 0: accepted.
    pub(super) code: u8,
    /// Unacknowledged QoS 1 and 2 messages the broker takes at a time.
    pub(super) receive_maximum: u16,
    pub(super) maximum_qos: u8,
    pub(super) maximum_packet_bytes: u32,
    /// The client has to send something this often; `None` = as it asked for, never.
    pub(super) keep_alive_s: Option<u16>,
}

impl Connack {
    /// What holds where the broker says nothing.
    pub(super) const UNLIMITED: Self = Self {
        code: 0,
        receive_maximum: u16::MAX,
        maximum_qos: 2,
        maximum_packet_bytes: u32::MAX,
        keep_alive_s: None,
    };
}

/// Decodes a CONNACK.
pub(super) fn connack(frame: &Frame<'_>, version: Version) -> Result<Connack, Malformed> {
    const WHAT: &str = "CONNACK";
    let mut body = frame.body;
    let [_, code] = take_u16(&mut body, WHAT)?.to_be_bytes();
    let mut connack = Connack {
        code,
        ..Connack::UNLIMITED
    };
    // A broker that speaks only 3.1.1 refuses MQTT 5 with the two-byte CONNACK of its own version.
    if version == Version::V5 && !body.is_empty() {
        let properties = take_properties(&mut body, WHAT)?;
        read_limits(properties, &mut connack)?;
    }
    Ok(connack)
}

fn read_limits(mut properties: &[u8], connack: &mut Connack) -> Result<(), Malformed> {
    while !properties.is_empty() {
        let (id, value) = take_property(&mut properties)?;
        match (id, value) {
            (0x13, &[high, low]) => connack.keep_alive_s = Some(u16::from_be_bytes([high, low])),
            (0x21, &[high, low]) => connack.receive_maximum = u16::from_be_bytes([high, low]),
            (0x24, &[qos]) => connack.maximum_qos = qos,
            (0x27, &[a, b, c, d]) => connack.maximum_packet_bytes = u32::from_be_bytes([a, b, c, d]),
            _ => {}
        }
    }
    Ok(())
}

/// The codes of a SUBACK, one per filter.
pub(super) fn suback<'a>(frame: &Frame<'a>, version: Version) -> Result<&'a [u8], Malformed> {
    const WHAT: &str = "SUBACK";
    let mut body = frame.body;
    take_u16(&mut body, WHAT)?;
    if version == Version::V5 {
        take_properties(&mut body, WHAT)?;
    }
    Ok(body)
}

/// The reason code of an MQTT 5 DISCONNECT.
pub(super) fn disconnect_reason(frame: &Frame<'_>) -> u8 {
    frame.body.first().copied().unwrap_or(0)
}

/// The version a client asks for in its CONNECT; the relay answers in it.
pub(super) fn connect_version(frame: &Frame<'_>) -> Result<Version, Malformed> {
    let mut body = frame.body;
    take_string(&mut body, "CONNECT")?;
    match take(&mut body, 1, "CONNECT")? {
        [5] => Ok(Version::V5),
        _ => Ok(Version::V4),
    }
}

/// Packet identifier and filters of a SUBSCRIBE; the relay reads it.
pub(super) fn subscribe<'a>(frame: &Frame<'a>, version: Version) -> Result<(u16, Vec<&'a [u8]>), Malformed> {
    filters(frame, version, "SUBSCRIBE", 1)
}

/// Packet identifier and filters of an UNSUBSCRIBE; the relay reads it.
pub(super) fn unsubscribe<'a>(frame: &Frame<'a>, version: Version) -> Result<(u16, Vec<&'a [u8]>), Malformed> {
    filters(frame, version, "UNSUBSCRIBE", 0)
}

/// Packet identifier and filters, each followed by so many bytes of options.
fn filters<'a>(
    frame: &Frame<'a>,
    version: Version,
    what: &'static str,
    option_bytes: usize,
) -> Result<(u16, Vec<&'a [u8]>), Malformed> {
    let mut body = frame.body;
    let packet_id = take_u16(&mut body, what)?;
    if version == Version::V5 {
        take_properties(&mut body, what)?;
    }
    let mut filters = Vec::new();
    while !body.is_empty() {
        filters.push(take_string(&mut body, what)?);
        take(&mut body, option_bytes, what)?;
    }
    Ok((packet_id, filters))
}

#[inline]
fn take<'a>(body: &mut &'a [u8], length: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
    let (front, rest) = body.split_at_checked(length).ok_or(Malformed::Truncated(what))?;
    *body = rest;
    Ok(front)
}

#[inline]
fn take_u16(body: &mut &[u8], what: &'static str) -> Result<u16, Malformed> {
    match take(body, 2, what)? {
        &[high, low] => Ok(u16::from_be_bytes([high, low])),
        _ => Err(Malformed::Truncated(what)),
    }
}

#[inline]
fn take_string<'a>(body: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], Malformed> {
    let length = take_u16(body, what)?;
    take(body, usize::from(length), what)
}

#[inline]
fn take_properties<'a>(body: &mut &'a [u8], what: &'static str) -> Result<&'a [u8], Malformed> {
    let (length, digits) = variable_integer(body)?.ok_or(Malformed::Truncated(what))?;
    take(body, digits, what)?;
    take(body, length, what)
}

/// One property: its identifier and its value as encoded (MQTT5 2.2.2.2).
fn take_property<'a>(properties: &mut &'a [u8]) -> Result<(u8, &'a [u8]), Malformed> {
    const WHAT: &str = "property";
    let id = take(properties, 1, WHAT)?[0];
    let length = match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => 1,
        0x13 | 0x21 | 0x22 | 0x23 => 2,
        0x02 | 0x11 | 0x18 | 0x27 => 4,
        0x0B => variable_integer(properties)?.ok_or(Malformed::Truncated(WHAT))?.1,
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => string_length(properties)?,
        0x26 => {
            let name = string_length(properties)?;
            let value = properties.get(name..).ok_or(Malformed::Truncated(WHAT))?;
            name + string_length(value)?
        }
        _ => return Err(Malformed::Property(id)),
    };
    Ok((id, take(properties, length, WHAT)?))
}

fn string_length(mut input: &[u8]) -> Result<usize, Malformed> {
    Ok(2 + usize::from(take_u16(&mut input, "property")?))
}

/// The name of a packet type for messages to the user.
pub(super) fn kind_name(first: u8) -> &'static str {
    match first & 0xF0 {
        encode::CONNECT => "CONNECT",
        encode::CONNACK => "CONNACK",
        encode::PUBLISH => "PUBLISH",
        encode::PUBACK => "PUBACK",
        encode::PUBREC => "PUBREC",
        encode::PUBREL_KIND => "PUBREL",
        encode::PUBCOMP => "PUBCOMP",
        encode::SUBSCRIBE_KIND => "SUBSCRIBE",
        encode::SUBACK => "SUBACK",
        encode::UNSUBSCRIBE_KIND => "UNSUBSCRIBE",
        encode::UNSUBACK => "UNSUBACK",
        encode::PINGREQ => "PINGREQ",
        encode::PINGRESP => "PINGRESP",
        encode::DISCONNECT => "DISCONNECT",
        _ => "packet of an unexpected type",
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::Numbered;
    use super::*;

    fn whole(input: &[u8]) -> Frame<'_> {
        frame(input).unwrap().unwrap()
    }

    #[test]
    fn frames_are_cut_at_their_remaining_length() {
        let check = |input: &[u8], expected: Option<usize>| {
            assert_eq!(
                frame(input).unwrap().map(|frame| frame.bytes.len()),
                expected,
                "{input:?}"
            );
        };
        check(b"", None);
        check(b"\x30", None);
        check(b"\x30\x02a", None);
        check(b"\x30\x02ab", Some(4));
        check(b"\x30\x02abrest", Some(4));
        check(b"\xd0\x00", Some(2));
        check(b"\x30\x80\x80\x80", None);
        assert_eq!(frame(b"\x30\x80\x80\x80\x80"), Err(Malformed::RemainingLength));
    }

    #[test]
    fn publish_is_read_in_both_versions() {
        let expected = Publish {
            qos: 1,
            topic: b"t",
            packet_id: 0x0102,
            payload: b"hi",
        };
        assert_eq!(
            publish(&whole(b"\x32\x07\x00\x01t\x01\x02hi"), Version::V4),
            Ok(expected)
        );
        let with_properties = whole(b"\x34\x0a\x00\x01t\x01\x02\x02\x01\x01hi");
        let expected = Publish {
            qos: 2,
            topic: b"t",
            packet_id: 0x0102,
            payload: b"hi",
        };
        assert_eq!(publish(&with_properties, Version::V5), Ok(expected));
        assert_eq!(
            publish(&whole(b"\x36\x05\x00\x01t\x01\x02"), Version::V4),
            Err(Malformed::Qos)
        );
        assert_eq!(
            publish(&whole(b"\x30\x02\x00\x09"), Version::V4),
            Err(Malformed::Truncated("PUBLISH"))
        );
    }

    #[test]
    fn acknowledgements_carry_an_optional_reason() {
        let check = |input: &[u8], expected| assert_eq!(acknowledgement(&whole(input)), expected, "{input:?}");
        check(b"\x40\x02\x00\x07", Ok((7, 0)));
        check(b"\x40\x03\x00\x07\x87", Ok((7, 0x87)));
        check(b"\x40\x04\x00\x07\x10\x00", Ok((7, 0x10)));
        check(b"\x40\x01\x00", Err(Malformed::Truncated("acknowledgement")));
    }

    #[test]
    fn connack_limits_are_found_among_other_properties() {
        let plain = connack(&whole(b"\x20\x02\x00\x05"), Version::V4).unwrap();
        assert_eq!((plain.code, plain.receive_maximum), (5, u16::MAX));
        let properties = b"\x26\x00\x01k\x00\x01v\x21\x00\x14\x12\x00\x01i\x24\x01\x27\x00\x00\x10\x00\x13\x00\x3c";
        let mut bytes = vec![0x20, 3 + properties.len() as u8, 0, 0, properties.len() as u8];
        bytes.extend_from_slice(properties);
        let limits = connack(&whole(&bytes), Version::V5).unwrap();
        let expected = Connack {
            receive_maximum: 20,
            maximum_qos: 1,
            maximum_packet_bytes: 4096,
            keep_alive_s: Some(60),
            ..Connack::UNLIMITED
        };
        assert_eq!(limits, expected);
        assert_eq!(
            connack(&whole(b"\x20\x04\x00\x00\x01\x7f"), Version::V5),
            Err(Malformed::Property(0x7F))
        );
    }

    #[test]
    fn suback_codes_follow_the_properties() {
        assert_eq!(
            suback(&whole(b"\x90\x04\x00\x01\x00\x80"), Version::V4),
            Ok(&[0, 0x80][..])
        );
        assert_eq!(suback(&whole(b"\x90\x04\x00\x01\x00\x02"), Version::V5), Ok(&[2][..]));
    }

    #[test]
    fn what_the_encoders_write_is_read_back() {
        let none = encode::Credentials {
            username: None,
            password: None,
        };
        for version in [Version::V4, Version::V5] {
            let connect = encode::connect(version, "c", &none, encode::Session::Clean);
            assert_eq!(connect_version(&whole(&connect)), Ok(version));
            let filters = ["a/#".to_owned(), "b".to_owned()];
            let bytes = encode::subscribe(version, &filters, 1);
            assert_eq!(
                subscribe(&whole(&bytes), version),
                Ok((1, vec![&b"a/#"[..], &b"b"[..]]))
            );
            let numbered = Numbered::new("a", "/0");
            let bytes = encode::unsubscribe_numbered(version, 7, &numbered, [3].into_iter());
            assert_eq!(unsubscribe(&whole(&bytes), version), Ok((7, vec![&b"a/3"[..]])));
            let bytes = encode::unsuback(version, 7, 1);
            assert_eq!(acknowledgement(&whole(&bytes)), Ok((7, 0)));
            assert_eq!(
                connack(&whole(&encode::connack(version)), version).map(|it| it.code),
                Ok(0)
            );
            assert_eq!(
                suback(&whole(&encode::suback(version, 1, &[0, 0x80])), version),
                Ok(&[0, 0x80][..])
            );
        }
    }
}
