use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    head(&mut frame, 0, payload.len());
    frame[0] = first;
    frame[1] |= MASKED;
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Feeds bytes in pieces of this size; what they carry, how it ended, what we answer.
fn feed(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<End>, Vec<u8>) {
    let (mut inbound, mut outbound, mut payload) = (Inbound::default(), Outbound::default(), Vec::new());
    let mut answers = Vec::new();
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let len = inbound.take(&mut chunk, &mut outbound);
        payload.extend_from_slice(&chunk[..len]);
        answers.extend(drain(&mut outbound, b"", usize::MAX));
    }
    (payload, inbound.end(), answers)
}

/// Everything that is written where `waiting` waits, `piece` bytes at a time.
fn drain(outbound: &mut Outbound, waiting: &[u8], piece: usize) -> Vec<u8> {
    let (mut written, mut at) = (Vec::new(), 0);
    loop {
        let (before, payload) = outbound.next(waiting.len() - at);
        let all = [before, &waiting[at..at + payload]].concat();
        if all.is_empty() {
            return written;
        }
        let len = all.len().min(piece);
        written.extend_from_slice(&all[..len]);
        at += outbound.wrote(len);
    }
}

#[track_caller]
fn check(bytes: &[u8], payload: &[u8], end: Option<End>, answers: &[u8]) {
    // Large ones in small pieces only take long.
    let smallest = if bytes.len() > 10_000 { 64 } else { 1 };
    for piece in [1, 2, 3, 5, 7, 64, 1_000, 1 << 20]
        .into_iter()
        .filter(|piece| *piece >= smallest)
    {
        assert_eq!(
            feed(bytes, piece),
            (payload.to_vec(), end, answers.to_vec()),
            "in pieces of {piece}"
        );
    }
}

#[test]
fn payloads_of_all_lengths_are_unmasked_and_joined() {
    for len in [0, 1, 2, 125, 126, 127, 1_000, 65_535, 65_536, 70_000] {
        let payload: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        let bytes = [frame(0x82, &payload), frame(0x82, b"next")].concat();
        check(&bytes, &[&payload[..], b"next"].concat(), None, b"");
    }
}

#[test]
fn a_message_may_come_in_fragments_with_control_frames_between_them() {
    let bytes = [
        frame(0x02, b"one "),
        frame(0x89, b"?"),
        frame(0x00, b""),
        frame(0x8A, b"unasked"),
        frame(0x80, b"two"),
        frame(0x82, b"!"),
    ]
    .concat();
    check(&bytes, b"one two!", None, b"\x8A\x01?");
}

#[test]
fn of_several_pings_the_last_is_answered() {
    let bytes = [frame(0x89, b"a"), frame(0x89, b""), frame(0x89, &[7; 125])].concat();
    let (_, end, answers) = feed(&bytes, usize::MAX);
    assert_eq!((end, answers.len(), &answers[..3]), (None, 127, &[0x8A, 125, 7][..]));
}

#[test]
fn a_close_is_echoed_and_what_came_before_it_counts() {
    let asked = |code| Some(End::Asked(code));
    let after = frame(0x82, b"too late");
    let bytes = [frame(0x82, b"bye"), frame(0x88, b"\x03\xE8done"), after.clone()].concat();
    check(&bytes, b"bye", asked(Some(CloseCode::NORMAL)), b"\x88\x02\x03\xE8");
    check(
        &[frame(0x88, b""), after].concat(),
        b"",
        asked(None),
        b"\x88\x02\x03\xE8",
    );
    check(
        &frame(0x88, b"\x0F\xA0"),
        b"",
        asked(Some(CloseCode(4000))),
        b"\x88\x02\x0F\xA0",
    );
}

/// Whatever breaks the protocol ends it, with a code that says how, and with what came before it.
#[test]
fn what_breaks_the_protocol_closes_with_its_code() {
    let claim = |first: u8, len: u64| [&[first, 0x80 | 127][..], &len.to_be_bytes(), &MASK].concat();
    for (what, bytes, code) in [
        ("text", frame(0x81, b"hi"), 1003),
        ("the start of a text", frame(0x01, b"hi"), 1003),
        ("no mask", vec![0x82, 0x01, 0x00], 1002),
        ("no mask on a close", vec![0x88, 0x00], 1002),
        ("an extension's bit", frame(0xC2, b"hi"), 1002),
        ("another", frame(0xA2, b"hi"), 1002),
        ("the third", frame(0x92, b"hi"), 1002),
        ("an unknown kind of data", frame(0x83, b"hi"), 1002),
        ("an unknown kind of control", frame(0x8B, b"hi"), 1002),
        ("a fragment of nothing", frame(0x80, b"hi"), 1002),
        (
            "a message within a message",
            [frame(0x02, b""), frame(0x82, b"hi")].concat(),
            1002,
        ),
        ("a fragmented ping", frame(0x09, b"hi"), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        (
            "a long form of a short length",
            [&[0x82, 0x80 | 126, 0, 125][..], &MASK, &[0; 125]].concat(),
            1002,
        ),
        ("a longer form of a long length", claim(0x82, 65_535), 1002),
        ("a length of 2^63", claim(0x82, 1 << 63), 1002),
        ("a length of 2^64 - 1", claim(0x82, u64::MAX), 1002),
        ("a length of 2^63 - 1", claim(0x82, u64::MAX >> 1), 1009),
        ("a length over every packet", claim(0x82, FRAME_BYTES + 1), 1009),
        ("half a code", frame(0x88, b"\x03"), 1002),
        ("a code that nobody may send", frame(0x88, b"\x03\xED"), 1002),
        ("a code of nobody", frame(0x88, b"\x00\x00"), 1002),
        ("a reason that is no text", frame(0x88, b"\x03\xE8\xFF"), 1007),
    ] {
        let [high, low] = u16::to_be_bytes(code);
        let bytes = [frame(0x82, b"before"), bytes, frame(0x80, b"after")].concat();
        for piece in [1, 3, 1 << 20] {
            let expected = (
                b"before".to_vec(),
                Some(End::Broken(CloseCode(code))),
                vec![0x88, 2, high, low],
            );
            assert_eq!(feed(&bytes, piece), expected, "{what}, in pieces of {piece}");
        }
    }
}

/// Nothing is kept of a frame, however long it says that it is.
#[test]
fn the_longest_frame_is_taken_as_it_comes() {
    let mut bytes = vec![0x82, 0x80 | 127];
    bytes.extend_from_slice(&FRAME_BYTES.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(b"the beginning");
    check(&bytes, b"the beginning", None, b"");
}

#[test]
fn what_waits_leaves_as_one_frame_whatever_the_write_sizes() {
    for len in [1, 125, 126, 65_535, 65_536] {
        let waiting = vec![9; len];
        let mut expected = Vec::new();
        head(&mut expected, BINARY, len);
        expected.extend_from_slice(&waiting);
        for piece in [1, 2, 9, 100, usize::MAX] {
            let mut outbound = Outbound::default();
            assert!(
                drain(&mut outbound, &waiting, piece) == expected,
                "{len} bytes, {piece} at a time"
            );
            assert!(outbound.is_flushed() && outbound.before.capacity() <= 32);
        }
    }
}

#[test]
fn more_than_a_mebibyte_leaves_as_several_frames() {
    let waiting = vec![1; OUTBOUND_FRAME_BYTES + 1];
    let written = drain(&mut Outbound::default(), &waiting, usize::MAX);
    assert_eq!(written.len(), waiting.len() + 10 + 2);
    assert_eq!(written[written.len() - 3..], [0x82, 1, 1]);
}

/// A frame that was begun is finished with its own bytes, though more wait by now; then comes the answer to a ping.
#[test]
fn nothing_gets_into_a_frame_that_was_begun() {
    let mut outbound = Outbound::default();
    assert_eq!(outbound.next(3), (&[0x82, 3][..], 3));
    assert_eq!(outbound.wrote(3), 1);
    outbound.pong(b"p");
    assert!(!outbound.is_flushed());
    assert_eq!(outbound.next(100), (&[][..], 2));
    assert_eq!(outbound.wrote(2), 2);
    assert_eq!(outbound.next(98), (&[0x8A, 1, b'p', 0x82, 98][..], 98));
    assert_eq!(outbound.wrote(4), 0, "the header is cut off in its middle");
    assert_eq!(outbound.next(98), (&[98][..], 98));
    assert_eq!(outbound.wrote(99), 98);
    assert!(outbound.is_flushed());
}

#[test]
fn nothing_follows_a_close() {
    let mut outbound = Outbound::default();
    outbound.close(CloseCode::PROTOCOL);
    outbound.close(CloseCode::NORMAL);
    assert!(!outbound.is_flushed());
    assert_eq!(drain(&mut outbound, b"waiting", 3), [0x88, 2, 0x03, 0xEA]);
    assert!(outbound.is_flushed() && outbound.is_closed());
}
