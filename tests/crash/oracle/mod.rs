//! Judges the broker by what its clients saw, and by nothing else.
//!
//! Every event has a place in one order ([`Step`]). A message is owed to a session from its acknowledgement on, where the
//! subscription was acknowledged before the message was first sent and nobody had begun to end it. What came while one of
//! these was under way may be delivered or not.

mod account;
mod figures;
mod retained;
mod sessions;
mod tests;

pub(crate) use account::{AccountId, Delivery};
pub(crate) use figures::Figures;
pub(crate) use retained::RetainedView;
pub(crate) use sessions::Request;

use crate::support::QoS;
use account::Account;
use retained::RetainedTopics;
use sessions::Sessions;
use std::collections::HashMap;

/// The place of an event in the order of all that clients did and saw.
pub(crate) type Step = u64;
/// A message, by the order in which messages were first sent: later on the same topic is greater.
pub(crate) type MessageId = u32;

/// What is told of a run at most; more of the same kind is only counted.
const VIOLATIONS_TOLD: usize = 40;

/// A message as its publisher knows it.
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) sent: Step,
    pub(crate) acknowledged: Option<Step>,
    /// How often the publisher sent it.
    pub(crate) transmissions: u32,
    /// Nobody may ever get it: a will that was cancelled.
    pub(crate) forbidden: bool,
}

#[derive(Default)]
pub(crate) struct Oracle {
    now: Step,
    last_death: Step,
    messages: Vec<Message>,
    accounts: Vec<Account>,
    pub(crate) retained: RetainedTopics,
    sessions: Sessions,
    pub(crate) figures: Figures,
    violations: Vec<String>,
}

impl Oracle {
    fn step(&mut self) -> Step {
        self.now += 1;
        self.now
    }

    /// The broker died.
    pub(crate) fn broker_died(&mut self) {
        self.figures.kills += 1;
        self.last_death = self.step();
    }

    /// A message is sent for the first time.
    pub(crate) fn first_sent(&mut self, topic: &str, qos: QoS) -> MessageId {
        let sent = self.step();
        self.messages.push(Message {
            topic: topic.to_owned(),
            qos,
            sent,
            acknowledged: None,
            transmissions: 1,
            forbidden: false,
        });
        (self.messages.len() - 1) as MessageId
    }

    pub(crate) fn sent_again(&mut self, message: MessageId) {
        self.messages[message as usize].transmissions += 1;
    }

    pub(crate) fn forbid(&mut self, message: MessageId) {
        self.messages[message as usize].forbidden = true;
    }

    /// PUBACK or PUBREC: the broker owns the message now, and owes it to every subscriber.
    pub(crate) fn acknowledged(&mut self, message: MessageId) {
        let now = self.step();
        let known = &mut self.messages[message as usize];
        known.acknowledged = Some(now);
        self.figures.acknowledged += 1;
        for account in &mut self.accounts {
            account.acknowledged(message, known);
        }
    }

    /// A will whose time has come.
    pub(crate) fn owe(&mut self, account: AccountId, message: MessageId) {
        self.accounts[account].owe(message);
    }

    pub(crate) fn has(&self, account: AccountId, message: MessageId) -> bool {
        self.accounts[account].has(message)
    }

    pub(crate) fn refused(&mut self, topic: &str, reason: u8) {
        self.figures.refused += 1;
        self.violation(format!("a message on {topic} was refused: {reason:#x}"));
    }

    /// Messages that are owed and have not come.
    pub(crate) fn owed(&self) -> usize {
        self.accounts.iter().map(Account::owed).sum()
    }

    /// What was owed and is not coming any more is lost.
    pub(crate) fn write_off(&mut self) {
        for index in 0..self.accounts.len() {
            self.write_off_account(index);
        }
    }

    fn write_off_account(&mut self, index: AccountId) {
        let (name, lost) = self.accounts[index].write_off();
        self.figures.lost += lost.len() as u64;
        for message in lost {
            let Message {
                topic,
                qos,
                acknowledged,
                ..
            } = &self.messages[message as usize];
            let what = format!("lost: {message} on {topic} ({qos:?}, acknowledged at {acknowledged:?}) for {name}");
            self.violation(what);
        }
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.figures.violations += 1;
        if self.violations.len() < VIOLATIONS_TOLD {
            self.violations.push(what);
        }
    }

    /// What was wrong, as far as it is told.
    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    /// What a payload says it is.
    fn identify(&self, topic: &str, payload: &[u8]) -> Option<MessageId> {
        let text = std::str::from_utf8(payload).ok()?;
        let message: MessageId = text.split(' ').next()?.parse().ok()?;
        let known = self.messages.get(message as usize)?;
        (known.topic == topic && payload == self::payload(message, topic)).then_some(message)
    }
}

/// How long payloads are, in bytes: most are small, some take several pages of a file.
const PAYLOAD_BYTES: [usize; 8] = [24, 40, 40, 80, 80, 200, 700, 9000];

/// The payload of a message: nothing in it can change unseen.
pub(crate) fn payload(message: MessageId, topic: &str) -> Vec<u8> {
    let mut bytes = format!("{message} {topic} ").into_bytes();
    let length = PAYLOAD_BYTES[(message.wrapping_mul(2_654_435_761) >> 16) as usize % PAYLOAD_BYTES.len()];
    while bytes.len() < length {
        bytes.push(b'a' + (bytes.len() as u32).wrapping_add(message).wrapping_mul(31) as u8 % 26);
    }
    bytes
}

/// Whether a filter of this load matches a topic name.
fn matches(filter: &str, topic: &str) -> bool {
    let mut names = topic.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

type Newest = HashMap<String, MessageId>;
