//! Bytes to records.

use super::read::{Malformed, Reader};
use super::{Kind, SUBJECT_CLIENT_ID, SUBJECT_NETWORK, SUBJECT_USER, message};
use nervewire_codec::{PacketId, RetainHandling, SubscriptionOptions, Version};
use nervewire_core::hook::{Certificate, Client, Quotas};
use nervewire_core::message::Source;
use nervewire_core::shard::{Entry, SharedKey};
use nervewire_core::store::{BannedSubject, ClientKey, EnqueuedFor, Record, SessionState, StoredBan, StoredWill};
use std::net::IpAddr;
use std::sync::Arc;

/// The record that these bytes are, all of them.
///
/// # Errors
/// Where they are no record. Nothing panics, whatever they are.
pub fn decode(bytes: &[u8]) -> Result<Record, Malformed> {
    let mut reader = Reader::new(bytes);
    let record = record(&mut reader)?;
    reader.finish()?;
    Ok(record)
}

fn record(r: &mut Reader<'_>) -> Result<Record, Malformed> {
    let kind = Kind::of(r.u8()?).ok_or(Malformed("a kind that does not exist"))?;
    Ok(match kind {
        Kind::Session => Record::Session(Box::new(session_state(r, Quotas::default())?)),
        Kind::BoundedSession => {
            let quotas = quotas(r)?;
            Record::Session(Box::new(session_state(r, quotas)?))
        }
        Kind::Gone => Record::Gone(key(r)?),
        Kind::Subscribed => Record::Subscribed {
            session: key(r)?,
            filter: r.string()?,
            entry: subscription(r)?,
        },
        Kind::Unsubscribed => Record::Unsubscribed {
            session: key(r)?,
            filter: r.string()?,
        },
        Kind::Enqueued => Record::Enqueued {
            order: r.number()?,
            message: message::decode(r)?,
            targets: r.list(target)?,
        },
        Kind::Acknowledged => Record::Acknowledged {
            session: key(r)?,
            order: r.number()?,
        },
        Kind::Received => {
            let (session, packet_id) = identified(r)?;
            Record::Received {
                session,
                packet_id,
                messages: r.list(message::decode)?,
            }
        }
        Kind::Routed => identified(r).map(|(session, packet_id)| Record::Routed { session, packet_id })?,
        Kind::Released => identified(r).map(|(session, packet_id)| Record::Released { session, packet_id })?,
        Kind::Completed => identified(r).map(|(session, packet_id)| Record::Completed { session, packet_id })?,
        Kind::Sent => {
            let (session, packet_id) = identified(r)?;
            Record::Sent {
                session,
                packet_id,
                order: r.number()?,
            }
        }
        Kind::HandedOver => {
            let (session, packet_id) = identified(r)?;
            Record::HandedOver {
                session,
                packet_id,
                order: r.number()?,
            }
        }
        Kind::Retained => Record::Retained(message::decode(r)?),
        Kind::SourcedRetained => {
            let source = Source::unjudged(Arc::new(client(r)?));
            let mut message = Arc::unwrap_or_clone(message::decode(r)?);
            message.source = Some(source);
            Record::Retained(Arc::new(message))
        }
        Kind::RetainedDeleted => Record::RetainedDeleted {
            message: r.number()?,
            tenant: r.option(Reader::text)?,
            topic: r.string()?,
        },
        Kind::Banned => Record::Banned(Box::new(StoredBan {
            subject: subject(r)?,
            since: r.number()?,
            until: r.option(Reader::number)?,
            reason: r.text()?,
            by: r.text()?,
        })),
        Kind::Lifted => Record::Lifted(subject(r)?),
    })
}

fn subject(r: &mut Reader<'_>) -> Result<BannedSubject, Malformed> {
    Ok(match r.u8()? {
        SUBJECT_CLIENT_ID => BannedSubject::ClientId {
            tenant: r.option(Reader::text)?,
            client_id: r.text()?,
        },
        SUBJECT_USER => BannedSubject::User {
            tenant: r.option(Reader::text)?,
            username: r.text()?,
        },
        SUBJECT_NETWORK => BannedSubject::Network {
            address: address(r)?,
            bits: r.u8()?,
        },
        _ => return Err(Malformed("a subject of a ban that does not exist")),
    })
}

fn key(r: &mut Reader<'_>) -> Result<ClientKey, Malformed> {
    Ok(ClientKey {
        tenant: r.option(Reader::text)?,
        client_id: r.text()?,
    })
}

fn identified(r: &mut Reader<'_>) -> Result<(ClientKey, PacketId), Malformed> {
    Ok((key(r)?, r.packet_id()?))
}

fn subscription(r: &mut Reader<'_>) -> Result<Entry, Malformed> {
    Ok(Entry {
        options: options(r)?,
        identifier: r.number_as()?,
    })
}

fn options(r: &mut Reader<'_>) -> Result<SubscriptionOptions, Malformed> {
    Ok(SubscriptionOptions {
        qos: r.qos()?,
        no_local: r.boolean()?,
        retain_as_published: r.boolean()?,
        retain_handling: match r.u8()? {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Malformed("a retain handling that does not exist")),
        },
    })
}

fn target(r: &mut Reader<'_>) -> Result<EnqueuedFor, Malformed> {
    Ok(EnqueuedFor {
        session: key(r)?,
        qos: r.qos()?,
        retain: r.boolean()?,
        identifiers: r.list(Reader::number_as)?,
        shared: r.option(shared_key)?.map(Arc::new),
    })
}

fn shared_key(r: &mut Reader<'_>) -> Result<SharedKey, Malformed> {
    Ok(SharedKey {
        tenant: r.option(Reader::text)?,
        group: r.string()?,
        filter: r.string()?,
    })
}

fn quotas(r: &mut Reader<'_>) -> Result<Quotas, Malformed> {
    Ok(Quotas {
        publish_rate_per_s: r.option(Reader::number_as)?,
        queue_messages: r.option(Reader::number_as)?,
        queue_bytes: r.option(Reader::number)?,
        subscriptions: r.option(Reader::number_as)?,
    })
}

fn session_state(r: &mut Reader<'_>, quotas: Quotas) -> Result<SessionState, Malformed> {
    Ok(SessionState {
        client: Arc::new(client(r)?),
        quotas,
        expiry_interval_s: r.number_as()?,
        expires_at: r.option(Reader::number)?,
        will: r.option(will)?,
    })
}

fn will(r: &mut Reader<'_>) -> Result<StoredWill, Malformed> {
    Ok(StoredWill {
        message: message::decode_app(r)?,
        delay_s: r.number_as()?,
        due_at: r.option(Reader::number)?,
    })
}

fn client(r: &mut Reader<'_>) -> Result<Client, Malformed> {
    Ok(Client {
        client_id: r.text()?,
        username: r.option(Reader::text)?,
        address: address(r)?,
        port: r.number_as()?,
        listener: r.text()?,
        protocol: version(r)?,
        certificate: r.option(certificate)?.map(Arc::new),
        attributes: r.list(|r| Ok((r.text()?, r.text()?)))?,
        tenant: r.option(Reader::text)?,
    })
}

fn address(r: &mut Reader<'_>) -> Result<IpAddr, Malformed> {
    let bytes = r.bytes()?;
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .map_err(|_| Malformed("an address of a length that does not exist"))
}

fn version(r: &mut Reader<'_>) -> Result<Version, Malformed> {
    match r.u8()? {
        3 => Ok(Version::V31),
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        _ => Err(Malformed("a protocol version that does not exist")),
    }
}

fn certificate(r: &mut Reader<'_>) -> Result<Certificate, Malformed> {
    Ok(Certificate {
        subject: r.str()?.into(),
        issuer: r.str()?.into(),
        common_name: r.option(Reader::str)?.map(Into::into),
        alternative_names: r.list(|r| r.str().map(Into::into))?,
        serial: r.str()?.into(),
        fingerprint: r.str()?.into(),
        not_before: r.signed()?,
        not_after: r.signed()?,
    })
}
