//! Wills (MQTT 5.0 section 3.1.2.5).

use super::scene::{client, v5, will};
use super::script::{policy, rule};
use super::{each, each_version};
use crate::hook::{Effect, Transformation};
use nervewire_codec::{ReasonCode, Will};

fn delayed(seconds: u32) -> Will {
    let mut will = will("will", 1, "bye");
    will.properties.get_or_insert_default().will_delay_interval = Some(seconds);
    will
}

// [MQTT-3.1.2-8]
#[test]
fn a_will_is_sent_when_the_connection_is_lost() {
    each_version(|b, version| {
        let w = b.connect(client(version, "w"));
        b.subscribe(w, "will", 2);
        let c = b.connect(client(version, "a").will(will("will", 2, "bye")));
        b.lose(c);
        assert_eq!(b.payloads(w), ["bye"]);
    });
}

// [MQTT-3.1.2-10], [MQTT-3.14.4-3]
#[test]
fn a_normal_disconnection_discards_the_will() {
    each_version(|b, version| {
        let w = b.connect(client(version, "w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(client(version, "a").lasting().will(will("will", 1, "bye")));
        b.disconnect(c);
        b.advance(4_000_000);
        assert!(b.payloads(w).is_empty());
    });
}

#[test]
fn disconnect_with_will_message_sends_it() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(v5("a").will(will("will", 1, "bye")));
        b.disconnect_with(c, ReasonCode::DisconnectWithWillMessage, None);
        assert_eq!(b.payloads(w), ["bye"]);
    });
}

#[test]
fn a_will_is_sent_when_keep_alive_or_protocol_fails_or_the_session_is_taken_over() {
    each_version(|b, version| {
        let w = b.connect(client(version, "w"));
        b.subscribe(w, "will", 1);
        let who = || client(version, "a").will(will("will", 1, "bye"));
        b.connect(who().keep_alive(1));
        b.advance(1_500);
        assert_eq!(b.payloads(w), ["bye"], "keep alive");
        let c = b.connect(who());
        b.send(c, nervewire_codec::Packet::PingResp);
        assert_eq!(b.payloads(w), ["bye"], "protocol error");
        b.connect(who());
        b.connect(client(version, "a"));
        assert_eq!(b.payloads(w), ["bye"], "take-over");
    });
}

#[test]
fn a_delayed_will_waits_for_its_delay() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(v5("a").lasting().will(delayed(10)));
        b.lose(c);
        b.advance(9_999);
        assert!(b.payloads(w).is_empty());
        b.advance(1);
        assert_eq!(b.payloads(w), ["bye"]);
    });
}

// [MQTT-3.1.3-9]
#[test]
fn a_reconnection_cancels_a_delayed_will() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(v5("a").lasting().will(delayed(10)));
        b.lose(c);
        b.advance(5_000);
        b.connect(v5("a").lasting());
        b.advance(100_000);
        assert!(b.payloads(w).is_empty());
    });
}

#[test]
fn a_delayed_will_is_sent_when_the_session_ends_first() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(
            v5("a")
                .lasting()
                .with(|p| p.session_expiry_interval = Some(5))
                .will(delayed(10)),
        );
        b.lose(c);
        b.advance(5_000);
        assert_eq!(b.payloads(w), ["bye"]);
        let c = b.connect(v5("a").will(delayed(10)));
        b.lose(c);
        assert_eq!(b.payloads(w), ["bye"], "it ends with its connection");
        let c = b.connect(v5("a").lasting().will(delayed(10)));
        b.lose(c);
        b.connect(v5("a"));
        assert_eq!(b.payloads(w), ["bye"], "a clean start ends it");
    });
}

#[test]
fn a_will_keeps_its_properties_and_counts_its_expiry_from_when_it_is_sent() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let mut will = delayed(10);
        let properties = will.properties.as_mut().unwrap();
        properties.message_expiry_interval = Some(60);
        properties.content_type = Some(super::scene::text("text/plain"));
        let c = b.connect(v5("a").lasting().will(will));
        b.lose(c);
        b.advance(10_000);
        let messages = b.messages(w);
        let properties = messages[0].properties.as_ref().unwrap();
        assert_eq!(properties.message_expiry_interval, Some(60));
        assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(properties.will_delay_interval, None);
    });
}

// [MQTT-3.1.2-15]
#[test]
fn a_retained_will_is_retained() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a").will(Will {
            retain: true,
            ..will("will", 1, "bye")
        }));
        b.lose(c);
        let w = b.connect(client(version, "w"));
        b.subscribe(w, "will", 1);
        assert_eq!(b.payloads(w), ["bye"]);
    });
}

#[test]
fn a_will_that_is_not_allowed_is_refused_at_connect() {
    each_version(|b, version| {
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "will"), rule(Effect::Allow, "#")]);
        let c = b.open(client(version, "a").will(will("will", 1, "bye")));
        assert_eq!(b.connack(c).reason, ReasonCode::NotAuthorized);
        assert!(!b.is_open(c));
        assert_eq!(b.sessions(), 0);
    });
}

#[test]
fn a_will_is_authorized_again_when_it_is_sent() {
    each(|b| {
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(v5("a").will(will("will", 1, "bye")));
        b.set_policy(policy(1, 1, 0));
        b.rules(vec![rule(Effect::Deny, "will"), rule(Effect::Allow, "#")]);
        b.lose(c);
        assert!(b.payloads(w).is_empty());
        assert_eq!(b.total(|c| c.denied_publish), 1);
    });
}

#[test]
fn a_will_is_transformed_when_it_is_sent() {
    each(|b| {
        b.set_policy(policy(1, 1, 1));
        b.transform(|_, message| {
            let mut message = message.clone();
            message.payload = "rewritten".into();
            Ok(Transformation::Replace(message))
        });
        let w = b.connect(v5("w"));
        b.subscribe(w, "will", 1);
        let c = b.connect(v5("a").will(will("will", 1, "bye")));
        b.lose(c);
        assert_eq!(b.payloads(w), ["rewritten"]);
    });
}

#[test]
fn a_will_reaches_the_clients_own_lasting_session() {
    each_version(|b, version| {
        let c = b.connect(client(version, "a").lasting().will(will("will", 1, "bye")));
        b.subscribe(c, "will", 1);
        b.lose(c);
        let c = b.connect(client(version, "a").lasting());
        assert_eq!(b.payloads(c), ["bye"]);
    });
}
