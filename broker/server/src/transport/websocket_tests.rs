use super::*;

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

fn websocket() -> WebSocket {
    WebSocket::new(Arc::new(Rules {
        path: "/mqtt".to_owned(),
        allowed_origins: Vec::new(),
    }))
}

fn written(websocket: &mut WebSocket) -> String {
    let (bytes, _) = websocket.next(0);
    let (text, len) = (String::from_utf8_lossy(bytes).into_owned(), bytes.len());
    assert_eq!(websocket.wrote(len), 0);
    text
}

#[test]
fn a_request_and_a_frame_in_pieces_of_any_size_are_understood() {
    let bytes = [REQUEST.as_bytes(), &[0x82, 0x82, 0, 0, 0, 0, b'h', b'i']].concat();
    for piece in 1..=bytes.len() {
        let mut websocket = websocket();
        let mut payload = Vec::new();
        for chunk in bytes.chunks(piece) {
            let mut chunk = chunk.to_vec();
            let len = websocket.take(&mut chunk);
            payload.extend_from_slice(&chunk[..len]);
        }
        assert_eq!(payload, b"hi", "in pieces of {piece}");
        assert!(websocket.is_open() && websocket.end().is_none() && !websocket.is_allowed_page());
        assert!(written(&mut websocket).starts_with("HTTP/1.1 101 "));
        assert!(websocket.is_flushed());
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], piece: usize, status: u16) {
    let mut websocket = websocket();
    for chunk in bytes.chunks(piece) {
        assert_eq!(websocket.take(&mut chunk.to_vec()), 0);
    }
    let Some(Ended::Refused(refusal)) = websocket.end() else {
        panic!("{:?}", websocket.end())
    };
    assert_eq!(refusal.status, status);
    assert!(written(&mut websocket).starts_with(&format!("HTTP/1.1 {status} ")));
    assert!(websocket.is_flushed() && websocket.is_closed() && !websocket.is_open());
}

#[test]
fn a_request_has_a_bound() {
    let endless = [b"GET /mqtt HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; REQUEST_BYTES]].concat();
    for piece in [1, 100, usize::MAX] {
        check_refused(&endless, piece, 431);
    }
    let filler = REQUEST_BYTES - REQUEST.len() - "X: \r\n".len();
    let longest = REQUEST.replacen("Host", &format!("X: {}\r\nHost", "a".repeat(filler)), 1);
    assert_eq!(longest.len(), REQUEST_BYTES);
    let mut websocket = websocket();
    websocket.take(&mut longest.into_bytes());
    assert!(websocket.is_open());
}

#[test]
fn what_is_no_http_is_refused_at_once() {
    check_refused(&[0x10, 0x0C, 0x00, 0x04], 1, 400);
    check_refused(&[0x16, 0x03, 0x01], usize::MAX, 400);
    check_refused(b"\r\n\r\n", 1, 400);
    check_refused(b"GET / HTTP/1.1\r\n\r\n", usize::MAX, 404);
}

#[test]
fn nothing_is_taken_after_a_refusal() {
    check_refused(
        &[b"GET /mqtt HTTP/1.1\r\n\r\n", REQUEST.as_bytes()].concat(),
        usize::MAX,
        426,
    );
}
