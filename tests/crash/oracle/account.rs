//! What one subscriber, or one group of shared subscribers, is owed and has got.

use super::{Message, MessageId, Newest, Oracle, Step, matches};
use crate::support::{Publish, QoS};
use std::collections::BTreeSet;

/// An account's place among the oracle's.
pub(crate) type AccountId = usize;

#[derive(Default)]
pub(super) struct Account {
    name: String,
    /// Several sessions share it: each message comes to one of them, in no order.
    shared: bool,
    subscriptions: Vec<Subscription>,
    /// Of the same session, and left: what was queued then may still come.
    left: Vec<Subscription>,
    owed: BTreeSet<MessageId>,
    got: BTreeSet<MessageId>,
    /// The newest message of each topic.
    newest: Newest,
}

/// A filter from its SUBSCRIBE on.
#[derive(Debug)]
struct Subscription {
    filter: String,
    qos: QoS,
    /// The SUBSCRIBE was first sent.
    asked: Step,
    /// The SUBACK came.
    granted: Option<Step>,
    /// UNSUBSCRIBE, or the CONNECT that ends the session, was first sent.
    leaving: Option<Step>,
    /// And was acknowledged.
    left: Option<Step>,
}

/// A PUBLISH that a subscriber took for a new message.
pub(crate) struct Delivery<'a> {
    pub(crate) account: AccountId,
    pub(crate) publish: &'a Publish,
    /// How often the same message had come on the same connection before.
    pub(crate) before: u32,
}

impl Account {
    pub(super) fn acknowledged(&mut self, message: MessageId, known: &Message) {
        let promised = |subscription: &Subscription| {
            let granted = subscription.granted.is_some_and(|granted| granted < known.sent);
            granted && subscription.leaving.is_none() && matches(&subscription.filter, &known.topic)
        };
        if self.subscriptions.iter().any(promised) {
            self.owe(message);
        }
    }

    pub(super) fn owe(&mut self, message: MessageId) {
        if !self.got.contains(&message) {
            self.owed.insert(message);
        }
    }

    pub(super) fn has(&self, message: MessageId) -> bool {
        self.got.contains(&message)
    }

    pub(super) fn owed(&self) -> usize {
        self.owed.len()
    }

    pub(super) fn write_off(&mut self) -> (String, BTreeSet<MessageId>) {
        (self.name.clone(), std::mem::take(&mut self.owed))
    }

    fn open(&mut self, filter: &str) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| subscription.filter == filter)
    }

    /// By which subscription the message may come; `None` where it must not come at all. A message is routed between its first
    /// PUBLISH and its acknowledgement, and must meet the subscription then.
    fn allowed(&self, message: &Message) -> Option<&Subscription> {
        let met = |subscription: &&Subscription| {
            let early_enough = message
                .acknowledged
                .is_none_or(|acknowledged| subscription.asked < acknowledged);
            let late_enough = subscription.left.is_none_or(|left| message.sent < left);
            early_enough && late_enough && matches(&subscription.filter, &message.topic)
        };
        self.subscriptions.iter().chain(self.left.iter().rev()).find(met)
    }
}

impl Subscription {
    /// Whether the message may come after younger ones: the first time it came too early for the subscription, to which it is
    /// not promised. It was under way when the connection or the broker was lost, and has come or was routed again since.
    fn may_be_late(&self, message: &Message, last_death: Step) -> bool {
        let early = self.granted.is_none_or(|granted| message.sent < granted);
        early && (message.transmissions > 1 || message.sent < last_death)
    }
}

impl Account {
    /// Why a message should not have come.
    fn told(&self, message: &Message) -> String {
        let Message {
            sent,
            acknowledged,
            forbidden,
            ..
        } = message;
        let about = |subscription: &&Subscription| matches(&subscription.filter, &message.topic);
        let open: Vec<&Subscription> = self.subscriptions.iter().filter(about).collect();
        let last = self.left.iter().rev().find(about);
        format!(
            "sent at {sent}, acknowledged at {acknowledged:?}, cancelled {forbidden}, while {open:?}, before {last:?}"
        )
    }
}

impl Oracle {
    pub(crate) fn account(&mut self, name: &str, shared: bool) -> AccountId {
        let name = name.to_owned();
        self.accounts.push(Account {
            name,
            shared,
            ..Account::default()
        });
        self.accounts.len() - 1
    }

    /// A SUBSCRIBE is sent, perhaps again.
    pub(crate) fn subscribing(&mut self, account: AccountId, filter: &str, qos: QoS) {
        let asked = self.step();
        let account = &mut self.accounts[account];
        if account.open(filter).is_none() {
            account.subscriptions.push(Subscription {
                filter: filter.to_owned(),
                qos,
                asked,
                granted: None,
                leaving: None,
                left: None,
            });
        }
    }

    /// The SUBACK came.
    pub(crate) fn subscribed(&mut self, account: AccountId, filter: &str) {
        let now = self.step();
        if let Some(open) = self.accounts[account].open(filter) {
            open.granted.get_or_insert(now);
        }
    }

    /// An UNSUBSCRIBE is sent, perhaps again.
    pub(crate) fn unsubscribing(&mut self, account: AccountId, filter: &str) {
        let now = self.step();
        if let Some(open) = self.accounts[account].open(filter) {
            open.leaving.get_or_insert(now);
        }
    }

    /// The UNSUBACK came.
    pub(crate) fn unsubscribed(&mut self, account: AccountId, filter: &str) {
        let now = self.step();
        let account = &mut self.accounts[account];
        let place = account
            .subscriptions
            .iter()
            .position(|subscription| subscription.filter == filter);
        if let Some(place) = place {
            let subscription = account.subscriptions.remove(place);
            account.left.push(Subscription {
                left: Some(now),
                ..subscription
            });
        }
    }

    /// A CONNECT with clean start is sent: nothing is owed any more.
    pub(crate) fn ending_session(&mut self, account: AccountId) {
        let now = self.step();
        let account = &mut self.accounts[account];
        account.owed.clear();
        for subscription in &mut account.subscriptions {
            subscription.leaving.get_or_insert(now);
        }
    }

    /// And its CONNACK came: not even what was queued may come.
    pub(crate) fn ended_session(&mut self, account: AccountId) {
        let account = &mut self.accounts[account];
        account.subscriptions.clear();
        account.left.clear();
    }

    /// The broker has no session where there must be one: all that was owed to it is lost.
    pub(super) fn session_is_lost(&mut self, account: AccountId) {
        self.write_off_account(account);
        self.ending_session(account);
        self.ended_session(account);
    }

    /// A message came that is no redelivery by its packet identifier. Which message it is, where it is one of ours.
    pub(crate) fn delivered(&mut self, delivery: &Delivery<'_>) -> Option<MessageId> {
        let publish = delivery.publish;
        let (topic, name) = (&*publish.topic, self.accounts[delivery.account].name.clone());
        self.figures.delivered += 1;
        let Some(message) = self.identify(topic, &publish.payload) else {
            self.violation(format!("altered: {name} got {publish:?}"));
            return None;
        };
        for wrong in self.judge(message, delivery) {
            self.violation(format!("{wrong}: {message} on {topic} for {name}"));
        }
        let account = &mut self.accounts[delivery.account];
        account.owed.remove(&message);
        account.got.insert(message);
        Some(message)
    }

    fn judge(&mut self, message: MessageId, delivery: &Delivery<'_>) -> Vec<String> {
        let known = &self.messages[message as usize];
        let account = &mut self.accounts[delivery.account];
        let mut wrong = Vec::new();
        let allowed = account.allowed(known).filter(|_| !known.forbidden);
        let may_be_late = allowed.is_some_and(|subscription| subscription.may_be_late(known, self.last_death));
        let allowed = allowed.map(|subscription| subscription.qos.min(known.qos));
        if allowed.is_none() {
            wrong.push(format!("revived, {}", account.told(known)));
            self.figures.revived += 1;
        } else if allowed != Some(delivery.publish.qos) {
            wrong.push(format!("{:?} instead of {allowed:?}", delivery.publish.qos));
        }
        if !account.got.contains(&message) {
            let newest = account.newest.entry(known.topic.clone()).or_insert(message);
            let is_late = *newest > message && !account.shared;
            if is_late && may_be_late {
                self.figures.late += 1;
            } else if is_late {
                wrong.push(format!("reordered, {newest} came before"));
                self.figures.reordered += 1;
            }
            *newest = message.max(*newest);
        } else if delivery.publish.qos == QoS::ExactlyOnce {
            wrong.push("duplicate at QoS 2".to_owned());
            self.figures.duplicates += 1;
        } else if delivery.before >= known.transmissions {
            wrong.push("came again without a cause".to_owned());
        } else {
            self.figures.redelivered += 1;
        }
        wrong
    }
}
