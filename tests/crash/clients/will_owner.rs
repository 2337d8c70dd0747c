//! A client with a session and a delayed will, which loses its connection: the will is due after the delay, unless the client
//! comes back before.

use super::session::{Event, Session};
use super::{Client, Turn};
use crate::oracle::{AccountId, MessageId, Oracle, payload};
use crate::support::{Properties, QoS, Version, Will, text};

/// Longer than any run.
const NEVER_S: u32 = 50_000;
/// The shortest that is a delay.
const SOON_S: u32 = 1;

pub(crate) struct WillOwner {
    session: Session,
    topic: String,
    /// Who subscribed to the wills.
    watcher: AccountId,
    /// It stays away until its will has been seen; else it is back long before the delay has passed.
    patient: bool,
    /// The will of the last CONNECT.
    will: Option<MessageId>,
    /// Those before it, until that CONNECT is acknowledged: a broker that dies meanwhile may know of one of them instead.
    earlier: Vec<MessageId>,
    /// That CONNECT was acknowledged and the connection was lost.
    due: bool,
}

impl WillOwner {
    pub(crate) fn new(client: &str, watcher: AccountId, patient: bool) -> Self {
        Self {
            session: Session::new(client, Version::V5),
            topic: format!("w/{client}"),
            watcher,
            patient,
            will: None,
            earlier: Vec::new(),
            due: false,
        }
    }

    fn connect(&mut self, turn: &mut Turn<'_>) {
        let message = turn.oracle.first_sent(&self.topic, QoS::AtLeastOnce);
        if !self.patient {
            turn.oracle.forbid(message);
        }
        let delay_s = if self.patient { SOON_S } else { NEVER_S };
        self.session.will = Some(Box::new(Will {
            topic: text(&self.topic),
            payload: payload(message, &self.topic).into(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Some(Box::new(Properties {
                will_delay_interval: Some(delay_s),
                ..Properties::default()
            })),
        }));
        self.earlier.extend(self.will.replace(message));
        self.due = false;
        self.session.connect(turn);
    }

    /// The connection is lost after its CONNACK: from now on the will is on its way.
    fn lost(&mut self, turn: &mut Turn<'_>) {
        self.session.lose();
        self.due = self.patient;
        if let (true, Some(will)) = (self.due, self.will) {
            turn.oracle.owe(self.watcher, will);
        }
    }

    fn was_seen(&self, oracle: &Oracle) -> bool {
        self.will.is_none_or(|will| oracle.has(self.watcher, will))
    }
}

impl Client for WillOwner {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        if let Event::Packet(packet) = event {
            let what = format!("{} got {packet:?}", self.session.client);
            turn.oracle.violation(what);
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>) {
        if self.session.is_away() {
            // During the drain a will that comes is the last.
            if !self.due || (self.was_seen(turn.oracle) && !turn.draining) {
                self.connect(turn);
            }
        } else if self.session.is_connected() && !turn.draining && turn.random.per_thousand(5) {
            self.lost(turn);
        }
    }

    /// Also looks whether a connection that was there is lost.
    fn read(&mut self, turn: &mut Turn<'_>) -> usize {
        let was_connected = self.session.is_connected();
        let events = self.session.events(turn);
        let connected = was_connected || events.iter().any(|event| matches!(event, Event::Connected { .. }));
        if connected {
            self.earlier.clear();
        }
        let came = events.len();
        for event in events {
            self.handle(event, turn);
        }
        if connected && self.session.is_away() {
            self.lost(turn);
        }
        came
    }

    fn broker_died(&mut self, turn: &mut Turn<'_>) {
        self.read(turn);
        if self.session.is_connected() {
            self.lost(turn);
        }
        // Perhaps one was being published, and is again.
        for will in self.will.into_iter().chain(self.earlier.iter().copied()) {
            turn.oracle.sent_again(will);
        }
        self.session.lose();
    }

    fn settled(&self, oracle: &Oracle) -> bool {
        self.session.is_connected() || (self.due && self.was_seen(oracle))
    }

    fn waits_for(&self) -> String {
        format!(
            "{}: connected {}, its will due {}",
            self.session.client,
            self.session.is_connected(),
            self.due
        )
    }
}
