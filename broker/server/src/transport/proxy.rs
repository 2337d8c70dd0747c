//! The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt): who a client is that came through a proxy.
//!
//! Only addresses and ports come out of it, never text: no byte of a header reaches a log, a plugin or another protocol.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest header that is taken: of version 2 with what proxies say about TLS. Version 1 ends within 107 bytes.
pub(crate) const HEADER_BYTES: usize = 4_096;
const V1_BYTES: usize = 107;
const V1_START: &[u8] = b"PROXY ";
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_BYTES: usize = 16;
const CRC32C_TYPE: u8 = 0x03;

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// How many bytes it has.
    pub(crate) len: usize,
    /// The client; `None`: the proxy speaks for itself, or does not know.
    pub(crate) client: Option<SocketAddr>,
}

/// What is no header: the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoHeader(pub(crate) &'static str);

/// Reads the header at the beginning of a connection; `None`: there is more to come.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    match begins(bytes, V1_START) {
        Some(true) => return parse_v1(bytes),
        Some(false) => {}
        None => return Ok(None),
    }
    match begins(bytes, V2_START) {
        Some(true) => parse_v2(bytes),
        Some(false) => Err(NoHeader("it begins with no PROXY header")),
        None => Ok(None),
    }
}

/// Whether it begins so; `None`: as far as it goes.
fn begins(bytes: &[u8], start: &[u8]) -> Option<bool> {
    match bytes.get(..start.len()) {
        Some(head) => Some(head == start),
        None => (!start.starts_with(bytes)).then_some(false),
    }
}

/// One line: `PROXY TCP4 192.0.2.1 192.0.2.2 40000 1883`, or `PROXY UNKNOWN` and anything.
fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let within = bytes.get(..V1_BYTES).unwrap_or(bytes);
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return match within.len() < V1_BYTES {
            true => Ok(None),
            false => Err(NoHeader("a line over 107 bytes")),
        };
    };
    let line = within[..end]
        .strip_suffix(b"\r")
        .ok_or(NoHeader("a line that ends without CR"))?;
    let line = std::str::from_utf8(line).map_err(|_| NoHeader("a line that is no text"))?;
    if line.contains(|c: char| c.is_ascii_control()) {
        return Err(NoHeader("a control character"));
    }
    let len = end + 1;
    let mut words = line.split(' ').skip(1);
    let client = match words.next() {
        Some("UNKNOWN") => return Ok(Some(Header { len, client: None })),
        Some("TCP4") => v1_client::<Ipv4Addr>(words),
        Some("TCP6") => v1_client::<Ipv6Addr>(words),
        _ => None,
    };
    let client = client.ok_or(NoHeader("a line that names no client"))?;
    Ok(Some(Header {
        len,
        client: Some(client),
    }))
}

/// Source, destination, their ports, and nothing else.
fn v1_client<'a, A: std::str::FromStr + Into<IpAddr>>(mut words: impl Iterator<Item = &'a str>) -> Option<SocketAddr> {
    let source: A = words.next()?.parse().ok()?;
    let _: A = words.next()?.parse().ok()?;
    let (port, _) = (v1_port(words.next()?)?, v1_port(words.next()?)?);
    words.next().is_none().then(|| client(source.into(), port))
}

/// Decimal, without sign and leading zero.
fn v1_port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn client(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address.to_canonical(), port)
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, NoHeader> {
    let Some([version_command, family, high, low]) = bytes.get(V2_START.len()..V2_HEAD_BYTES) else {
        return Ok(None);
    };
    let len = V2_HEAD_BYTES + usize::from(u16::from_be_bytes([*high, *low]));
    if version_command >> 4 != 2 {
        return Err(NoHeader("an unknown version"));
    }
    if len > HEADER_BYTES {
        return Err(NoHeader("a header over 4,096 bytes"));
    }
    let Some(header) = bytes.get(..len) else {
        return Ok(None);
    };
    let body = &header[V2_HEAD_BYTES..];
    let client = match version_command & 0x0F {
        // LOCAL: what follows says nothing, whatever it is.
        0 => return Ok(Some(Header { len, client: None })),
        1 => v2_client(*family, body)?,
        _ => return Err(NoHeader("an unknown command")),
    };
    check_tlvs(header, client.tlvs_at)?;
    Ok(Some(Header {
        len,
        client: client.address,
    }))
}

struct V2Client {
    address: Option<SocketAddr>,
    /// Where in the header the type-length-values begin.
    tlvs_at: usize,
}

fn v2_client(family: u8, body: &[u8]) -> Result<V2Client, NoHeader> {
    const SHORT: NoHeader = NoHeader("addresses that are cut off");
    let (address, len) = match family {
        // TCP over IPv4.
        0x11 => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *body.first_chunk().ok_or(SHORT)?;
            let source = Ipv4Addr::new(a, b, c, d);
            (Some(client(source.into(), u16::from_be_bytes([high, low]))), 12)
        }
        // TCP over IPv6.
        0x21 => {
            let source: [u8; 16] = *body.first_chunk().ok_or(SHORT)?;
            let [high, low] = *body.get(32..36).and_then(<[u8]>::first_chunk).ok_or(SHORT)?;
            let source = Ipv6Addr::from(source);
            (Some(client(source.into(), u16::from_be_bytes([high, low]))), 36)
        }
        // A Unix socket: the client is where the proxy is.
        0x31 if body.len() >= 216 => (None, 216),
        0x00 => (None, 0),
        _ => return Err(NoHeader("a family of addresses that is not TCP")),
    };
    Ok(V2Client {
        address,
        tlvs_at: V2_HEAD_BYTES + len,
    })
}

/// What else the proxy says, TLS facts among it, is not used; that it is whole is checked, and its checksum where it has one.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), NoHeader> {
    while at < header.len() {
        let head = header.get(at..at + 3).ok_or(NoHeader("a cut off value"))?;
        let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let value = header.get(at + 3..at + 3 + len).ok_or(NoHeader("a cut off value"))?;
        if head[0] == CRC32C_TYPE {
            let sent: [u8; 4] = value.try_into().map_err(|_| NoHeader("a checksum of another length"))?;
            let zeroed = |(position, byte): (usize, &u8)| match (at + 3..at + 7).contains(&position) {
                true => 0,
                false => *byte,
            };
            if crc32c(header.iter().enumerate().map(zeroed)) != u32::from_be_bytes(sent) {
                return Err(NoHeader("a wrong checksum"));
            }
        }
        at += 3 + len;
    }
    Ok(())
}

/// Castagnoli's, a bit at a time: once per connection of a proxy that sends it.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let step = |crc: u32, _| (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
    !bytes.fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
