//! What a change reaches that comes after something was let in: live and durable subscriptions, retained messages, wills, delayed
//! wills, messages in flight and queued, shared subscriptions and takeovers. Each is judged again when it goes out: after a rule or
//! an identity was taken away (`revoke`), a client was banned (`ban`), and what let it in has run out (`expire`).

#[path = "revocation/ban.rs"]
mod ban;
#[path = "revocation/expire.rs"]
mod expire;
#[path = "revocation/revoke.rs"]
mod revoke;
mod support;

use support::*;

/// Both versions, and what tells their clients apart.
const VERSIONS: [(Version, &str); 2] = [(Version::V311, "old"), (Version::V5, "new")];

/// A broker with a store and two shards, in which nobody has a right that these tables do not give.
fn setup(tables: &str) -> Setup {
    Setup::new()
        .shards(2)
        .broker(ON_DISK)
        .auth("anonymous = \"loopback\"\ndefault = \"deny\"")
        .toml(tables)
}

/// The bundled acl with these rules.
fn acl(rules: &[&str]) -> String {
    let rules = rules.join(", ");
    format!("[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n{PATIENT}config.rules = [{rules}]\n")
}

/// What was denied so far for this action.
fn denied(broker: &Broker, action: &str) -> f64 {
    metric(broker, "nervewire_authorization_denied_total", &[("action", action)])
}

/// Waits until something more was denied.
fn await_denial(broker: &Broker, action: &str, before: f64) {
    wait_for("a denial", || (denied(broker, action) > before).then_some(()));
}

/// Waits until a client that has no durable session is gone, its will with it.
fn await_end(broker: &Broker, client: &str) {
    wait_for("the client to be gone", || {
        (get(broker, &format!("/v1/clients/{client}")).status == 404).then_some(())
    });
}

/// A durable session with a message in flight at QoS 1 and one at QoS 2, whose client is gone: their identifiers.
fn leave_unacknowledged(broker: &Broker, connect: Connect, topic: &str, publisher: &mut Client) -> Vec<PacketId> {
    let mut client = Client::connect(broker, connect).0;
    client.subscribe(topic, QoS::ExactlyOnce);
    let mut ids = Vec::new();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish(topic, "in flight", qos);
        ids.extend(client.expect_publish().packet_id);
    }
    ids
}

/// What comes until the payload `end`, PUBRELs answered: the payloads before it, and the identifiers that were given up.
fn until_end(client: &mut Client) -> (Vec<String>, Vec<PacketId>) {
    let (mut payloads, mut released) = (Vec::new(), Vec::new());
    loop {
        match client.recv() {
            Packet::Publish(publish) => {
                if let Some(id) = publish.packet_id {
                    match publish.qos {
                        QoS::ExactlyOnce => client.send(Packet::PubRec(ack(id))),
                        _ => client.send(Packet::PubAck(ack(id))),
                    }
                }
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                if payload == "end" {
                    return (payloads, released);
                }
                payloads.push(payload);
            }
            Packet::PubRel(of) => {
                released.push(of.packet_id);
                client.send(Packet::PubComp(ack(of.packet_id)));
            }
            other => panic!("{other:?}"),
        }
    }
}
