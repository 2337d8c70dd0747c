//! Arbitrary records.

use bytes::Bytes;
use nervewire_codec::{PacketId, Properties, QoS, RetainHandling, SubscriptionOptions, Utf8String, Version};
use nervewire_core::hook::{AppMessage, Certificate, Client, Quotas};
use nervewire_core::message::{Message, Source};
use nervewire_core::shard::{Entry, SharedKey};
use nervewire_core::store::{BannedSubject, ClientKey, EnqueuedFor, Record, SessionState, StoredBan, StoredWill};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) fn record() -> impl Strategy<Value = Record> {
    let identified = || (key(), any::<PacketId>());
    let ordered = || (key(), any::<PacketId>(), any::<u64>());
    let filter = || (key(), string());
    prop_oneof![
        session_state().prop_map(|state| Record::Session(Box::new(state))),
        key().prop_map(Record::Gone),
        (filter(), entry()).prop_map(|((session, filter), entry)| Record::Subscribed { session, filter, entry }),
        filter().prop_map(|(session, filter)| Record::Unsubscribed { session, filter }),
        (any::<u64>(), message(), vec(target(), 0..4)).prop_map(|(order, message, targets)| Record::Enqueued {
            order,
            message,
            targets
        }),
        (key(), any::<u64>()).prop_map(|(session, order)| Record::Acknowledged { session, order }),
        (identified(), vec(message(), 0..3)).prop_map(|((session, packet_id), messages)| Record::Received {
            session,
            packet_id,
            messages
        }),
        identified().prop_map(|(session, packet_id)| Record::Routed { session, packet_id }),
        identified().prop_map(|(session, packet_id)| Record::Released { session, packet_id }),
        ordered().prop_map(|(session, packet_id, order)| Record::Sent {
            session,
            packet_id,
            order
        }),
        ordered().prop_map(|(session, packet_id, order)| Record::HandedOver {
            session,
            packet_id,
            order
        }),
        identified().prop_map(|(session, packet_id)| Record::Completed { session, packet_id }),
        message().prop_map(Record::Retained),
        sourced_message().prop_map(Record::Retained),
        (any::<u64>(), of(text()), string()).prop_map(|(message, tenant, topic)| Record::RetainedDeleted {
            message,
            tenant,
            topic
        }),
        (subject(), any::<u64>(), of(any::<u64>()), text(), text()).prop_map(|(subject, since, until, reason, by)| {
            Record::Banned(Box::new(StoredBan {
                subject,
                since,
                until,
                reason,
                by,
            }))
        }),
        subject().prop_map(Record::Lifted),
    ]
}

fn subject() -> impl Strategy<Value = BannedSubject> {
    prop_oneof![
        (of(text()), text()).prop_map(|(tenant, client_id)| BannedSubject::ClientId { tenant, client_id }),
        (of(text()), text()).prop_map(|(tenant, username)| BannedSubject::User { tenant, username }),
        (any::<IpAddr>(), any::<u8>()).prop_map(|(address, bits)| BannedSubject::Network { address, bits }),
    ]
}

/// Short ones mostly; a long one needs more than a byte for its length.
fn characters() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z0-9 /+#$äß€🦀]{0,12}", 1 => "[a-z]{120,300}"]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    characters().prop_map(Arc::from)
}

fn string() -> impl Strategy<Value = Utf8String> {
    characters().prop_map(|text| Utf8String::try_from(text).expect("a string of MQTT"))
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn key() -> impl Strategy<Value = ClientKey> {
    (of(text()), text()).prop_map(|(tenant, client_id)| ClientKey { tenant, client_id })
}

fn qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn properties() -> impl Strategy<Value = Arc<Properties>> {
    let values = (
        of(any::<bool>()),
        of(any::<u32>()),
        of(string()),
        of(string()),
        of(blob()),
    );
    (values, vec((string(), string()), 0..3)).prop_map(|(values, user_properties)| {
        let (payload_format_indicator, message_expiry_interval, content_type, response_topic, correlation_data) =
            values;
        Arc::new(Properties {
            payload_format_indicator,
            message_expiry_interval,
            content_type,
            response_topic,
            correlation_data,
            user_properties,
            ..Properties::default()
        })
    })
}

fn app_message() -> impl Strategy<Value = AppMessage> {
    (string(), blob(), qos(), any::<bool>(), of(properties())).prop_map(|(topic, payload, qos, retain, properties)| {
        AppMessage {
            topic,
            payload,
            qos,
            retain,
            properties,
        }
    })
}

fn message() -> impl Strategy<Value = Arc<Message>> {
    let numbers = (any::<u64>(), any::<u64>(), of(any::<u64>()));
    (numbers, app_message(), of(text()), of(text())).prop_map(
        |((id, accepted_at, expires_at), app, publisher, tenant)| {
            Arc::new(Message {
                id,
                accepted_at,
                app,
                expires_at,
                publisher,
                tenant,
                source: None,
            })
        },
    )
}

fn sourced_message() -> impl Strategy<Value = Arc<Message>> {
    (message(), client()).prop_map(|(message, client)| {
        let mut message = Arc::unwrap_or_clone(message);
        message.source = Some(Source::unjudged(client));
        Arc::new(message)
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let handling = select(vec![
        RetainHandling::Send,
        RetainHandling::SendIfNew,
        RetainHandling::DoNotSend,
    ]);
    (qos(), any::<bool>(), any::<bool>(), handling, any::<u32>()).prop_map(
        |(qos, no_local, retain_as_published, retain_handling, identifier)| Entry {
            options: SubscriptionOptions {
                qos,
                no_local,
                retain_as_published,
                retain_handling,
            },
            identifier,
        },
    )
}

fn target() -> impl Strategy<Value = EnqueuedFor> {
    let shared = (of(text()), string(), string())
        .prop_map(|(tenant, group, filter)| Arc::new(SharedKey { tenant, group, filter }));
    (key(), qos(), any::<bool>(), vec(any::<u32>(), 0..4), of(shared)).prop_map(
        |(session, qos, retain, identifiers, shared)| EnqueuedFor {
            session,
            qos,
            retain,
            identifiers: identifiers.into(),
            shared,
        },
    )
}

fn certificate() -> impl Strategy<Value = Arc<Certificate>> {
    let names = (characters(), characters(), of(characters()), vec(characters(), 0..3));
    (names, characters(), characters(), any::<i64>(), any::<i64>()).prop_map(
        |((subject, issuer, common_name, alternative_names), serial, fingerprint, not_before, not_after)| {
            Arc::new(Certificate {
                subject,
                issuer,
                common_name,
                alternative_names,
                serial,
                fingerprint,
                not_before,
                not_after,
            })
        },
    )
}

fn client() -> impl Strategy<Value = Arc<Client>> {
    let names = (text(), of(text()), text(), of(text()));
    let peer = (
        any::<IpAddr>(),
        any::<u16>(),
        select(vec![Version::V31, Version::V311, Version::V5]),
    );
    (names, peer, of(certificate()), vec((text(), text()), 0..3)).prop_map(
        |((client_id, username, listener, tenant), (address, port, protocol), certificate, attributes)| {
            Arc::new(Client {
                client_id,
                username,
                address,
                port,
                listener,
                protocol,
                certificate,
                attributes,
                tenant,
            })
        },
    )
}

fn session_state() -> impl Strategy<Value = SessionState> {
    let will = (app_message(), any::<u32>(), of(any::<u64>()));
    let will = will.prop_map(|(message, delay_s, due_at)| StoredWill {
        message,
        delay_s,
        due_at,
    });
    let state = (client(), quotas(), any::<u32>(), of(any::<u64>()), of(will));
    state.prop_map(|(client, quotas, expiry_interval_s, expires_at, will)| SessionState {
        client,
        quotas,
        expiry_interval_s,
        expires_at,
        will,
    })
}

/// Mostly those of sessions that have none of their own.
fn quotas() -> impl Strategy<Value = Quotas> {
    let own = (of(any::<u32>()), of(any::<u32>()), of(any::<u64>()), of(any::<u32>()));
    let own = own.prop_map(
        |(publish_rate_per_s, queue_messages, queue_bytes, subscriptions)| Quotas {
            publish_rate_per_s,
            queue_messages,
            queue_bytes,
            subscriptions,
        },
    );
    prop_oneof![Just(Quotas::default()), own]
}
