//! Shards of the core, and as much of a driver, a mesh, a store and plugins as operations need to reach them.

use crate::client::{Client, Link};
use crate::operations::Operations;
use crate::plugins::{Here, answer_to, policy};
use nervewire_codec::*;
use nervewire_core::hook::AppMessage;
use nervewire_core::limits::{MAX_IN_FLIGHT_MESSAGES, ShardConfig};
use nervewire_core::shard::*;
use nervewire_core::store::*;
use nervewire_core::time::Millis;
use std::collections::{BTreeMap, VecDeque};

pub(crate) const CLIENTS: [&str; 4] = ["a", "b", "c", "d"];
pub(crate) const TOPICS: [&str; 5] = ["t", "t/u", "t/u/v", "$d", "s"];
/// The one that shared subscriptions are about: what they and others bring may come by both.
pub(crate) const SHARED_TOPIC: &str = "s";
pub(crate) const FILTERS: [&str; 8] = ["t", "t/#", "#", "+/u", "t/+/v", "$d", "$share/g/s", "s"];
pub(crate) const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const QUEUE_MESSAGES: u32 = 20;
const QUEUE_BYTES: u64 = 2_000;
const SESSIONS: usize = 3;
const MAX_PACKET_BYTES: u32 = 1 << 16;
/// Far more passes than anything here takes.
const MAX_PASSES: usize = 10_000;

/// A shard, and what is on its way to and from it.
pub(crate) struct Station {
    pub(crate) shard: Shard,
    pub(crate) links: BTreeMap<ConnId, Link>,
    calls: VecDeque<(CallId, Call)>,
    /// Appended, and not durable.
    appended: VecDeque<(Ticket, Vec<Position>)>,
    fetches: VecDeque<Fetch>,
    /// From each shard, in order.
    mesh: Vec<VecDeque<MeshMessage>>,
    trouble: Option<AppendFailed>,
}

pub(crate) struct World {
    pub(crate) stations: Vec<Station>,
    pub(crate) clients: Vec<Client>,
    pub(crate) now: u64,
    log: BTreeMap<Partition, Vec<Record>>,
    generation: u64,
    has_plugins: bool,
    /// They are called on the shards' own threads, where they can be.
    are_here: bool,
    pub(crate) numbers: u32,
}

impl World {
    pub(crate) fn new(operations: &mut Operations<'_>) -> Self {
        let kind = operations.byte();
        let shards = 1 + u16::from(kind & 3) % 3;
        let durability = if kind & 4 == 0 {
            Durability::Memory
        } else {
            Durability::Stored
        };
        let has_plugins = kind & 8 != 0;
        let now = 1_000_000;
        // To see that this finds what it is for: NERVEWIRE_PLANTED=1 must end in a finding.
        let is_planted = std::env::var_os("NERVEWIRE_PLANTED").is_some();
        let station = |shard| Station {
            shard: Shard::new(
                ShardConfig {
                    shard,
                    shards,
                    durability,
                    sessions: SESSIONS,
                    queue_messages: QUEUE_MESSAGES,
                    queue_bytes: QUEUE_BYTES,
                    retained_messages: 4,
                    max_packet_bytes: MAX_PACKET_BYTES,
                    ..ShardConfig::default()
                },
                policy(1, has_plugins),
                now,
            ),
            links: BTreeMap::new(),
            calls: VecDeque::new(),
            appended: VecDeque::new(),
            fetches: VecDeque::new(),
            mesh: (0..shards).map(|_| VecDeque::new()).collect(),
            trouble: None,
        };
        let mut stations: Vec<Station> = (0..shards).map(station).collect();
        if is_planted {
            let plant = |station: &mut Station| station.shard.plant(nervewire_core::planted::Planted::ForgetIdentifier);
            stations.iter_mut().for_each(plant);
        }
        Self {
            stations,
            clients: CLIENTS.iter().map(|_| Client::default()).collect(),
            now,
            log: BTreeMap::new(),
            generation: 1,
            has_plugins,
            are_here: kind & 16 != 0,
            numbers: 0,
        }
    }

    /// One operation, and what leaves the shards after it.
    pub(crate) fn carry_out(&mut self, operations: &mut Operations<'_>) {
        let what = operations.byte();
        let s = operations.index(self.stations.len());
        match what % 16 {
            0 | 1 => self.connect(operations),
            2..=7 => self.send(s, operations),
            8 => self.lose(s, operations),
            9 => self.pass_time(operations),
            10 => self.answer(s, operations),
            11 => self.complete(s, 1 + operations.index(8)),
            12 => self.fetch(s),
            13 => self.deliver_mesh(s, operations),
            14 => self.trouble(s, operations),
            _ => self.manage(s, operations),
        }
        for s in 0..self.stations.len() {
            self.leave(s);
        }
        self.check_bounds();
    }

    /// The next packet of a client that may be fed.
    fn send(&mut self, s: usize, operations: &mut Operations<'_>) {
        let ready: Vec<ConnId> = self.stations[s]
            .links
            .iter()
            .filter(|(_, link)| link.ready && link.is_connected)
            .map(|(id, _)| *id)
            .collect();
        if ready.is_empty() {
            return;
        }
        let id = operations.pick(&ready);
        let (version, client) = (self.stations[s].links[&id].version, self.stations[s].links[&id].client);
        let Some(packet) = self.packet(client, version, operations) else {
            return;
        };
        let mut bytes = Vec::new();
        if encode(&packet, version, &mut bytes).is_ok() {
            self.feed(s, id, &bytes, operations);
        }
    }

    fn feed(&mut self, s: usize, id: ConnId, bytes: &[u8], operations: &mut Operations<'_>) {
        let (now, are_here) = (self.now, self.are_here);
        let station = &mut self.stations[s];
        let Some(link) = station.links.get_mut(&id) else { return };
        let fed = match decode_in_place(bytes, Some(link.version), MAX_PACKET_BYTES) {
            Ok(Some((PacketRef::Publish(publish), _))) if are_here => {
                publish_here(&mut station.shard, now, id, publish, operations)
            }
            Ok(Some((PacketRef::Publish(publish), _))) => station.shard.publish(now, id, publish, &mut Elsewhere),
            Ok(Some((PacketRef::Other(packet), _))) => station.shard.packet(now, id, packet),
            Ok(None) => return,
            Err(error) => {
                station.shard.malformed(now, id, &error);
                Feed::Stop
            }
        };
        link.ready = fed == Feed::More;
    }

    /// A connection ends without a word, reads nothing any more, or reads again; or its bytes are no packet.
    fn lose(&mut self, s: usize, operations: &mut Operations<'_>) {
        let ids: Vec<ConnId> = self.stations[s].links.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = operations.pick(&ids);
        match operations.byte() % 4 {
            0 | 1 => self.close(s, id),
            2 => {
                let is_ready = self.stations[s].links[&id].ready;
                let bytes = operations.bytes();
                if is_ready {
                    self.feed(s, id, bytes, operations);
                }
            }
            _ => {
                let link = self.stations[s].links.get_mut(&id).expect("it is one of them");
                link.is_stuck = !link.is_stuck;
                self.write(s, id);
            }
        }
    }

    fn close(&mut self, s: usize, id: ConnId) {
        if self.stations[s].links.remove(&id).is_some() {
            self.stations[s].shard.closed(self.now, id);
        }
    }

    fn pass_time(&mut self, operations: &mut Operations<'_>) {
        self.now += operations.pick(&[1, 100, 1_000, 2_000, 61_000, 1_000_000]);
        let now = self.now;
        self.stations.iter_mut().for_each(|station| station.shard.tick(now));
    }

    /// An answer to any of the calls that wait.
    fn answer(&mut self, s: usize, operations: &mut Operations<'_>) {
        let waiting = self.stations[s].calls.len();
        if waiting == 0 {
            return;
        }
        let Some((id, call)) = self.stations[s].calls.remove(operations.index(waiting)) else {
            return;
        };
        let answer = answer_to(&call, operations);
        let spent_ns = operations.pick(&[0, 1_000, 100_000_000]);
        self.stations[s].shard.answer(self.now, id, answer, spent_ns);
    }

    fn complete(&mut self, s: usize, appends: usize) {
        for _ in 0..appends {
            let station = &mut self.stations[s];
            // In a full store what was appended completes.
            if matches!(station.trouble, None | Some(AppendFailed::Full))
                && let Some((ticket, positions)) = station.appended.pop_front()
            {
                station.shard.stored(self.now, ticket, &positions);
            }
        }
    }

    fn fetch(&mut self, s: usize) {
        let Some(fetch) = self.stations[s].fetches.pop_front() else {
            return;
        };
        let log = &self.log[&fetch.partition];
        let records = fetch
            .positions
            .iter()
            .map(|at| Ok(log[at.0 as usize].clone()))
            .collect();
        self.stations[s].shard.fetched(self.now, fetch.ticket, records);
    }

    fn deliver_mesh(&mut self, s: usize, operations: &mut Operations<'_>) {
        let from = operations.index(self.stations.len());
        for _ in 0..1 + operations.index(16) {
            let Some(message) = self.stations[s].mesh[from].pop_front() else {
                return;
            };
            self.stations[s].shard.mesh(self.now, message);
        }
    }

    fn trouble(&mut self, s: usize, operations: &mut Operations<'_>) {
        let trouble = operations.pick(&[None, Some(AppendFailed::Full), Some(AppendFailed::Doubtful)]);
        self.stations[s].trouble = trouble;
        self.stations[s].shard.store_trouble(self.now, trouble);
    }

    /// What an operator does, and what a reload does to one shard after the other.
    fn manage(&mut self, s: usize, operations: &mut Operations<'_>) {
        match operations.byte() % 4 {
            0 => _ = self.stations[s].shard.kick(self.now, None, operations.pick(&CLIENTS)),
            1 => {
                self.generation += 1;
                let policy = policy(self.generation, self.has_plugins && operations.byte() & 1 == 0);
                self.stations[s].shard.set_policy(policy);
            }
            2 => {
                let message = AppMessage {
                    topic: text(operations.pick(&TOPICS[..4])),
                    payload: self.number(),
                    qos: operations.pick(&QOS),
                    retain: false,
                    properties: None,
                };
                self.stations[s].shard.publish_from(
                    self.now,
                    &nervewire_core::hook::Client::unknown("$plugin/p".into(), None),
                    message,
                );
            }
            _ => _ = self.stations[s].shard.sessions(0, 10),
        }
    }

    /// What a driver carries out after a call, in its order; calls, the store and the mesh wait for an operation.
    fn leave(&mut self, s: usize) {
        for _ in 0..MAX_PASSES {
            let mut is_busy = self.take(s);
            while let Some(notice) = self.stations[s].shard.next_notice() {
                is_busy = true;
                match notice {
                    Notice::Close(id) => {
                        self.write(s, id);
                        self.close(s, id);
                    }
                    Notice::Resume(id) => {
                        if let Some(link) = self.stations[s].links.get_mut(&id) {
                            link.ready = true;
                        }
                    }
                    // What is only told.
                    _ => {}
                }
            }
            let mut touched = self.stations[s].shard.take_full();
            self.stations[s].shard.take_touched(&mut touched);
            for id in touched {
                is_busy |= self.write(s, id);
            }
            if !is_busy {
                return;
            }
        }
        panic!("shard {s} never comes to rest");
    }

    /// Calls, appends, fetches and batches go to where they wait.
    fn take(&mut self, s: usize) -> bool {
        let mut is_busy = false;
        let shards = self.stations.len() as u16;
        let station = &mut self.stations[s];
        while let Some(call) = station.shard.next_call() {
            is_busy = true;
            station.calls.push_back(call);
        }
        while let Some(append) = station.shard.next_append() {
            is_busy = true;
            assert_eq!(usize::from(append.partition.owner(shards)), s);
            let log = self.log.entry(append.partition).or_default();
            let positions = (log.len()..log.len() + append.records.len()).map(|at| Position(at as u64));
            station.appended.push_back((append.ticket, positions.collect()));
            log.extend(append.records);
        }
        while let Some(fetch) = station.shard.next_fetch() {
            is_busy = true;
            station.fetches.push_back(fetch);
        }
        loop {
            let mut any = false;
            for to in (0..shards).filter(|to| usize::from(*to) != s) {
                let batch = self.stations[s].shard.take_mesh(to);
                any |= !batch.is_empty();
                self.stations[usize::from(to)].mesh[s].extend(batch);
            }
            is_busy |= any;
            if !any {
                return is_busy;
            }
        }
    }

    /// Writes to a socket that takes everything. Whether there was anything.
    fn write(&mut self, s: usize, id: ConnId) -> bool {
        let station = &mut self.stations[s];
        let Some(link) = station.links.get_mut(&id).filter(|link| !link.is_stuck) else {
            return false;
        };
        let Some(out) = station.shard.output(id) else {
            return false;
        };
        let mut is_written = false;
        while !out.is_empty() {
            let front = out.front().to_vec();
            out.advance(front.len());
            link.receive(&front, &mut self.clients[link.client]);
            is_written = true;
        }
        if is_written {
            station.shard.settle_output(id);
            station.shard.written(self.now, id);
        }
        is_written
    }

    fn check_bounds(&self) {
        for station in &self.stations {
            let sessions = station.shard.sessions(0, 100);
            assert!(sessions.len() <= SESSIONS, "{} sessions", sessions.len());
            for session in sessions {
                let id = &session.client.client_id;
                assert!(
                    session.queued_messages <= QUEUE_MESSAGES as usize,
                    "{id}: {} messages",
                    session.queued_messages
                );
                assert!(
                    session.queued_bytes <= QUEUE_BYTES,
                    "{id}: {} bytes",
                    session.queued_bytes
                );
                assert!(
                    session.in_flight_messages <= usize::from(MAX_IN_FLIGHT_MESSAGES),
                    "{id}: in flight"
                );
                assert!(
                    session.subscriptions <= FILTERS.len(),
                    "{id}: {} subscriptions",
                    session.subscriptions
                );
            }
            assert!(station.shard.info_totals().retained_messages <= 4);
        }
    }

    /// Faults are over and everybody leaves: nothing is left that waits, and who wanted no session has none.
    pub(crate) fn come_to_rest(&mut self) {
        for s in 0..self.stations.len() {
            self.stations[s].trouble = None;
            self.stations[s].shard.store_trouble(self.now, None);
            let ids: Vec<ConnId> = self.stations[s].links.keys().copied().collect();
            ids.into_iter().for_each(|id| self.close(s, id));
        }
        self.settle();
        // Expiry intervals, wills' delays, and what is looked at once a second.
        for ms in [2_000, 200_000, 2_000] {
            self.now += ms;
            let now = self.now;
            self.stations.iter_mut().for_each(|station| station.shard.tick(now));
            self.settle();
        }
        for station in &self.stations {
            assert!(station.shard.is_settled(), "something waits for the store");
            for session in station.shard.sessions(0, 100) {
                assert!(!session.connected, "{} is connected", session.client.client_id);
                assert_eq!(
                    session.session_expiry_s,
                    u32::MAX,
                    "{} is still there",
                    session.client.client_id
                );
            }
        }
        self.check_bounds();
    }

    fn settle(&mut self) {
        let mut calmly = Operations::of(&[]);
        for _ in 0..MAX_PASSES {
            for s in 0..self.stations.len() {
                self.leave(s);
            }
            let is_over = |station: &Station| {
                station.calls.is_empty()
                    && station.appended.is_empty()
                    && station.fetches.is_empty()
                    && station.mesh.iter().all(VecDeque::is_empty)
            };
            if self.stations.iter().all(is_over) {
                return;
            }
            for s in 0..self.stations.len() {
                self.answer(s, &mut calmly);
                self.complete(s, 1_000);
                self.fetch(s);
                for from in 0..self.stations.len() {
                    while let Some(message) = self.stations[s].mesh[from].pop_front() {
                        self.stations[s].shard.mesh(self.now, message);
                    }
                }
                self.leave(s);
            }
        }
        panic!("the shards never come to rest");
    }
}

pub(crate) fn text(text: &str) -> Utf8String {
    Utf8String::try_from(text).expect("a text")
}

/// Feeds a PUBLISH once, or twice in a run that plugins are asked about ahead.
fn publish_here(
    shard: &mut Shard,
    now: Millis,
    id: ConnId,
    publish: PublishRef<'_>,
    operations: &mut Operations<'_>,
) -> Feed {
    let run = [publish.clone(), publish];
    let mut ahead = None;
    if may_be_asked_ahead(&run[0]) && operations.byte() % 2 == 1 {
        ahead = shard.ask_ahead(now, id, &run, &mut Here(operations));
    }
    let [first, second] = run;
    let Some(mut ahead) = ahead else {
        return shard.publish(now, id, first, &mut Here(operations));
    };
    let mut fed = shard.publish(now, id, first, &mut ahead.at(0, &mut Here(operations)));
    if fed == Feed::More {
        fed = shard.publish(now, id, second, &mut ahead.at(1, &mut Here(operations)));
    }
    shard.settle_ahead(now, id, &ahead);
    fed
}
