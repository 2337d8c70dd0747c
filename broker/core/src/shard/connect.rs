//! From an accepted CONNECT to its CONNACK: rules, the will's permission, takeover, the session (MQTT 5.0 section 3.1.4).

use super::auth::Enhanced;
use super::commit::Then;
use super::conn::{Bucket, Conn, OutboundAliases, encode_within};
use super::judge::{Judge, Judgement};
use super::lane::{Lanes, Outcome};
use super::rates::Rates;
use super::review::UNREVIEWED;
use super::{Answer, Call, ConnId, Shard, Waiter};
use crate::handshake::Accepted;
use crate::hook::{Action, AppMessage, Client};
use crate::limits::{PLUGIN_TIME_NS_PER_S, TOPIC_ALIAS_MAXIMUM};
use crate::message::noted;
use crate::policy::{ClientRules, RequestRef};
use crate::session::{Session, Will};
use crate::store::ClientKey;
use crate::time::Millis;
use nervewire_codec::{ConnAck, Connect, Packet, Properties, ReasonCode, Utf8String, Version};
use smallvec::SmallVec;
use std::sync::Arc;

/// A connection whose CONNECT is being judged.
#[derive(Debug)]
pub(super) struct Connecting {
    conn: ConnId,
    serial: u64,
    accepted: Box<Accepted>,
    judge: Judge,
}

/// A client that has its session and waits for CONNACK.
#[derive(Debug)]
pub(super) struct Entered {
    conn: ConnId,
    serial: u64,
    session: u32,
    present: bool,
    accepted: Box<Accepted>,
}

impl Connecting {
    pub(super) fn conn(&self) -> (ConnId, u64) {
        (self.conn, self.serial)
    }

    pub(super) fn client(&self) -> &Client {
        &self.accepted.client
    }

    pub(super) fn accepted(&self) -> &Accepted {
        &self.accepted
    }
}

impl Shard {
    /// A connection whose client was let in, under a number of the driver's choice.
    pub fn connect(&mut self, now: Millis, id: ConnId, accepted: Box<Accepted>) {
        let serial = self.next_serial();
        let conn = self.new_conn(now, serial, &accepted);
        self.conns.insert(id.0 as usize, conn);
        let rules = self.policy.authorizers.is_empty().then(Arc::default);
        let judge = Judge::new(None, accepted.client.clone(), self.policy.clone(), rules);
        let flow = Connecting {
            conn: id,
            serial,
            accepted,
            judge,
        };
        self.step_connect(now, Box::new(flow));
    }

    /// A connection whose client was authenticated, but is not to be let in. It ends with this CONNACK.
    pub fn turn_away(&mut self, now: Millis, id: ConnId, accepted: &Accepted, reason: ReasonCode) {
        let serial = self.next_serial();
        let conn = self.new_conn(now, serial, accepted);
        self.conns.insert(id.0 as usize, conn);
        self.refuse_connect(id, reason);
    }

    fn new_conn(&self, now: Millis, serial: u64, accepted: &Accepted) -> Conn {
        let connect = &accepted.connect;
        let properties = connect.properties.as_deref();
        let keep_alive_s = self.keep_alive_s(connect.keep_alive, connect.version);
        let rate = accepted
            .quotas
            .publish_rate_per_s
            .unwrap_or(self.config.publish_rate_per_s);
        let window = properties
            .and_then(|p| p.receive_maximum)
            .unwrap_or(u16::MAX)
            .min(self.config.per_client.in_flight_messages);
        Conn {
            serial,
            session: None,
            version: connect.version,
            out: crate::outbuf::OutBuf::default(),
            counted_output: 0,
            touched: false,
            full: false,
            closing: false,
            connected: false,
            lanes: Lanes::default(),
            waiting: true,
            connected_at: now,
            last_received: now,
            // [MQTT-3.1.2-22]: one and a half times the Keep Alive.
            keep_alive_ms: u32::from(keep_alive_s) * 1_500,
            inbound_aliases: Vec::new(),
            outbound_aliases: OutboundAliases::new(properties.and_then(|p| p.topic_alias_maximum).unwrap_or(0)),
            max_packet_bytes: properties.and_then(|p| p.maximum_packet_size).unwrap_or(u32::MAX),
            window,
            wants_problem_information: properties.and_then(|p| p.request_problem_information).unwrap_or(true),
            authentication: Enhanced::of(connect),
            publish_bucket: Bucket::new(self.throttled_rate(now, &accepted.client, rate)),
            rates: Rates::new(&self.config, accepted, rate),
            plugin_bucket: Bucket::new(PLUGIN_TIME_NS_PER_S),
            paused_until: None,
        }
    }

    /// The keep alive that holds: the client's, or ours where that is bounded and the client can be told.
    fn keep_alive_s(&self, requested_s: u16, version: Version) -> u16 {
        let max = self.config.max_keep_alive_s;
        let bounded = version == Version::V5 && max > 0 && (requested_s == 0 || requested_s > max);
        if bounded { max } else { requested_s }
    }

    pub(super) fn connect_answered(&mut self, now: Millis, mut flow: Box<Connecting>, answer: Answer) {
        self.hear(now, &mut flow.judge, answer);
        self.step_connect(now, flow);
    }

    /// Goes on until a plugin must be asked or CONNACK is written.
    fn step_connect(&mut self, now: Millis, mut flow: Box<Connecting>) {
        if self.same_conn(flow.conn, flow.serial).is_none() {
            return;
        }
        match self.judge_connect(now, &mut flow) {
            Judgement::Allowed => {
                if let Some(flow) = self.delays_takeover(now, *flow) {
                    self.complete_connect(now, flow);
                }
            }
            Judgement::Denied => {
                self.counters.denied_publish += 1;
                self.count_refused_login(&flow.accepted.client);
                self.refuse_connect(flow.conn, ReasonCode::NotAuthorized);
            }
            Judgement::Ask(call) => self.call(Waiter::Connect(flow), call),
        }
    }

    /// Rules are asked for at CONNECT. Wills are authorized here and once more when they are sent.
    fn judge_connect(&mut self, now: Millis, flow: &mut Connecting) -> Judgement {
        let Connecting { accepted, judge, .. } = flow;
        match &accepted.connect.will {
            Some(will) => {
                let (topic, qos, retain) = (&will.topic, will.qos, will.retain);
                self.judge(
                    now,
                    judge,
                    &RequestRef {
                        action: Action::Publish,
                        topic,
                        qos,
                        retain,
                    },
                )
            }
            None if judge.rules.is_none() => Judgement::Ask(Call::Rules {
                generation: judge.policy.generation,
                client: judge.client.clone(),
            }),
            None => Judgement::Allowed,
        }
    }

    pub(super) fn refuse_connect(&mut self, id: ConnId, reason: ReasonCode) {
        self.counters.connects_refused += 1;
        self.send(
            id,
            &Packet::ConnAck(Box::new(ConnAck {
                session_present: false,
                reason,
                properties: None,
            })),
        );
        self.close(id);
    }

    pub(super) fn complete_connect(&mut self, now: Millis, flow: Connecting) {
        let Connecting {
            conn: id,
            serial,
            accepted,
            judge,
        } = flow;
        if let Some(reason) = self.will_over_bound(&accepted) {
            return self.refuse_connect(id, reason);
        }
        if !self.accepts_connack(id, &accepted) {
            return self.refuse_connect(id, ReasonCode::PacketTooLarge);
        }
        // It may have been banned while plugins were asked.
        if let Some(reason) = self.kept_out(now, &accepted.client) {
            return self.refuse_connect(id, reason);
        }
        if self.is_full_for(&accepted) {
            self.counters.sessions_refused += 1;
            return self.refuse_connect(id, ReasonCode::QuotaExceeded);
        }
        if self.refuses_session(&accepted) {
            return self.refuse_connect(id, ReasonCode::QuotaExceeded);
        }
        // What ends and what begins here is stored before the client hears of it.
        let commit = self.begin(SmallVec::new());
        let (session, present) = self.within(Some(commit), |shard| shard.enter(now, id, &accepted, judge.rules));
        self.count_connect(session);
        let entered = Entered {
            conn: id,
            serial,
            session,
            present,
            accepted,
        };
        self.follow_by(commit, Then::Connected(Box::new(entered)));
        self.part_settled(now, commit, Ok(()));
    }

    /// A session that does not exist yet would be one too many.
    fn is_full_for(&self, accepted: &Accepted) -> bool {
        self.sessions.len() >= self.config.sessions && self.session_of(accepted).is_none()
    }

    pub(super) fn session_of(&self, accepted: &Accepted) -> Option<u32> {
        let client = &accepted.client;
        self.sessions.find(client.tenant.as_deref(), &client.client_id)
    }

    /// Takes the client's session over, or makes one; answers it, and whether it was present.
    fn enter(&mut self, now: Millis, id: ConnId, accepted: &Accepted, rules: Option<Arc<ClientRules>>) -> (u32, bool) {
        self.wait_for_end(&ClientKey::of(&accepted.client));
        let mut existing = self.session_of(accepted);
        if let Some(session) = existing {
            self.take_over(now, session);
            // That may have ended it.
            existing = self.session_of(accepted);
        }
        let present = match existing {
            // [MQTT-3.1.2-4]. A session is its user's: another one with the same identifier begins anew.
            Some(session) if accepted.connect.clean_start || !self.is_of_same_user(session, accepted) => {
                self.end_session(now, session);
                None
            }
            other => other,
        };
        let session = match present {
            Some(session) => session,
            None => self.new_session(accepted.client.clone()),
        };
        self.attach(session, id, accepted, rules);
        self.record_session(session);
        (session, present.is_some())
    }

    fn is_of_same_user(&self, session: u32, accepted: &Accepted) -> bool {
        let s = self.sessions.get(session as usize);
        s.is_some_and(|s| s.client.username == accepted.client.username)
    }

    /// The session is as durable as it has to be: the client is told.
    pub(super) fn connected(&mut self, now: Millis, entered: Entered, outcome: Outcome) {
        let Entered {
            conn: id,
            serial,
            session,
            present,
            accepted,
        } = entered;
        let Some(conn) = self.same_conn(id, serial) else { return };
        if outcome.is_err() {
            return self.refuse_entered(now, id, session);
        }
        conn.connected = true;
        let connack = self.connack(&accepted, present);
        self.send(id, &Packet::ConnAck(Box::new(connack)));
        self.counters.connects_accepted += 1;
        self.start_keep_alive(now, id);
        self.start_lifetime(id);
        self.watch_certificate_end(id);
        self.shared_presence_of(now, session, true);
        self.resume(now, id);
        self.pump(now, session);
    }

    /// The session stays as if its connection had been lost, but for the will, of which the client knows that it was refused.
    fn refuse_entered(&mut self, now: Millis, id: ConnId, session: u32) {
        self.detach(id);
        self.connection_ended(now, session, true);
        self.refuse_connect(id, ReasonCode::QuotaExceeded);
    }

    /// Whether the CONNACK stays within the client's Maximum Packet Size [MQTT-3.1.2-24].
    fn accepts_connack(&self, id: ConnId, accepted: &Accepted) -> bool {
        let Some(conn) = self.conn(id).filter(|conn| conn.max_packet_bytes != u32::MAX) else {
            return true;
        };
        let connack = Packet::ConnAck(Box::new(self.connack(accepted, false)));
        let most_bytes = conn.max_packet_bytes as usize;
        encode_within(&connack, conn.version, most_bytes, &mut Vec::new())
    }

    /// A session that has nothing yet.
    pub(super) fn new_session(&mut self, client: Arc<Client>) -> u32 {
        let space = self.space_of(client.tenant.as_ref());
        if let Some(space) = self.spaces.get_mut(space as usize) {
            space.sessions += 1;
        }
        let serial = self.next_serial();
        self.sessions.insert(Session::new(serial, client, space))
    }

    fn attach(&mut self, session: u32, id: ConnId, accepted: &Accepted, rules: Option<Arc<ClientRules>>) {
        let connect = &accepted.connect;
        let generation = self.policy.generation;
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        s.client = accepted.client.clone();
        s.set_quotas(accepted.quotas);
        s.conn = Some(id);
        s.expires_at = None;
        s.will_at = None;
        s.rules = rules;
        s.verdicts.clear();
        // What somebody subscribed to under another identity, or before an earlier process ended, is judged as this client's.
        s.suspensions.forget_review();
        let is_new = s.subscriptions.len() == 0 && s.suspensions.is_clear();
        s.reviewed = if is_new { noted(generation) } else { UNREVIEWED };
        s.in_flight.resent = 0;
        // A will that waits for its delay is cancelled by the new connection [MQTT-3.1.3-9].
        s.will = connect.will.as_deref().map(will_of);
        s.expiry_interval_s = expiry_interval_s(connect);
        if let Some(conn) = self.conn_mut(id) {
            conn.session = Some(session);
        }
    }

    fn connack(&self, accepted: &Accepted, session_present: bool) -> ConnAck {
        let connect = &accepted.connect;
        let reason = ReasonCode::Success;
        if connect.version != Version::V5 {
            return ConnAck {
                session_present,
                reason,
                properties: None,
            };
        }
        let requested = connect.properties.as_deref();
        let keep_alive_s = self.keep_alive_s(connect.keep_alive, connect.version);
        let wants_response = requested.and_then(|p| p.request_response_information).unwrap_or(false);
        let client_id = &accepted.client.client_id;
        let text = |s: String| Utf8String::try_from(s).ok();
        let properties = Properties {
            receive_maximum: Some(self.config.per_client.receive_maximum),
            maximum_packet_size: Some(self.config.max_packet_bytes.min(accepted.max_packet_bytes)),
            topic_alias_maximum: Some(TOPIC_ALIAS_MAXIMUM),
            assigned_client_identifier: accepted.assigned.then(|| text(client_id.to_string())).flatten(),
            server_keep_alive: (keep_alive_s != connect.keep_alive).then_some(keep_alive_s),
            response_information: match &self.config.response_information {
                Some(prefix) if wants_response => text(format!("{prefix}/{client_id}")),
                _ => None,
            },
            authentication_method: requested.and_then(|p| p.authentication_method.clone()),
            authentication_data: accepted.authentication_data.clone(),
            ..Properties::default()
        };
        ConnAck {
            session_present,
            reason,
            properties: Some(Box::new(properties)),
        }
    }
}

fn will_of(will: &nervewire_codec::Will) -> Box<Will> {
    let mut properties = will.properties.as_deref().cloned().unwrap_or_default();
    let delay_s = properties.will_delay_interval.take().unwrap_or(0);
    let mut message = AppMessage {
        topic: will.topic.clone(),
        payload: will.payload.clone(),
        qos: will.qos,
        retain: will.retain,
        properties: (properties != Properties::default()).then(|| Arc::new(properties)),
    };
    message.detach();
    Box::new(Will { message, delay_s })
}

/// For how many seconds the session is to outlive the connection.
pub(super) fn expiry_interval_s(connect: &Connect) -> u32 {
    let properties = connect.properties.as_deref();
    match connect.version {
        Version::V5 => properties.and_then(|p| p.session_expiry_interval).unwrap_or(0),
        // A 3.x session without Clean Session outlives its connections.
        _ if connect.clean_start => 0,
        _ => u32::MAX,
    }
}
