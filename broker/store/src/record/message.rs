//! Messages as bytes.

use super::read::{Malformed, Reader};
use super::write;
use nervewire_codec::Properties;
use nervewire_core::hook::AppMessage;
use nervewire_core::message::Message;
use std::sync::Arc;

pub(super) fn encode(out: &mut Vec<u8>, message: &Message) {
    write::number(out, message.id);
    write::number(out, message.accepted_at);
    write::optional_number(out, message.expires_at);
    write::optional_text(out, message.publisher.as_ref());
    write::optional_text(out, message.tenant.as_ref());
    encode_app(out, &message.app);
}

pub(super) fn decode(r: &mut Reader<'_>) -> Result<Arc<Message>, Malformed> {
    Ok(Arc::new(Message {
        id: r.number()?,
        accepted_at: r.number()?,
        expires_at: r.option(Reader::number)?,
        publisher: r.option(Reader::text)?,
        tenant: r.option(Reader::text)?,
        source: None,
        app: decode_app(r)?,
    }))
}

pub(super) fn encode_app(out: &mut Vec<u8>, app: &AppMessage) {
    write::text(out, &app.topic);
    write::u8(out, app.qos as u8);
    write::boolean(out, app.retain);
    write::bytes(out, &app.payload);
    write::option(out, app.properties.as_deref(), encode_properties);
}

pub(super) fn decode_app(r: &mut Reader<'_>) -> Result<AppMessage, Malformed> {
    Ok(AppMessage {
        topic: r.string()?,
        qos: r.qos()?,
        retain: r.boolean()?,
        payload: r.blob()?,
        properties: r.option(decode_properties)?.map(Arc::new),
    })
}

/// Those that a message has; the others belong to packets, see [`AppMessage::properties`].
fn encode_properties(out: &mut Vec<u8>, p: &Properties) {
    write::option(out, p.payload_format_indicator, write::boolean);
    write::optional_number(out, p.message_expiry_interval.map(u64::from));
    write::optional_string(out, p.content_type.as_ref());
    write::optional_string(out, p.response_topic.as_ref());
    write::option(out, p.correlation_data.as_deref(), write::bytes);
    write::list(out, &p.user_properties, |out, (name, value)| {
        write::text(out, name);
        write::text(out, value);
    });
}

fn decode_properties(r: &mut Reader<'_>) -> Result<Properties, Malformed> {
    Ok(Properties {
        payload_format_indicator: r.option(Reader::boolean)?,
        message_expiry_interval: r.option(Reader::number_as)?,
        content_type: r.option(Reader::string)?,
        response_topic: r.option(Reader::string)?,
        correlation_data: r.option(Reader::blob)?,
        user_properties: r.list(|r| Ok((r.string()?, r.string()?)))?,
        ..Properties::default()
    })
}
