//! Packets that the peer builds and writes itself.

use mqtt_protocol_core::mqtt::packet::{
    Property, Qos, RetainHandling as PeerHandling, SubEntry, SubOpts, TopicAlias, v3_1_1 as v3, v5_0 as v5,
};
use nervewire_codec::{Connect, Publish, QoS, RetainHandling, Subscribe, Version, Will};

fn qos(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

/// The PUBLISH with no other property than its alias.
pub(crate) fn publish(p: &Publish, version: Version) -> Vec<u8> {
    let (topic, payload, id) = (&*p.topic, &p.payload[..], p.packet_id.map(|id| id.get()));
    if version == Version::V311 {
        let builder = v3::Publish::builder()
            .topic_name(topic)
            .expect("valid")
            .qos(qos(p.qos))
            .dup(p.dup)
            .retain(p.retain);
        return builder
            .packet_id(id)
            .payload(payload)
            .build()
            .expect("valid")
            .to_continuous_buffer();
    }
    let alias = p.properties.as_ref().and_then(|properties| properties.topic_alias);
    let alias = alias.map(|alias| Property::TopicAlias(TopicAlias::new(alias).expect("valid")));
    let builder = v5::Publish::builder()
        .topic_name(topic)
        .expect("valid")
        .qos(qos(p.qos))
        .dup(p.dup)
        .retain(p.retain);
    let builder = builder
        .packet_id(id)
        .payload(payload)
        .props(alias.into_iter().collect::<Vec<_>>());
    builder.build().expect("valid").to_continuous_buffer()
}

/// The SUBSCRIBE without properties.
pub(crate) fn subscribe(p: &Subscribe, version: Version) -> Vec<u8> {
    let entry = |item: &nervewire_codec::SubscribeFilter| {
        let options = SubOpts::new().set_qos(qos(item.options.qos));
        let options = match (version, item.options.retain_handling) {
            (Version::V5, RetainHandling::SendIfNew) => options.set_rh(PeerHandling::SendRetainedIfNotExists),
            (Version::V5, RetainHandling::DoNotSend) => options.set_rh(PeerHandling::DoNotSendRetained),
            _ => options,
        };
        let v5 = version == Version::V5;
        let options = options
            .set_nl(v5 && item.options.no_local)
            .set_rap(v5 && item.options.retain_as_published);
        SubEntry::new(&*item.filter, options).expect("valid")
    };
    let (id, entries) = (p.packet_id.get(), p.filters.iter().map(entry).collect::<Vec<_>>());
    match version {
        Version::V5 => v5::Subscribe::builder()
            .packet_id(id)
            .entries(entries)
            .build()
            .expect("valid")
            .to_continuous_buffer(),
        _ => v3::Subscribe::builder()
            .packet_id(id)
            .entries(entries)
            .build()
            .expect("valid")
            .to_continuous_buffer(),
    }
}

/// The CONNECT without properties, in its own version, 3.1.1 or 5.0.
pub(crate) fn connect(p: &Connect) -> Vec<u8> {
    macro_rules! build {
        ($builder:expr) => {{
            let mut builder = $builder.client_id(&*p.client_id).expect("valid");
            builder = builder.clean_start(p.clean_start).keep_alive(p.keep_alive);
            if let Some(Will {
                topic,
                payload,
                qos: level,
                retain,
                ..
            }) = p.will.as_deref()
            {
                builder = builder
                    .will_message(&**topic, payload.to_vec(), qos(*level), *retain)
                    .expect("valid");
            }
            if let Some(name) = p.username.as_deref() {
                builder = builder.user_name(name).expect("valid");
            }
            if let Some(password) = &p.password {
                builder = builder.password(password.to_vec()).expect("valid");
            }
            builder.build().expect("valid").to_continuous_buffer()
        }};
    }
    match p.version {
        Version::V5 => build!(v5::Connect::builder()),
        _ => build!(v3::Connect::builder()),
    }
}
