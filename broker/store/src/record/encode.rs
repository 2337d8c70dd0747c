//! Records to bytes.

use super::{Kind, SUBJECT_CLIENT_ID, SUBJECT_NETWORK, SUBJECT_USER, message, write};
use nervewire_codec::{PacketId, SubscriptionOptions};
use nervewire_core::hook::{Certificate, Client, Quotas};
use nervewire_core::shard::{Entry, SharedKey};
use nervewire_core::store::{BannedSubject, ClientKey, EnqueuedFor, Record, SessionState, StoredWill};
use std::net::IpAddr;

/// Appends a record to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    write::u8(out, kind(record) as u8);
    match record {
        Record::Session(state) => {
            if state.quotas != Quotas::default() {
                quotas(out, state.quotas);
            }
            session_state(out, state);
        }
        Record::Gone(session) => key(out, session),
        Record::Subscribed { session, filter, entry } => {
            key(out, session);
            write::text(out, filter);
            subscription(out, *entry);
        }
        Record::Unsubscribed { session, filter } => {
            key(out, session);
            write::text(out, filter);
        }
        Record::Enqueued {
            order,
            message,
            targets,
        } => {
            write::number(out, *order);
            message::encode(out, message);
            write::list(out, targets, target);
        }
        Record::Acknowledged { session, order } => {
            key(out, session);
            write::number(out, *order);
        }
        Record::Received {
            session,
            packet_id,
            messages,
        } => {
            identified(out, session, *packet_id);
            write::list(out, messages, |out, message| message::encode(out, message));
        }
        Record::Routed { session, packet_id }
        | Record::Released { session, packet_id }
        | Record::Completed { session, packet_id } => identified(out, session, *packet_id),
        Record::Sent {
            session,
            packet_id,
            order,
        }
        | Record::HandedOver {
            session,
            packet_id,
            order,
        } => {
            identified(out, session, *packet_id);
            write::number(out, *order);
        }
        Record::Retained(message) => {
            if let Some(source) = &message.source {
                client(out, &source.client);
            }
            message::encode(out, message);
        }
        Record::RetainedDeleted { message, tenant, topic } => {
            write::number(out, *message);
            write::optional_text(out, tenant.as_ref());
            write::text(out, topic);
        }
        Record::Banned(ban) => {
            subject(out, &ban.subject);
            write::number(out, ban.since);
            write::optional_number(out, ban.until);
            write::text(out, &ban.reason);
            write::text(out, &ban.by);
        }
        Record::Lifted(lifted) => subject(out, lifted),
    }
}

fn kind(record: &Record) -> Kind {
    match record {
        Record::Session(state) if state.quotas == Quotas::default() => Kind::Session,
        Record::Session(_) => Kind::BoundedSession,
        Record::Gone(_) => Kind::Gone,
        Record::Subscribed { .. } => Kind::Subscribed,
        Record::Unsubscribed { .. } => Kind::Unsubscribed,
        Record::Enqueued { .. } => Kind::Enqueued,
        Record::Acknowledged { .. } => Kind::Acknowledged,
        Record::Received { .. } => Kind::Received,
        Record::Routed { .. } => Kind::Routed,
        Record::Released { .. } => Kind::Released,
        Record::Sent { .. } => Kind::Sent,
        Record::HandedOver { .. } => Kind::HandedOver,
        Record::Completed { .. } => Kind::Completed,
        Record::Retained(message) if message.source.is_some() => Kind::SourcedRetained,
        Record::Retained(_) => Kind::Retained,
        Record::RetainedDeleted { .. } => Kind::RetainedDeleted,
        Record::Banned(_) => Kind::Banned,
        Record::Lifted(_) => Kind::Lifted,
    }
}

fn subject(out: &mut Vec<u8>, subject: &BannedSubject) {
    match subject {
        BannedSubject::ClientId { tenant, client_id } => {
            write::u8(out, SUBJECT_CLIENT_ID);
            write::optional_text(out, tenant.as_ref());
            write::text(out, client_id);
        }
        BannedSubject::User { tenant, username } => {
            write::u8(out, SUBJECT_USER);
            write::optional_text(out, tenant.as_ref());
            write::text(out, username);
        }
        BannedSubject::Network { address: of, bits } => {
            write::u8(out, SUBJECT_NETWORK);
            address(out, *of);
            write::u8(out, *bits);
        }
    }
}

fn key(out: &mut Vec<u8>, key: &ClientKey) {
    write::optional_text(out, key.tenant.as_ref());
    write::text(out, &key.client_id);
}

fn identified(out: &mut Vec<u8>, session: &ClientKey, packet_id: PacketId) {
    key(out, session);
    write::number(out, packet_id.get().into());
}

fn subscription(out: &mut Vec<u8>, entry: Entry) {
    options(out, entry.options);
    write::number(out, entry.identifier.into());
}

fn options(out: &mut Vec<u8>, options: SubscriptionOptions) {
    write::u8(out, options.qos as u8);
    write::boolean(out, options.no_local);
    write::boolean(out, options.retain_as_published);
    write::u8(out, options.retain_handling as u8);
}

fn target(out: &mut Vec<u8>, target: &EnqueuedFor) {
    key(out, &target.session);
    write::u8(out, target.qos as u8);
    write::boolean(out, target.retain);
    write::list(out, &target.identifiers, |out, identifier| {
        write::number(out, u64::from(*identifier));
    });
    write::option(out, target.shared.as_deref(), shared_key);
}

fn shared_key(out: &mut Vec<u8>, key: &SharedKey) {
    write::optional_text(out, key.tenant.as_ref());
    write::text(out, &key.group);
    write::text(out, &key.filter);
}

fn quotas(out: &mut Vec<u8>, quotas: Quotas) {
    write::optional_number(out, quotas.publish_rate_per_s.map(u64::from));
    write::optional_number(out, quotas.queue_messages.map(u64::from));
    write::optional_number(out, quotas.queue_bytes);
    write::optional_number(out, quotas.subscriptions.map(u64::from));
}

fn session_state(out: &mut Vec<u8>, state: &SessionState) {
    client(out, &state.client);
    write::number(out, state.expiry_interval_s.into());
    write::optional_number(out, state.expires_at);
    write::option(out, state.will.as_ref(), will);
}

fn will(out: &mut Vec<u8>, will: &StoredWill) {
    message::encode_app(out, &will.message);
    write::number(out, will.delay_s.into());
    write::optional_number(out, will.due_at);
}

fn client(out: &mut Vec<u8>, client: &Client) {
    write::text(out, &client.client_id);
    write::optional_text(out, client.username.as_ref());
    address(out, client.address);
    write::number(out, client.port.into());
    write::text(out, &client.listener);
    write::u8(out, client.protocol as u8);
    write::option(out, client.certificate.as_deref(), certificate);
    write::list(out, &client.attributes, |out, (name, value)| {
        write::text(out, name);
        write::text(out, value);
    });
    write::optional_text(out, client.tenant.as_ref());
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => write::bytes(out, &address.octets()),
        IpAddr::V6(address) => write::bytes(out, &address.octets()),
    }
}

fn certificate(out: &mut Vec<u8>, certificate: &Certificate) {
    write::text(out, &certificate.subject);
    write::text(out, &certificate.issuer);
    write::option(out, certificate.common_name.as_deref(), write::text);
    write::list(out, &certificate.alternative_names, |out, name| write::text(out, name));
    write::text(out, &certificate.serial);
    write::text(out, &certificate.fingerprint);
    write::signed(out, certificate.not_before);
    write::signed(out, certificate.not_after);
}
