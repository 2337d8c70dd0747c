//! That the oracle sees what it is there for, on histories made by hand.

use super::*;
use crate::support::{Publish, message};

/// A subscriber to `t/#`, whose SUBACK has come.
fn subscribed() -> (Oracle, AccountId) {
    let mut oracle = Oracle::default();
    let account = oracle.account("subscriber", false);
    oracle.subscribing(account, "t/#", QoS::ExactlyOnce);
    oracle.subscribed(account, "t/#");
    (oracle, account)
}

fn sent(oracle: &mut Oracle, qos: QoS) -> MessageId {
    oracle.first_sent("t/a", qos)
}

fn deliver(oracle: &mut Oracle, account: AccountId, id: MessageId, qos: QoS) {
    let publish = message("t/a", payload(id, "t/a"), qos);
    oracle.delivered(&Delivery {
        account,
        publish: &publish,
        before: 0,
    });
}

#[track_caller]
fn expect(oracle: &Oracle, start: &str) {
    let told = oracle.violations();
    assert!(told.len() == 1 && told[0].starts_with(start), "{told:?}");
}

#[test]
fn an_acknowledged_message_that_never_comes_is_lost() {
    let (mut oracle, _) = subscribed();
    let message = sent(&mut oracle, QoS::AtLeastOnce);
    oracle.acknowledged(message);
    assert_eq!(oracle.owed(), 1);
    oracle.write_off();
    expect(&oracle, "lost");
}

#[test]
fn a_message_that_was_not_acknowledged_may_come_or_not() {
    let (mut oracle, account) = subscribed();
    let (one, _) = (sent(&mut oracle, QoS::AtLeastOnce), sent(&mut oracle, QoS::AtLeastOnce));
    deliver(&mut oracle, account, one, QoS::AtLeastOnce);
    oracle.write_off();
    assert!(oracle.violations().is_empty());
}

#[test]
fn a_second_delivery_is_wrong_at_qos_2_and_right_at_qos_1_where_it_was_sent_twice() {
    let (mut oracle, account) = subscribed();
    let once = sent(&mut oracle, QoS::AtLeastOnce);
    deliver(&mut oracle, account, once, QoS::AtLeastOnce);
    deliver(&mut oracle, account, once, QoS::AtLeastOnce);
    assert!(oracle.violations().is_empty());
    let exactly = sent(&mut oracle, QoS::ExactlyOnce);
    deliver(&mut oracle, account, exactly, QoS::ExactlyOnce);
    deliver(&mut oracle, account, exactly, QoS::ExactlyOnce);
    expect(&oracle, "duplicate");
}

#[test]
fn a_message_that_comes_twice_on_one_connection_was_sent_twice() {
    let (mut oracle, account) = subscribed();
    let id = sent(&mut oracle, QoS::AtLeastOnce);
    let publish = message("t/a", payload(id, "t/a"), QoS::AtLeastOnce);
    oracle.delivered(&Delivery {
        account,
        publish: &publish,
        before: 0,
    });
    oracle.sent_again(id);
    oracle.delivered(&Delivery {
        account,
        publish: &publish,
        before: 1,
    });
    assert!(oracle.violations().is_empty());
    oracle.delivered(&Delivery {
        account,
        publish: &publish,
        before: 2,
    });
    expect(&oracle, "came again");
}

#[test]
fn an_older_message_after_a_newer_one_is_reordered_unless_it_came_before() {
    let (mut oracle, account) = subscribed();
    let [first, second, third] = [(); 3].map(|()| sent(&mut oracle, QoS::AtLeastOnce));
    for message in [first, third, first, third] {
        deliver(&mut oracle, account, message, QoS::AtLeastOnce);
    }
    assert!(oracle.violations().is_empty());
    deliver(&mut oracle, account, second, QoS::AtLeastOnce);
    expect(&oracle, "reordered");
}

#[test]
fn what_was_sent_again_may_come_late_where_it_came_too_early_for_the_subscription() {
    let mut oracle = Oracle::default();
    let account = oracle.account("subscriber", false);
    let [first, second, third] = [(); 3].map(|()| sent(&mut oracle, QoS::AtLeastOnce));
    oracle.subscribing(account, "t/#", QoS::AtLeastOnce);
    oracle.subscribed(account, "t/#");
    oracle.sent_again(first);
    for message in [third, first] {
        deliver(&mut oracle, account, message, QoS::AtLeastOnce);
    }
    assert!(oracle.violations().is_empty());
    deliver(&mut oracle, account, second, QoS::AtLeastOnce);
    expect(&oracle, "reordered");
}

#[test]
fn what_was_acknowledged_before_the_subscribe_must_not_come() {
    let mut oracle = Oracle::default();
    let account = oracle.account("subscriber", false);
    let message = sent(&mut oracle, QoS::AtLeastOnce);
    oracle.acknowledged(message);
    oracle.subscribing(account, "t/#", QoS::AtLeastOnce);
    deliver(&mut oracle, account, message, QoS::AtLeastOnce);
    expect(&oracle, "revived");
}

#[test]
fn what_was_sent_after_the_unsuback_must_not_come() {
    let (mut oracle, account) = subscribed();
    oracle.unsubscribing(account, "t/#");
    let early = sent(&mut oracle, QoS::AtLeastOnce);
    oracle.unsubscribed(account, "t/#");
    deliver(&mut oracle, account, early, QoS::AtLeastOnce);
    assert!(oracle.violations().is_empty());
    let late = sent(&mut oracle, QoS::AtLeastOnce);
    deliver(&mut oracle, account, late, QoS::AtLeastOnce);
    expect(&oracle, "revived");
}

#[test]
fn nothing_of_a_session_is_owed_or_may_come_after_its_end() {
    let (mut oracle, account) = subscribed();
    let message = sent(&mut oracle, QoS::AtLeastOnce);
    oracle.acknowledged(message);
    oracle.ending_session(account);
    assert_eq!(oracle.owed(), 0);
    oracle.ended_session(account);
    deliver(&mut oracle, account, message, QoS::AtLeastOnce);
    expect(&oracle, "revived");
}

#[test]
fn a_session_is_expected_where_the_last_connack_made_one() {
    let mut oracle = Oracle::default();
    let durable = Request {
        client: "c",
        clean_start: false,
        durable: true,
        account: None,
    };
    let ending = Request {
        clean_start: true,
        durable: false,
        ..durable.clone()
    };
    for (request, present) in [(&durable, false), (&durable, true), (&ending, false), (&durable, false)] {
        oracle.connecting(request);
        oracle.connected(request, present);
    }
    assert!(oracle.violations().is_empty());
    oracle.connecting(&durable);
    oracle.connected(&durable, false);
    expect(&oracle, "session lost");
}

#[test]
fn an_unanswered_connect_may_have_made_a_session() {
    for present in [false, true] {
        let mut oracle = Oracle::default();
        let durable = Request {
            client: "c",
            clean_start: false,
            durable: true,
            account: None,
        };
        let ending = Request {
            clean_start: true,
            durable: false,
            ..durable.clone()
        };
        oracle.connecting(&ending);
        oracle.connected(&ending, false);
        oracle.connecting(&durable);
        oracle.connecting(&durable);
        oracle.connected(&durable, present);
        assert!(oracle.violations().is_empty());
    }
}

#[test]
fn a_payload_is_known_to_the_last_byte() {
    let (mut oracle, account) = subscribed();
    let id = sent(&mut oracle, QoS::AtLeastOnce);
    let mut altered = payload(id, "t/a");
    *altered.last_mut().expect("not empty") += 1;
    let publish = message("t/a", altered, QoS::AtLeastOnce);
    oracle.delivered(&Delivery {
        account,
        publish: &publish,
        before: 0,
    });
    expect(&oracle, "altered");
}

/// Two retained messages on a topic, the first acknowledged, and what a subscriber that comes then may see.
fn retained() -> (Oracle, [MessageId; 3], RetainedView) {
    let mut oracle = Oracle::default();
    let ids = [(); 3].map(|()| {
        let id = oracle.first_sent("t/a", QoS::AtLeastOnce);
        oracle.retaining("t/a", id, false);
        id
    });
    oracle.retained("t/a", ids[1]);
    let view = oracle.retained_view();
    (oracle, ids, view)
}

fn see(oracle: &mut Oracle, view: &mut RetainedView, id: MessageId) {
    let publish = Publish {
        retain: true,
        ..message("t/a", payload(id, "t/a"), QoS::AtLeastOnce)
    };
    oracle.saw_retained(view, &publish);
}

#[test]
fn the_last_acknowledged_retained_message_is_right_and_so_is_a_later_one() {
    let (mut oracle, ids, mut view) = retained();
    assert_eq!(oracle.retained_missing(&view), ["t/a"]);
    see(&mut oracle, &mut view, ids[1]);
    see(&mut oracle, &mut view, ids[2]);
    assert!(oracle.violations().is_empty() && oracle.retained_missing(&view).is_empty());
    see(&mut oracle, &mut view, ids[0]);
    expect(&oracle, "retained");
}

#[test]
fn a_deleted_retained_message_must_not_come_and_is_not_missed() {
    let (mut oracle, ids, _) = retained();
    let deletion = oracle.first_sent("t/a", QoS::AtLeastOnce);
    oracle.retaining("t/a", deletion, true);
    oracle.retained("t/a", deletion);
    let mut view = oracle.retained_view();
    assert!(oracle.retained_missing(&view).is_empty());
    see(&mut oracle, &mut view, ids[2]);
    expect(&oracle, "retained");
}
