use super::*;

fn rules() -> Rules {
    Rules {
        path: "/mqtt".to_owned(),
        allowed_origins: vec!["https://app.example.com".to_owned(), "http://localhost:8000".to_owned()],
    }
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

fn request(change: impl Fn(&str) -> String) -> Vec<u8> {
    let lines = [
        "GET /mqtt HTTP/1.1",
        "Host: broker",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        KEY,
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
        "Origin: https://app.example.com",
    ];
    let lines: Vec<String> = lines.into_iter().map(change).filter(|line| !line.is_empty()).collect();
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// With one header in the place of another.
fn with(name: &str, line: &str) -> Vec<u8> {
    request(|old| {
        if old.starts_with(name) {
            line.to_owned()
        } else {
            old.to_owned()
        }
    })
}

fn status(request: &[u8]) -> u16 {
    match accept(request, &rules()) {
        Ok(_) => 101,
        Err(refusal) => refusal.status,
    }
}

#[test]
fn the_example_of_the_rfc_is_accepted() {
    let accepted = accept(&request(str::to_owned), &rules()).unwrap();
    assert!(accepted.is_allowed_page);
    assert_eq!(
        String::from_utf8(accepted.response).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
}

#[test]
fn one_of_the_subprotocols_has_to_be_mqtt() {
    for (line, chosen) in [
        ("Sec-WebSocket-Protocol: mqttv3.1", "mqttv3.1"),
        ("sec-websocket-protocol: mqttv3.1, mqtt", "mqtt"),
        ("Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
    ] {
        let accepted = accept(&with("Sec-WebSocket-Protocol", line), &rules()).unwrap();
        let response = String::from_utf8(accepted.response).unwrap();
        assert!(
            response.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")),
            "{response}"
        );
    }
    for line in [
        "",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Protocol: MQTT",
        "Sec-WebSocket-Protocol: mqtt2",
    ] {
        assert_eq!(status(&with("Sec-WebSocket-Protocol", line)), 400, "{line}");
    }
}

#[test]
fn pages_of_other_origins_are_refused() {
    for (line, expected) in [
        ("Origin: https://APP.example.com", 101),
        ("Origin: https://app.example.com:443", 101),
        ("Origin: http://localhost:8000", 101),
        ("Origin: https://evil.example", 403),
        ("Origin: http://app.example.com", 403),
        ("Origin: https://app.example.com.evil.example", 403),
        ("Origin: https://app.example.com:8443", 403),
        ("Origin: null", 403),
        ("Origin:", 403),
        ("Origin: https://app.example.com\r\nOrigin: https://evil.example", 403),
        ("Origin: \u{e4}", 403),
    ] {
        assert_eq!(status(&with("Origin", line)), expected, "{line}");
    }
    let accepted = accept(&with("Origin", ""), &rules()).unwrap();
    assert!(
        !accepted.is_allowed_page,
        "a program that is no browser is let in, and is no page"
    );
}

#[test]
fn what_is_no_upgrade_is_refused_with_a_status_that_says_why() {
    for (name, line, expected) in [
        ("GET", "GET /mqtt?a=/b HTTP/1.1", 101),
        ("GET", "GET / HTTP/1.1", 404),
        ("GET", "GET /mqtt/ HTTP/1.1", 404),
        ("GET", "GET http://broker/mqtt HTTP/1.1", 404),
        ("GET", "POST /mqtt HTTP/1.1", 405),
        ("GET", "GET /mqtt HTTP/1.0", 505),
        ("GET", "GET /mqtt", 400),
        ("Upgrade", "", 426),
        ("Upgrade", "Upgrade: h2c", 426),
        ("Connection", "Connection: close", 426),
        ("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Version", "", 426),
        ("Host", "", 400),
        ("Host", "Host: a\r\nHost: b", 400),
        ("Host", "Host: a\r\nContent-Length: 0", 400),
        ("Host", "Host: a\r\nTransfer-Encoding: chunked", 400),
        ("Sec-WebSocket-Key", "", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Key: x", 400),
        ("Host", "Host : a", 400),
        ("Host", "Host: a\0b", 400),
    ] {
        assert_eq!(status(&with(name, line)), expected, "{line}");
    }
    assert_eq!(status(&with("Sec-WebSocket-Key", &format!("{KEY}\r\n{KEY}"))), 400);
    let many = "X: y\r\n".repeat(60);
    assert_eq!(status(&with("Host", &format!("{many}Host: a"))), 431);
}

#[test]
fn refusals_are_whole_answers_in_words() {
    for status in [400, 403, 404, 405, 426, 431, 505] {
        let why = "because";
        let text = String::from_utf8(refusal(Refusal { status, why })).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{head}");
        assert_eq!(body, "because\n");
        assert_eq!(head.contains("\r\nUpgrade: websocket\r\n"), status == 426);
    }
}

#[test]
fn origins_are_written_as_browsers_write_them() {
    for (text, expected) in [
        ("https://App.Example.com", Some("https://app.example.com")),
        ("https://app.example.com:443", Some("https://app.example.com")),
        ("http://localhost:80", Some("http://localhost")),
        ("http://[::1]:8000", Some("http://[::1]:8000")),
        ("capacitor://localhost", Some("capacitor://localhost")),
        ("app.example.com", None),
        ("https://", None),
        ("https://app.example.com/", None),
        ("https://*.example.com", None),
        ("https://user@host", None),
        ("null", None),
    ] {
        assert_eq!(origin(text).as_deref(), expected, "{text}");
    }
}
