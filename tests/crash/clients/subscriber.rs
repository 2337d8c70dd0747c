//! A subscriber with a session that outlives its connections, or one that ends now and then.

use super::session::{Event, Session, puback, pubcomp, pubrec};
use super::{Client, Turn};
use crate::oracle::{AccountId, Delivery, MessageId, Oracle};
use crate::support::{
    Packet, PacketId, Publish, QoS, ReasonCode, Subscribe, Unsubscribe, Version, filter as subscribe_filter, text,
};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

pub(crate) struct Subscriber {
    session: Session,
    /// Where its deliveries count.
    account: AccountId,
    manner: Manner,
    filters: Vec<Filter>,
    /// Acknowledgements that it has not sent yet, in the order of what they acknowledge [MQTT-4.6.0-2].
    owed_answers: VecDeque<Packet>,
    /// QoS 2 messages that came and were not released.
    receiving: HashMap<PacketId, Bytes>,
    /// How often a message came on this connection.
    came: HashMap<MessageId, u32>,
    /// Turns that it stays away.
    away_turns: u64,
}

/// How it behaves; each is a number of thousandths per turn.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// It acknowledges one message instead of all that came.
    pub(crate) slow: u64,
    /// It disconnects, or loses its connection, and stays away for a while.
    pub(crate) leaves: u64,
    /// It subscribes to or unsubscribes from one of the filters that may change.
    pub(crate) changes: u64,
    /// It comes back with a clean start.
    pub(crate) ends_session: u64,
    /// Its session ends with every connection.
    pub(crate) transient: bool,
    /// Receive Maximum.
    pub(crate) receive_maximum: Option<u16>,
}

struct Filter {
    filter: String,
    qos: QoS,
    state: State,
    /// It comes and goes.
    changes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Subscribing(PacketId),
    On,
    Unsubscribing(PacketId),
}

impl Subscriber {
    /// What its session is owed, or its group of shared subscribers, is in this account.
    pub(crate) fn new(client: &str, version: Version, account: AccountId, manner: Manner) -> Self {
        let mut session = Session::new(client, version);
        session.durable = !manner.transient;
        session.clean_start = manner.transient;
        session.receive_maximum = manner.receive_maximum;
        session.account = Some(account);
        Self {
            session,
            account,
            manner,
            filters: Vec::new(),
            owed_answers: VecDeque::new(),
            receiving: HashMap::new(),
            came: HashMap::new(),
            away_turns: 0,
        }
    }

    /// A filter that it subscribes to at once and for good, or one that comes and goes.
    pub(crate) fn filter(mut self, filter: &str, qos: QoS, changes: bool) -> Self {
        let filter = filter.to_owned();
        self.filters.push(Filter {
            filter,
            qos,
            state: State::Off,
            changes,
        });
        self
    }

    /// What was not answered on the last connection is asked again on this one.
    fn resume(&mut self, present: bool, turn: &mut Turn<'_>) {
        self.came.clear();
        self.owed_answers.clear();
        if !present {
            self.receiving.clear();
            self.filters.iter_mut().for_each(|filter| filter.state = State::Off);
        }
        for index in 0..self.filters.len() {
            match self.filters[index].state {
                State::Off if self.filters[index].changes => {}
                State::Off | State::Subscribing(_) => self.subscribe(index, turn.oracle),
                State::Unsubscribing(_) => self.unsubscribe(index, turn.oracle),
                State::On => {}
            }
        }
    }

    fn on_publish(&mut self, publish: &Publish, oracle: &mut Oracle) {
        let Some(id) = publish.packet_id else {
            let what = format!("{} got {publish:?}", self.session.client);
            return oracle.violation(what);
        };
        let answer = if publish.qos == QoS::ExactlyOnce {
            pubrec(id)
        } else {
            puback(id)
        };
        self.owed_answers.push_back(answer);
        if publish.qos == QoS::ExactlyOnce {
            match self.receiving.get(&id) {
                Some(payload) if *payload == publish.payload => return,
                Some(_) => oracle.violation(format!("{}: identifier {id} names two messages", self.session.client)),
                None => drop(self.receiving.insert(id, publish.payload.clone())),
            }
        }
        self.deliver(publish, oracle);
    }

    fn deliver(&mut self, publish: &Publish, oracle: &mut Oracle) {
        // Which message it is shows only when the oracle has looked at it; its number is the start of the payload.
        let number = publish.payload.split(|byte| *byte == b' ').next().unwrap_or_default();
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let before = self.came.entry(number.unwrap_or(MessageId::MAX)).or_default();
        oracle.delivered(&Delivery {
            account: self.account,
            publish,
            before: *before,
        });
        *before += 1;
    }

    fn subscribe(&mut self, index: usize, oracle: &mut Oracle) {
        let packet_id = self.session.packet_id(|_| false);
        let filter = &mut self.filters[index];
        oracle.subscribing(self.account, unshared(&filter.filter), filter.qos);
        filter.state = State::Subscribing(packet_id);
        let filters = vec![subscribe_filter(&filter.filter, filter.qos)];
        let packet = Subscribe {
            packet_id,
            properties: None,
            filters,
        };
        self.session.send(&Packet::Subscribe(packet));
    }

    fn unsubscribe(&mut self, index: usize, oracle: &mut Oracle) {
        let packet_id = self.session.packet_id(|_| false);
        let filter = &mut self.filters[index];
        oracle.unsubscribing(self.account, unshared(&filter.filter));
        filter.state = State::Unsubscribing(packet_id);
        let filters = vec![text(&filter.filter)];
        let packet = Unsubscribe {
            packet_id,
            properties: None,
            filters,
        };
        self.session.send(&Packet::Unsubscribe(packet));
    }

    fn on_suback(&mut self, id: PacketId, reasons: &[ReasonCode], oracle: &mut Oracle) {
        let waiting = |filter: &&mut Filter| filter.state == State::Subscribing(id);
        let Some(filter) = self.filters.iter_mut().find(waiting) else {
            return oracle.violation(format!("a SUBACK that answers nothing: {id}"));
        };
        filter.state = State::On;
        if reasons.iter().any(|reason| *reason as u8 != filter.qos as u8) {
            oracle.violation(format!("{} was granted {reasons:?}", filter.filter));
        }
        oracle.subscribed(self.account, unshared(&filter.filter));
    }

    fn on_unsuback(&mut self, id: PacketId, oracle: &mut Oracle) {
        let waiting = |filter: &&mut Filter| filter.state == State::Unsubscribing(id);
        let Some(filter) = self.filters.iter_mut().find(waiting) else {
            return oracle.violation(format!("an UNSUBACK that answers nothing: {id}"));
        };
        filter.state = State::Off;
        oracle.unsubscribed(self.account, unshared(&filter.filter));
    }

    fn answer(&mut self, turn: &mut Turn<'_>) {
        let slow = !turn.draining && self.manner.slow > 0;
        let count = match (slow, turn.random.per_thousand(self.manner.slow)) {
            (false, _) => self.owed_answers.len(),
            (true, false) => 0,
            (true, true) => self.owed_answers.len().min(8),
        };
        for answer in self.owed_answers.drain(..count) {
            self.session.send(&answer);
        }
    }

    fn misbehave(&mut self, turn: &mut Turn<'_>) {
        if turn.random.per_thousand(self.manner.changes) {
            self.change(turn);
        }
        let ends = turn.random.per_thousand(self.manner.ends_session);
        if !ends && !turn.random.per_thousand(self.manner.leaves) {
            return;
        }
        self.session.clean_start |= ends;
        self.away_turns = turn.random.within(1..100);
        match turn.random.per_thousand(500) {
            true => self.session.disconnect(),
            false => self.session.lose(),
        }
    }

    fn change(&mut self, turn: &mut Turn<'_>) {
        let changing: Vec<usize> = (0..self.filters.len())
            .filter(|index| self.filters[*index].changes)
            .collect();
        let index = changing[turn.random.index(changing.len())];
        match self.filters[index].state {
            State::Off => self.subscribe(index, turn.oracle),
            State::On => self.unsubscribe(index, turn.oracle),
            State::Subscribing(_) | State::Unsubscribing(_) => {}
        }
    }
}

/// The filter of a shared subscription without its group, whose account is its own.
fn unshared(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

impl Client for Subscriber {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected { present } => self.resume(present, turn),
            Event::Packet(Packet::Publish(publish)) => self.on_publish(&publish, turn.oracle),
            Event::Packet(Packet::PubRel(release)) => {
                self.receiving.remove(&release.packet_id);
                self.owed_answers.push_back(pubcomp(release.packet_id));
            }
            Event::Packet(Packet::SubAck(answer)) => self.on_suback(answer.packet_id, &answer.reasons, turn.oracle),
            Event::Packet(Packet::UnsubAck(answer)) => self.on_unsuback(answer.packet_id, turn.oracle),
            Event::Packet(other) => {
                let what = format!("{} got {other:?}", self.session.client);
                turn.oracle.violation(what);
            }
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>) {
        if turn.draining {
            self.away_turns = 0;
        }
        if self.session.is_away() {
            self.away_turns = self.away_turns.saturating_sub(1);
            if self.away_turns == 0 {
                self.session.connect(turn);
            }
        } else if self.session.is_connected() {
            self.answer(turn);
            if !turn.draining {
                self.misbehave(turn);
            }
        }
    }

    fn settled(&self, _: &Oracle) -> bool {
        let busy = |filter: &Filter| matches!(filter.state, State::Subscribing(_) | State::Unsubscribing(_));
        self.session.is_connected() && !self.filters.iter().any(busy) && self.owed_answers.is_empty()
    }

    fn waits_for(&self) -> String {
        let states: Vec<State> = self.filters.iter().map(|filter| filter.state).collect();
        format!(
            "{}: connected {}, filters {states:?}",
            self.session.client,
            self.session.is_connected()
        )
    }
}
