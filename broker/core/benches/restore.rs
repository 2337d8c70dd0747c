//! What a start costs a shard for what is in its log: 1,000,000 queued messages, and nothing else to wait for.
//!
//!     cargo bench -p nervewire-core --bench restore

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use nervewire_codec::{QoS, SubscriptionOptions, Utf8String, Version};
use nervewire_core::hook::{AppMessage, Client, Quotas};
use nervewire_core::limits::ShardConfig;
use nervewire_core::message::Message;
use nervewire_core::policy::Policy;
use nervewire_core::shard::{Entry, Shard};
use nervewire_core::store::{ClientKey, Durability, EnqueuedFor, Position, Record, SessionState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const MESSAGES: usize = 1_000_000;
const NOW: u64 = 1_000_000;

fn main() {
    divan::main();
}

/// Each message once, for one session after the other.
#[divan::bench(args = [1, 1_000, 100_000], sample_count = 3, sample_size = 1)]
fn queues_of_sessions(bencher: Bencher<'_, '_>, sessions: usize) {
    let orders = (1..=MESSAGES as u64).collect();
    restore(bencher, sessions, orders);
}

/// A checkpoint has appended the older half again, behind the younger one.
#[divan::bench(args = [1, 1_000, 100_000], sample_count = 3, sample_size = 1)]
fn queues_after_a_checkpoint(bencher: Bencher<'_, '_>, sessions: usize) {
    let half = MESSAGES as u64 / 2;
    let orders = (half + 1..=2 * half).chain(1..=half).collect();
    restore(bencher, sessions, orders);
}

fn restore(bencher: Bencher<'_, '_>, sessions: usize, orders: Vec<u64>) {
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| (shard(), records(sessions, &orders)))
        .bench_local_values(|(mut shard, records)| {
            for (position, (key, record)) in (0..).map(Position).zip(records) {
                shard.restore(key.partition(), position, record);
            }
            let first_number = shard.first_free_number();
            shard.restored(NOW, first_number);
            assert_eq!(shard.counters().queued_messages, MESSAGES as u64);
            shard
        });
}

fn shard() -> Shard {
    let config = ShardConfig {
        durability: Durability::Stored,
        ..ShardConfig::default()
    };
    Shard::new(config, Arc::new(Policy::default()), NOW)
}

fn records(sessions: usize, orders: &[u64]) -> Vec<(ClientKey, Record)> {
    let mut records = Vec::with_capacity(2 * sessions + orders.len());
    for n in 0..sessions {
        let key = key(n);
        records.push((key.clone(), Record::Session(Box::new(session(&key)))));
        let subscribed = Record::Subscribed {
            session: key.clone(),
            filter: text(&format!("site/{n}/+")),
            entry: Entry {
                options: SubscriptionOptions::default(),
                identifier: 0,
            },
        };
        records.push((key, subscribed));
    }
    let enqueued = orders.iter().map(|order| {
        let key = key(*order as usize % sessions);
        let record = Record::Enqueued {
            order: *order,
            message: message(*order),
            targets: vec![target(key.clone())],
        };
        (key, record)
    });
    records.extend(enqueued);
    records
}

fn key(n: usize) -> ClientKey {
    ClientKey {
        tenant: None,
        client_id: format!("client-{n}").into(),
    }
}

fn session(key: &ClientKey) -> SessionState {
    let client = Client {
        client_id: key.client_id.clone(),
        username: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 50_000,
        listener: "127.0.0.1:1883".into(),
        protocol: Version::V5,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    };
    SessionState {
        client: Arc::new(client),
        quotas: Quotas::default(),
        expiry_interval_s: 3_600,
        expires_at: Some(NOW + 3_600_000),
        will: None,
    }
}

fn message(id: u64) -> Arc<Message> {
    Arc::new(Message {
        id,
        accepted_at: NOW,
        app: AppMessage {
            topic: text(&format!("site/{id}/temperature")),
            payload: Bytes::from(vec![b'x'; 100]),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: None,
        },
        expires_at: None,
        publisher: None,
        tenant: None,
        source: None,
    })
}

fn target(session: ClientKey) -> EnqueuedFor {
    EnqueuedFor {
        session,
        qos: QoS::AtLeastOnce,
        retain: false,
        identifiers: Default::default(),
        shared: None,
    }
}

fn text(s: &str) -> Utf8String {
    Utf8String::try_from(s).unwrap_or_default()
}
