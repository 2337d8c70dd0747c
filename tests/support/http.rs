//! Just enough HTTP/1.1 to look at the admin interface byte by byte.

use super::{Broker, DEADLINE};
use std::io::{Read, Write};
use std::net::TcpStream;

/// An answer of the admin interface.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

pub(crate) fn get(broker: &Broker, path: &str) -> Answer {
    request(
        broker,
        &format!("GET {path} HTTP/1.1\r\nHost: {}\r\n", broker.admin_address()),
        "",
    )
}

pub(crate) fn post_json(broker: &Broker, path: &str, body: &str) -> Answer {
    let host = broker.admin_address();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n");
    request(broker, &head, body)
}

/// Sends the request line and header fields in `head`, then `body`.
pub(crate) fn request(broker: &Broker, head: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(broker.admin_address()).expect("connect to the admin interface");
    stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
    write!(
        stream,
        "{head}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .expect("send a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("read an answer");
    let (head, body) = text
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("no HTTP answer: {text:?}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    Answer {
        status,
        head: head.into(),
        body: body.into(),
    }
}

/// The value of one sample in the Prometheus text format, for example `name{a="b"}`; 0 where it is absent.
pub(crate) fn metric(broker: &Broker, name: &str, labels: &[(&str, &str)]) -> f64 {
    let body = get(broker, "/metrics").body;
    let matches = |line: &&str| {
        let series = line.rsplit_once(' ').map_or("", |(series, _)| series);
        series.split('{').next() == Some(name)
            && labels
                .iter()
                .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
    };
    body.lines()
        .filter(matches)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}
