use super::*;

fn header(len: usize, client: &str) -> Result<Option<Header>, NoHeader> {
    let client = Some(client.parse().unwrap());
    Ok(Some(Header { len, client }))
}

fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u16).to_be_bytes();
    [V2_START, &[version_command, family], &len, body].concat()
}

const TCP4: [u8; 12] = [192, 0, 2, 7, 192, 0, 2, 1, 0x9C, 0x40, 0x07, 0x5B];

/// Of every header but a whole one there is more to come, whatever follows.
#[track_caller]
fn check(header: &[u8], client: Option<&str>) {
    let client = client.map(|client| client.parse().unwrap());
    let len = header.len();
    for cut in 0..len {
        assert_eq!(parse(&header[..cut]), Ok(None), "{cut} bytes");
    }
    assert_eq!(parse(header), Ok(Some(Header { len, client })));
    let followed = [header, &[0x10, 0, b'\n', 0xFF]].concat();
    assert_eq!(parse(&followed), Ok(Some(Header { len, client })));
}

#[test]
fn version_1_names_the_client() {
    check(
        b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\r\n",
        Some("192.0.2.7:40000"),
    );
    check(b"PROXY TCP6 2001:db8::7 ::1 0 65535\r\n", Some("[2001:db8::7]:0"));
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN ffff:f::1 whatever 1\r\n", None);
    // An IPv4 address in IPv6 form is an IPv4 address.
    check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("192.0.2.7:1"));
}

#[test]
fn a_line_of_version_1_ends_within_107_bytes() {
    let line = |len: usize| [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; len - 16], b"\r\n".to_vec()].concat();
    check(&line(107), None);
    assert_eq!(parse(&line(108)), Err(NoHeader("a line over 107 bytes")));
    assert_eq!(parse(&line(108)[..106]), Ok(None));
    assert_eq!(parse(&line(108)[..107]), Err(NoHeader("a line over 107 bytes")));
}

#[test]
fn what_is_no_line_of_version_1_is_refused() {
    for line in [
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 40000\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883 1\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883 \r\n",
        "PROXY TCP4  192.0.2.7 192.0.2.1 40000 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 65536 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 +1 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 01 1883\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1  1883\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY tcp4 192.0.2.7 192.0.2.1 1 2\r\n",
        "PROXY TCP4 192.0.2.7 192.0.2.1 40000 1883\n",
        "PROXY TCP4 192.0.2.7\r192.0.2.1 40000 1883\r\n",
        "PROXY UNKNOWN \0\r\n",
        "PROXY UNKNOWN a\rb\r\n",
        "PROXY UNKNOWN \u{7f}\r\n",
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
    assert!(parse(b"PROXY UNKNOWN \xFF\r\n").is_err());
}

#[test]
fn a_connection_without_header_is_refused_at_its_first_byte_that_differs() {
    for bytes in [
        &b"\x10"[..],
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXx",
        b"PROXY\t",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\rn",
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn version_2_names_the_client() {
    check(&v2(0x21, 0x11, &TCP4), Some("192.0.2.7:40000"));
    let mut tcp6 = [0; 36];
    tcp6[..2].copy_from_slice(&[0x20, 0x01]);
    tcp6[15] = 7;
    tcp6[32..34].copy_from_slice(&[0x9C, 0x40]);
    check(&v2(0x21, 0x21, &tcp6), Some("[2001::7]:40000"));
    let mapped: [u8; 36] = std::array::from_fn(|at| match at {
        10 | 11 => 0xFF,
        12..16 => TCP4[at - 12],
        _ => 0,
    });
    check(&v2(0x21, 0x21, &mapped), Some("192.0.2.7:0"));
}

#[test]
fn the_proxy_itself_names_nobody() {
    check(&v2(0x20, 0x00, &[]), None);
    // LOCAL: the receiver has to take any body, and no fact out of it.
    check(&v2(0x20, 0x11, &TCP4), None);
    check(&v2(0x20, 0xFF, b"anything at all"), None);
    check(&v2(0x21, 0x00, &[]), None);
    check(&v2(0x21, 0x31, &[0; 216]), None);
}

#[test]
fn values_behind_the_addresses_are_left_alone_where_they_are_whole() {
    // A unique identifier, TLS facts with line breaks in them, and no operation.
    let tlvs = b"\x05\x00\x02\r\n\x20\x00\x0b\x01\0\0\0\0\x22\x00\x03a\r\n\x04\x00\x00";
    check(&v2(0x21, 0x11, &[&TCP4[..], tlvs].concat()), Some("192.0.2.7:40000"));
    for cut in 1..tlvs.len() {
        let is_boundary = [5, 19].contains(&cut);
        let parsed = parse(&v2(0x21, 0x11, &[&TCP4[..], &tlvs[..cut]].concat()));
        assert_eq!(parsed.is_ok(), is_boundary, "{cut} bytes");
    }
}

#[test]
fn a_checksum_is_checked() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xE306_9283);
    let whole = |checksum: u32| {
        let tlv = [&[0x03, 0, 4][..], &checksum.to_be_bytes()].concat();
        v2(0x21, 0x11, &[&TCP4[..], &tlv].concat())
    };
    let right = crc32c(whole(0).into_iter());
    assert_eq!(parse(&whole(right)), header(35, "192.0.2.7:40000"));
    assert_eq!(parse(&whole(right ^ 1)), Err(NoHeader("a wrong checksum")));
    assert!(parse(&v2(0x21, 0x11, &[&TCP4[..], &[0x03, 0, 1, 0]].concat())).is_err());
}

#[test]
fn what_is_no_header_of_version_2_is_refused() {
    for (what, bytes) in [
        ("version", v2(0x11, 0x11, &TCP4)),
        ("command", v2(0x22, 0x11, &TCP4)),
        ("UDP", v2(0x21, 0x12, &TCP4)),
        ("family", v2(0x21, 0x41, &TCP4)),
        ("short IPv4", v2(0x21, 0x11, &TCP4[..11])),
        ("short IPv6", v2(0x21, 0x21, &[0; 35])),
        ("short Unix", v2(0x21, 0x31, &[0; 215])),
    ] {
        assert!(parse(&bytes).is_err(), "{what}");
    }
    // Refused for what it claims, before it is there.
    let long = v2(0x21, 0x11, &[0; HEADER_BYTES]);
    assert_eq!(
        parse(&long[..V2_HEAD_BYTES]),
        Err(NoHeader("a header over 4,096 bytes"))
    );
}
