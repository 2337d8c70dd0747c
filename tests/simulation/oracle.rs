//! What clients know, and what must follow from it: an account of every message, subscription and session by what was sent and
//! what was acknowledged. It knows nothing of the broker's insides.

use crate::plan::Plan;
use crate::trace::{Kept, check};
use nervewire_codec::{QoS, topic};
use std::collections::{BTreeMap, BTreeSet};

/// Names a message of the run; its payload says it.
pub(crate) type MessageNumber = usize;
/// A moment in the order of everything that happened.
pub(crate) type Moment = u64;

/// The topics of every run.
pub(crate) const TOPICS: [&str; 5] = ["a", "a/b", "c", "c/b", "d"];
/// The filters that clients subscribe to.
pub(crate) const FILTERS: [&str; 6] = ["a", "a/#", "+/b", "#", "c", "c/+"];
/// The one shared subscription; whoever is a member has no other.
pub(crate) const SHARED: &str = "$share/group/+/b";

/// A message that was published.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    /// A client's number; `None`: its will, which has no place in the order of its messages.
    pub(crate) by: Option<usize>,
    pub(crate) topic: &'static str,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// It deletes the retained message.
    pub(crate) deletes: bool,
    pub(crate) expires: bool,
    /// First sent.
    pub(crate) sent: Moment,
    pub(crate) fate: Fate,
    /// How often it was sent: each time it may be queued once more.
    pub(crate) sends: u32,
}

/// What the publisher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not yet whether it was accepted.
    Open,
    /// The broker owns it.
    Accepted(Moment),
    /// It was told so, or will never hear: either may be.
    Unknown,
}

/// A subscription of one session, from SUBSCRIBE to UNSUBACK.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    filter: &'static str,
    qos: QoS,
    asked: Moment,
    /// SUBACK came.
    sure_from: Option<Moment>,
    /// UNSUBSCRIBE or a new SUBSCRIBE was sent, or the session may have ended.
    sure_until: Option<Moment>,
    /// It is certain that it is no more.
    gone: Option<Moment>,
    /// The session may have ended, and its messages with it.
    may_be_lost: bool,
}

/// What a client knows of the session under its identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Knowledge {
    Absent,
    Present,
    Unknown,
}

/// One client's account.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) knowledge: Knowledge,
    held: Vec<Held>,
    /// Messages that came, by live subscriptions.
    arrived: BTreeSet<MessageNumber>,
    /// Those of them that came at QoS 2.
    exactly_once: BTreeSet<MessageNumber>,
    /// The last message by publisher, topic, and the QoS at which it was published and came [MQTT-4.6.0-5].
    last: BTreeMap<(usize, &'static str, QoS, QoS), MessageNumber>,
    /// Every message that came, retained ones included, since the last look.
    pub(crate) retained_seen: BTreeMap<&'static str, MessageNumber>,
}

/// All accounts.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) messages: Vec<Published>,
    pub(crate) accounts: Vec<Account>,
    shares: Vec<bool>,
    /// The broker was killed.
    restarted: bool,
    /// The disk failed, so that something may have been refused.
    pub(crate) may_refuse: bool,
    /// Bounds are tight.
    may_drop: bool,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Self {
        let account = |_| Account {
            knowledge: Knowledge::Absent,
            held: Vec::new(),
            arrived: BTreeSet::new(),
            exactly_once: BTreeSet::new(),
            last: BTreeMap::new(),
            retained_seen: BTreeMap::new(),
        };
        let mut shares: Vec<bool> = plan.clients.iter().map(|habits| habits.shares).collect();
        shares.push(false); // Who looks at the retained messages.
        Self {
            messages: Vec::new(),
            accounts: shares.iter().map(account).collect(),
            shares,
            restarted: false,
            may_refuse: false,
            may_drop: plan.is_tight(),
        }
    }

    pub(crate) fn publish(&mut self, message: Published) -> MessageNumber {
        self.messages.push(message);
        self.messages.len() - 1
    }

    pub(crate) fn accepted(&mut self, number: MessageNumber, at: Moment) {
        self.messages[number].fate = Fate::Accepted(at);
    }

    pub(crate) fn unknown(&mut self, number: MessageNumber) {
        self.messages[number].fate = Fate::Unknown;
    }

    pub(crate) fn restarted(&mut self) {
        self.restarted = true;
    }

    pub(crate) fn subscribing(&mut self, client: usize, filter: &'static str, qos: QoS, at: Moment) {
        self.accounts[client].close(filter, at);
        self.accounts[client].held.push(Held {
            filter,
            qos,
            asked: at,
            sure_from: None,
            sure_until: None,
            gone: None,
            may_be_lost: false,
        });
    }

    /// SUBACK came for what was asked then: what an earlier SUBSCRIBE said no longer holds.
    pub(crate) fn subscribed(&mut self, client: usize, filter: &'static str, asked: Moment, at: Moment) {
        self.unsubscribed(client, filter, asked, at);
        let mut held = self.accounts[client].held.iter_mut();
        if let Some(held) = held.find(|held| held.filter == filter && held.asked == asked) {
            held.sure_from = Some(at);
        }
    }

    pub(crate) fn unsubscribing(&mut self, client: usize, filter: &'static str, at: Moment) {
        self.accounts[client].close(filter, at);
    }

    /// What was asked for before then is no more.
    pub(crate) fn unsubscribed(&mut self, client: usize, filter: &'static str, asked: Moment, at: Moment) {
        let held = self.accounts[client].held.iter_mut();
        let before = held.filter(|held| held.filter == filter && held.asked < asked);
        before.for_each(|held| _ = held.gone.get_or_insert(at));
    }

    /// The session may be no more: nothing is owed to it.
    pub(crate) fn may_end(&mut self, client: usize, at: Moment) {
        let account = &mut self.accounts[client];
        account.knowledge = Knowledge::Unknown;
        for held in &mut account.held {
            held.sure_until.get_or_insert(at);
            held.may_be_lost = true;
        }
    }

    /// CONNACK said that there was no session.
    pub(crate) fn begins(&mut self, client: usize, at: Moment) {
        self.may_end(client, at);
        let account = &mut self.accounts[client];
        account.held.iter_mut().for_each(|held| _ = held.gone.get_or_insert(at));
        account.last.clear();
    }

    /// Whether Session Present in a CONNACK can be.
    pub(crate) fn check_present(&self, client: usize, clean_start: bool, present: bool) -> Kept {
        check(!(clean_start && present), || {
            format!("client {client}: a clean start finds a session")
        })?;
        match self.accounts[client].knowledge {
            Knowledge::Present => check(clean_start || present, || {
                format!("client {client}: its session is lost")
            }),
            Knowledge::Absent => check(!present, || format!("client {client}: a session that ended is back")),
            Knowledge::Unknown => Ok(()),
        }
    }

    /// A PUBLISH reached the client's application.
    pub(crate) fn arrives(
        &mut self,
        client: usize,
        number: MessageNumber,
        topic: &str,
        qos: QoS,
        retained: bool,
    ) -> Kept {
        let Some(message) = self.messages.get(number) else {
            return check(false, || format!("client {client}: nobody published message {number}"));
        };
        check(message.topic == topic, || {
            format!("client {client}: message {number} comes under {topic}")
        })?;
        check(qos <= message.qos, || {
            format!("client {client}: message {number} comes at {qos:?}")
        })?;
        if retained {
            check(message.retain, || {
                format!("client {client}: message {number} was not retained")
            })?;
            self.accounts[client].retained_seen.insert(message.topic, number);
            return Ok(());
        }
        self.check_wanted(client, number)?;
        let account = &mut self.accounts[client];
        let first = account.arrived.insert(number);
        let again = qos == QoS::ExactlyOnce && !account.exactly_once.insert(number);
        check(!again || self.may_come_again(client, number), || {
            format!("client {client}: QoS 2 message {number} comes twice")
        })?;
        if self.shares[client] {
            return self.check_group_once(client, number, qos);
        }
        if first {
            self.check_order(client, number, qos)
        } else {
            Ok(())
        }
    }

    /// Some subscription explains it. A message of a group may be older than its member.
    fn check_wanted(&self, client: usize, number: MessageNumber) -> Kept {
        let message = &self.messages[number];
        let wanted = |held: &&Held| {
            let filter = held.filter.strip_prefix("$share/group/").unwrap_or(held.filter);
            let before_it = match message.fate {
                Fate::Accepted(at) if message.by.is_some() => at < held.asked && !self.shares[client],
                _ => false,
            };
            let after_it = held.gone.is_some_and(|gone| gone < message.sent);
            topic::matches(filter, message.topic) && !before_it && !after_it
        };
        check(self.accounts[client].held.iter().any(|held| wanted(&held)), || {
            let held = &self.accounts[client].held;
            format!("client {client}: message {number}, {message:?}, comes by no subscription of {held:?}")
        })
    }

    /// What was sent again may be new to somebody who subscribed meanwhile, whose first copy has expired or was dropped at a
    /// bound, or whose shard has refused it while the disk was full, when the next message was under way already.
    fn check_order(&mut self, client: usize, number: MessageNumber, qos: QoS) -> Kept {
        let message = &self.messages[number];
        let Some(by) = message.by else { return Ok(()) };
        let account = &mut self.accounts[client];
        let is_new = message.sends > 1
            && (self.may_refuse || self.may_drop || message.expires || !account.is_owed(message, Moment::MAX));
        let last = account
            .last
            .entry((by, message.topic, message.qos, qos))
            .or_insert(number);
        let before = std::mem::replace(last, number.max(*last));
        check(before <= number || is_new, || {
            format!("client {client}: message {number} of client {by} comes behind {before}")
        })
    }

    /// A will that was being sent when the broker was killed may be sent again; and a message of a group that was on its way
    /// from a session that had ended to another member may go there again.
    fn may_come_again(&self, client: usize, number: MessageNumber) -> bool {
        let is_will = self.messages[number].by.is_none();
        self.restarted && (is_will || (self.shares[client] && self.one_of_group_ended()))
    }

    fn one_of_group_ended(&self) -> bool {
        self.group()
            .any(|account| account.held.iter().any(|held| held.may_be_lost))
    }

    /// At QoS 2 no second member gets it, unless a session that had it came to an end.
    fn check_group_once(&self, client: usize, number: MessageNumber, qos: QoS) -> Kept {
        let mut others = self.accounts.iter().enumerate();
        let has_it = |account: &Account| account.exactly_once.contains(&number);
        let twice = others.find(|(other, account)| *other != client && self.shares[*other] && has_it(account));
        let once = qos != QoS::ExactlyOnce || twice.is_none();
        check(
            once || self.one_of_group_ended() || self.may_come_again(client, number),
            || {
                let other = twice.map(|(other, _)| other);
                format!("clients {client} and {other:?} of one group get QoS 2 message {number}")
            },
        )
    }

    fn group(&self) -> impl Iterator<Item = &Account> {
        self.accounts
            .iter()
            .zip(&self.shares)
            .filter(|(_, shares)| **shares)
            .map(|(account, _)| account)
    }

    /// Pairs of client and message that are owed and have not come.
    pub(crate) fn missing(&self) -> Vec<(usize, MessageNumber)> {
        let mut missing = Vec::new();
        for (number, message) in self.messages.iter().enumerate() {
            let Fate::Accepted(at) = message.fate else { continue };
            if message.qos == QoS::AtMostOnce || message.expires || message.deletes {
                continue;
            }
            // A will goes out some time after its connection was lost.
            let at = if message.by.is_some() { at } else { Moment::MAX };
            for (client, account) in self
                .accounts
                .iter()
                .enumerate()
                .filter(|(client, _)| !self.shares[*client])
            {
                if account.is_owed(message, at) && !account.arrived.contains(&number) {
                    missing.push((client, number));
                }
            }
            if self.is_missing_in_group(number, at) {
                missing.push((usize::MAX, number));
            }
        }
        missing
    }

    fn is_missing_in_group(&self, number: MessageNumber, at: Moment) -> bool {
        let message = &self.messages[number];
        let stable = self
            .group()
            .all(|account| account.held.iter().all(|held| !held.may_be_lost));
        stable
            && self.group().any(|account| account.is_owed(message, at))
            && !self.group().any(|account| account.arrived.contains(&number))
    }

    /// Copies that may have been dropped: each was queued for somebody, and did not come. `None`: a crash makes some count twice.
    pub(crate) fn most_dropped(&self) -> Option<u64> {
        let copies = self.messages.iter().enumerate().flat_map(|(number, message)| {
            let accounts = self.accounts.iter().filter(|account| account.may_be_owed(message));
            accounts.map(move |account| u64::from(message.sends) - u64::from(account.arrived.contains(&number)))
        });
        (!self.restarted).then(|| copies.sum())
    }

    /// The retained message of each topic is one that can be the last.
    pub(crate) fn check_retained(&self, seen: &BTreeMap<&'static str, MessageNumber>) -> Kept {
        for topic in TOPICS {
            let found = seen.get(topic).copied();
            let of_topic = || {
                self.messages
                    .iter()
                    .filter(|message| message.retain && message.topic == topic)
            };
            let replaced_after = |moment: Moment| {
                let after = |message: &&Published| {
                    message.sent > moment && matches!(message.fate, Fate::Accepted(_)) && message.by.is_some()
                };
                of_topic().find(after)
            };
            match found.map(|number| (number, &self.messages[number])) {
                Some((number, message)) => {
                    let settled = match message.fate {
                        Fate::Accepted(at) if message.by.is_some() => at,
                        _ => continue,
                    };
                    let later = replaced_after(settled);
                    check(later.is_none(), || {
                        format!("{topic}: retained message {number} is back after {later:?}")
                    })?;
                }
                None => {
                    let set = of_topic().filter(|m| !m.deletes && !m.expires && m.by.is_some());
                    let mut set = set.filter(|m| m.qos != QoS::AtMostOnce);
                    let undone = |settled: Moment| of_topic().any(|m| m.deletes_possibly_after(settled));
                    let lost = set.find(|m| matches!(m.fate, Fate::Accepted(at) if !undone(m.sent.min(at))));
                    check(lost.is_none(), || {
                        format!("{topic}: its retained message is lost: {lost:?}")
                    })?;
                }
            }
        }
        Ok(())
    }
}

impl Published {
    /// It may have removed a retained message that was sent at `moment`, or come in its place for a while.
    fn deletes_possibly_after(&self, moment: Moment) -> bool {
        let settled = match self.fate {
            Fate::Accepted(at) => at,
            Fate::Open | Fate::Unknown => Moment::MAX,
        };
        (self.deletes || self.expires) && settled > moment
    }
}

impl Account {
    /// The filter is about to change.
    fn close(&mut self, filter: &str, at: Moment) {
        let of_filter = self.held.iter_mut().filter(|held| held.filter == filter);
        of_filter.for_each(|held| _ = held.sure_until.get_or_insert(at));
    }

    /// It was subscribed before the message was sent, and still was when its publisher was told.
    fn is_owed(&self, message: &Published, accepted: Moment) -> bool {
        self.held.iter().any(|held| {
            let filter = held.filter.strip_prefix("$share/group/").unwrap_or(held.filter);
            let until_then = held.sure_until.is_none_or(|until| until > accepted);
            let all_the_time = held.sure_from.is_some_and(|from| from < message.sent) && until_then;
            all_the_time && !held.may_be_lost && held.qos != QoS::AtMostOnce && topic::matches(filter, message.topic)
        })
    }

    fn may_be_owed(&self, message: &Published) -> bool {
        self.held.iter().any(|held| {
            let filter = held.filter.strip_prefix("$share/group/").unwrap_or(held.filter);
            topic::matches(filter, message.topic)
        })
    }
}
