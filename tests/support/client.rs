//! A raw MQTT client: it sends what it is told to and looks at each packet it gets.

use super::{Broker, DEADLINE};
use bytes::Bytes;
pub(crate) use nervewire_codec::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketId, Properties, Publish, QoS, ReasonCode, RetainHandling,
    SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe, Utf8String, Version, Will,
};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// No packet of these tests is larger.
const PACKET_LIMIT: u32 = 4 << 20;
/// Seconds that a durable session of these tests outlives its connection.
const SESSION_SECONDS: u32 = 3600;

/// What a client talks over: TCP or TLS.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub(crate) struct Client {
    stream: Box<dyn Stream>,
    version: Version,
    unread: Vec<u8>,
    /// Packets that came while another was waited for.
    pending: VecDeque<Packet>,
    next_packet_id: u16,
}

impl Client {
    /// Connects with a clean start.
    #[track_caller]
    pub(crate) fn new(broker: &Broker, version: Version, id: &str) -> Self {
        Self::connect(broker, hello(version, id)).0
    }

    /// Sends a CONNECT and expects it to be accepted.
    #[track_caller]
    pub(crate) fn connect(broker: &Broker, connect: Connect) -> (Self, ConnAck) {
        let (client, answer) = Self::try_connect(broker, connect);
        assert_eq!(answer.reason as u8, 0, "refused: {answer:?}");
        (client, answer)
    }

    /// Sends a CONNECT.
    #[track_caller]
    pub(crate) fn try_connect(broker: &Broker, connect: Connect) -> (Self, ConnAck) {
        let mut client = Self::open(broker, connect.version);
        client.send(Packet::Connect(Box::new(connect)));
        let answer = *client.expect_connack();
        (client, answer)
    }

    /// Opens a connection and sends nothing.
    pub(crate) fn open(broker: &Broker, version: Version) -> Self {
        let stream = TcpStream::connect(broker.address()).expect("connect");
        stream.set_nodelay(true).expect("set nodelay");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("set a timeout");
        Self::over(stream, version)
    }

    /// Speaks over any stream with a read timeout.
    pub(crate) fn over(stream: impl Stream + 'static, version: Version) -> Self {
        let (unread, pending) = (Vec::new(), VecDeque::new());
        Self {
            stream: Box::new(stream),
            version,
            unread,
            pending,
            next_packet_id: 0,
        }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, packet: Packet) {
        let mut bytes = Vec::new();
        nervewire_codec::encode(&packet, self.version, &mut bytes).expect("encode");
        self.send_bytes(&bytes);
    }

    /// As [`Client::send`], where the broker may be gone.
    pub(crate) fn try_send(&mut self, packet: &Packet) -> io::Result<()> {
        let mut bytes = Vec::new();
        nervewire_codec::encode(packet, self.version, &mut bytes).expect("encode");
        self.stream.write_all(&bytes)?;
        self.stream.flush()
    }

    #[track_caller]
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("send");
        self.stream.flush().expect("send");
    }

    /// The next packet.
    #[track_caller]
    pub(crate) fn recv(&mut self) -> Packet {
        self.next()
            .expect("the connection was closed where a packet was expected")
    }

    /// The next packet; `None` at the end of the connection.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Packet> {
        self.try_next()
            .unwrap_or_else(|_| panic!("nothing came in {DEADLINE:?}"))
    }

    /// The next packet; `None` at the end of the connection, an error where nothing comes in time.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> io::Result<Option<Packet>> {
        if let Some(packet) = self.pending.pop_front() {
            return Ok(Some(packet));
        }
        loop {
            let bytes = Bytes::copy_from_slice(&self.unread);
            let decoded = nervewire_codec::decode(&bytes, 0, Some(self.version), PACKET_LIMIT);
            if let Some((packet, end)) = decoded.expect("a valid packet from the broker") {
                self.unread.drain(..end);
                return Ok(Some(packet));
            }
            if !self.fill()? {
                assert!(
                    self.unread.is_empty(),
                    "the connection ends within a packet: {:02x?}",
                    self.unread
                );
                return Ok(None);
            }
        }
    }

    /// Reads more; `false` at the end of the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 16384];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error),
            Err(_) => Ok(false), // Reset, or TLS without close_notify.
        }
    }

    /// The next packet that `wanted` accepts; others stay to be received.
    #[track_caller]
    fn take(&mut self, wanted: impl Fn(&Packet) -> bool) -> Packet {
        if let Some(at) = self.pending.iter().position(&wanted) {
            return self.pending.remove(at).expect("it is there");
        }
        let mut others = std::mem::take(&mut self.pending);
        let found = loop {
            match self.recv() {
                packet if wanted(&packet) => break packet,
                other => others.push_back(other),
            }
        };
        self.pending = others;
        found
    }

    /// The raw bytes of the next packet, which must not have been read yet.
    #[track_caller]
    pub(crate) fn recv_bytes(&mut self) -> Vec<u8> {
        while self.unread.len() < 2 || self.unread.len() < 2 + usize::from(self.unread[1]) {
            assert!(
                self.fill().expect("an answer"),
                "the connection was closed within {:02x?}",
                self.unread
            );
        }
        assert!(self.unread[1] < 0x80, "a short packet");
        self.unread.drain(..2 + usize::from(self.unread[1])).collect()
    }

    /// Expects the connection to end, after a DISCONNECT with this reason code under 5.0.
    #[track_caller]
    pub(crate) fn expect_disconnect(&mut self, reason: u8) {
        if self.version == Version::V5 {
            let packet = self.expect_disconnect_packet();
            assert_eq!(packet.reason as u8, reason, "{packet:?}");
        }
        self.expect_end();
    }

    /// Expects the connection to end without another packet.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let packet = self.next();
        assert!(packet.is_none(), "expected the end of the connection, got {packet:?}");
    }

    /// Expects that the broker has answered all and sends nothing of its own now.
    #[track_caller]
    pub(crate) fn expect_idle(&mut self) {
        self.send(Packet::PingReq);
        let packet = self.recv();
        assert_eq!(packet, Packet::PingResp, "expected nothing");
    }

    /// Subscribes and expects the QoS to be granted.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filter_text: &str, qos: QoS) {
        let answer = self.subscribe_with(vec![filter(filter_text, qos)], None);
        assert_eq!(codes(&answer.reasons), [qos as u8], "{filter_text}");
    }

    #[track_caller]
    pub(crate) fn subscribe_with(
        &mut self,
        filters: Vec<SubscribeFilter>,
        properties: Option<Box<Properties>>,
    ) -> SubAck {
        let packet_id = self.packet_id();
        self.send(Packet::Subscribe(Subscribe {
            packet_id,
            properties,
            filters,
        }));
        // A message may come before the SUBACK [MQTT-3.8.4-2].
        match self.take(|packet| matches!(packet, Packet::SubAck(answer) if answer.packet_id == packet_id)) {
            Packet::SubAck(answer) => answer,
            other => unreachable!("{other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn unsubscribe(&mut self, filter_text: &str) -> UnsubAck {
        let packet_id = self.packet_id();
        self.send(Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: None,
            filters: vec![text(filter_text)],
        }));
        match self.take(|packet| matches!(packet, Packet::UnsubAck(answer) if answer.packet_id == packet_id)) {
            Packet::UnsubAck(answer) => answer,
            other => unreachable!("{other:?}"),
        }
    }

    /// Publishes, acknowledgements included, and expects success.
    #[track_caller]
    pub(crate) fn publish(&mut self, topic: &str, payload: impl Into<Bytes>, qos: QoS) {
        let reason = self.deliver(message(topic, payload, qos));
        assert!(reason < 0x80, "{topic} was refused: {reason:#x}");
    }

    /// Publishes with RETAIN set.
    #[track_caller]
    pub(crate) fn retain(&mut self, topic: &str, payload: impl Into<Bytes>, qos: QoS) {
        let reason = self.deliver(Publish {
            retain: true,
            ..message(topic, payload, qos)
        });
        assert!(reason < 0x80, "{topic} was refused: {reason:#x}");
    }

    /// Publishes, acknowledgements included: the reason code of the PUBACK, of a refusing PUBREC, or of the PUBCOMP.
    #[track_caller]
    pub(crate) fn deliver(&mut self, publish: Publish) -> u8 {
        let qos = publish.qos;
        let Some(id) = self.send_publish(publish) else { return 0 };
        let first = self.acknowledgement(id);
        if qos == QoS::AtLeastOnce || first >= 0x80 {
            return first;
        }
        self.send(Packet::PubRel(ack(id)));
        self.acknowledgement(id)
    }

    /// Sends a PUBLISH with the next packet identifier, where it needs one.
    #[track_caller]
    pub(crate) fn send_publish(&mut self, mut publish: Publish) -> Option<PacketId> {
        publish.packet_id = (publish.qos != QoS::AtMostOnce).then(|| self.packet_id());
        let id = publish.packet_id;
        self.send(Packet::Publish(publish));
        id
    }

    #[track_caller]
    fn acknowledgement(&mut self, id: PacketId) -> u8 {
        let of_id = |packet: &Packet| match packet {
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubComp(ack) => {
                (ack.packet_id == id).then_some(ack.reason)
            }
            _ => None,
        };
        let packet = self.take(|packet| of_id(packet).is_some());
        of_id(&packet).map_or(0xFF, |reason| reason as u8)
    }

    /// The next packet, a PUBLISH, which is acknowledged as its QoS wants.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Publish {
        let publish = self.expect_publish();
        if let Some(id) = publish.packet_id {
            match publish.qos {
                QoS::ExactlyOnce => self.complete(id),
                _ => self.send(Packet::PubAck(ack(id))),
            }
        }
        publish
    }

    /// PUBREC, PUBREL, PUBCOMP.
    #[track_caller]
    pub(crate) fn complete(&mut self, id: PacketId) {
        self.send(Packet::PubRec(ack(id)));
        let packet = self.take(|packet| matches!(packet, Packet::PubRel(_)));
        assert_eq!(packet, Packet::PubRel(ack(id)));
        self.send(Packet::PubComp(ack(id)));
    }

    /// As [`Client::receive`], and the payload must be this.
    #[track_caller]
    pub(crate) fn expect_payload(&mut self, payload: &str) -> Publish {
        let publish = self.receive();
        assert_eq!(
            String::from_utf8_lossy(&publish.payload),
            payload,
            "on {}",
            &*publish.topic
        );
        publish
    }

    /// DISCONNECT with reason 0, and waits until the broker has closed.
    #[track_caller]
    pub(crate) fn disconnect(self) {
        self.disconnect_with(0, None);
    }

    #[track_caller]
    pub(crate) fn disconnect_with(mut self, reason: u8, properties: Option<Box<Properties>>) {
        let reason = ReasonCode::try_from(reason).expect("a reason code");
        self.send(Packet::Disconnect(Disconnect { reason, properties }));
        while self.next().is_some() {}
    }

    pub(crate) fn packet_id(&mut self) -> PacketId {
        self.next_packet_id += 1;
        PacketId::new(self.next_packet_id).expect("few packets")
    }
}

macro_rules! expectations {
    ($($name:ident: $variant:ident -> $type:ty;)*) => {
        impl Client {
            $(#[track_caller]
            pub(crate) fn $name(&mut self) -> $type {
                match self.recv() {
                    Packet::$variant(packet) => packet,
                    other => panic!("expected {}, got {other:?}", stringify!($variant)),
                }
            })*
        }
    };
}

expectations! {
    expect_connack: ConnAck -> Box<ConnAck>;
    expect_publish: Publish -> Publish;
    expect_puback: PubAck -> Ack;
    expect_pubrec: PubRec -> Ack;
    expect_pubrel: PubRel -> Ack;
    expect_pubcomp: PubComp -> Ack;
    expect_disconnect_packet: Disconnect -> Disconnect;
    expect_auth: Auth -> Auth;
}

/// A CONNECT with clean start.
pub(crate) fn hello(version: Version, id: &str) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive: 60,
        client_id: text(id),
        will: None,
        username: None,
        password: None,
        properties: None,
    }
}

/// A CONNECT that resumes a session and wants it to outlive the connection.
pub(crate) fn durable(version: Version, id: &str) -> Connect {
    let properties = match version {
        Version::V5 => props(|p| p.session_expiry_interval = Some(SESSION_SECONDS)),
        _ => None,
    };
    Connect {
        clean_start: false,
        properties,
        ..hello(version, id)
    }
}

/// A CONNECT with user name and password.
pub(crate) fn login(version: Version, id: &str, user: &str, password: &str) -> Connect {
    let password = Some(Bytes::copy_from_slice(password.as_bytes()));
    Connect {
        username: Some(text(user)),
        password,
        ..hello(version, id)
    }
}

pub(crate) fn will(topic: &str, payload: &str, qos: QoS) -> Will {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    Will {
        topic: text(topic),
        payload,
        qos,
        retain: false,
        properties: None,
    }
}

/// A PUBLISH; [`Client::send_publish`] gives it its packet identifier.
pub(crate) fn message(topic: &str, payload: impl Into<Bytes>, qos: QoS) -> Publish {
    let payload = payload.into();
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: text(topic),
        packet_id: None,
        properties: None,
        payload,
    }
}

pub(crate) fn filter(filter: &str, qos: QoS) -> SubscribeFilter {
    filter_with(
        filter,
        SubscriptionOptions {
            qos,
            ..Default::default()
        },
    )
}

pub(crate) fn filter_with(filter: &str, options: SubscriptionOptions) -> SubscribeFilter {
    SubscribeFilter {
        filter: text(filter),
        options,
    }
}

/// Properties made by a closure that sets some.
pub(crate) fn props(set: impl FnOnce(&mut Properties)) -> Option<Box<Properties>> {
    let mut properties = Properties::default();
    set(&mut properties);
    Some(Box::new(properties))
}

/// The properties of a packet, empty where it has none.
pub(crate) fn properties(of: &Option<Box<Properties>>) -> Properties {
    of.as_deref().cloned().unwrap_or_default()
}

/// A successful acknowledgement.
pub(crate) fn ack(packet_id: PacketId) -> Ack {
    Ack {
        packet_id,
        reason: ReasonCode::Success,
        properties: None,
    }
}

pub(crate) fn codes(reasons: &[ReasonCode]) -> Vec<u8> {
    reasons.iter().map(|reason| *reason as u8).collect()
}

pub(crate) fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).expect("a valid string")
}

pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
