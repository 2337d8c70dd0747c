//! Which messages are in memory. What is durable and waits for a session that is away, or far back in a queue, is in the store
//! alone, and is fetched in batches a little before its turn comes.

use super::Shard;
use crate::limits::{MAX_FETCH_BYTES, MAX_FETCH_MESSAGES, MAX_RESIDENT_BYTES, MAX_RESIDENT_MESSAGES};
use crate::message::Message;
use crate::session::{Place, Session, Stage};
use crate::store::{Fetch, FetchFailed, FetchTicket, Position, Record};
use crate::time::Millis;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// What was asked of the store and is not here yet.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    out: VecDeque<Fetch>,
    wanted: HashMap<FetchTicket, Wanted>,
    last_ticket: u64,
    /// Of the messages that are wanted.
    bytes: u64,
}

#[derive(Debug)]
struct Wanted {
    session: u32,
    /// The copies, by their orders.
    orders: Vec<u64>,
    positions: Vec<Position>,
    bytes: u64,
}

#[cfg(test)]
impl Fetches {
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty() && self.wanted.is_empty() && self.bytes == 0
    }
}

impl Shard {
    /// The next messages to fetch. There are none with [`Durability::Memory`](crate::store::Durability::Memory).
    pub fn next_fetch(&mut self) -> Option<Fetch> {
        self.fetches.out.pop_front()
    }

    /// The answer to a fetch: what is at each of its positions, in their order. A message that cannot be read is lost and counted.
    pub fn fetched(&mut self, now: Millis, ticket: FetchTicket, records: Vec<Result<Record, FetchFailed>>) {
        let Some(wanted) = self.fetches.wanted.remove(&ticket) else {
            return;
        };
        self.fetches.bytes -= wanted.bytes;
        let session = wanted.session;
        // Whoever lost its connection meanwhile has no use for them, nor has a later session in its slot.
        match self.sessions.get_mut(session as usize) {
            Some(s) if s.fetching == ticket => s.fetching = FetchTicket::NONE,
            _ => return,
        }
        let mut records = records.into_iter();
        for (order, position) in wanted.orders.into_iter().zip(wanted.positions) {
            match records.next() {
                Some(Ok(Record::Enqueued {
                    order: read, message, ..
                })) if read == order => {
                    self.bring(session, order, message);
                }
                _ => self.cannot_read(session, order, position),
            }
        }
        self.pump(now, session);
    }

    /// A copy of a message is durable; the session may be done with it already.
    pub(super) fn place(&mut self, session: u32, order: u64, position: Position) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        // Copies of a session that ends with its connection have no records, and are not told apart by their orders.
        let Some(place) = s.find_copy(order).filter(|_| !s.ends_with_connection()) else {
            return;
        };
        let stays = s.conn.is_some() && s.is_near(place);
        if let Some(copy) = s.copy_mut(place) {
            copy.place(Some(position));
        }
        if !stays {
            self.absent_bytes += s.evict(place);
        }
    }

    /// The connection is gone: what is durable leaves memory.
    pub(super) fn leave_memory(&mut self, session: u32) {
        if !self.waits_for_store() {
            return;
        }
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        s.fetching = FetchTicket::NONE;
        self.absent_bytes += s.evict_all();
    }

    /// Asks for what a session will be sent soon and is not in memory: nothing before little is left, then a whole batch.
    pub(super) fn fetch_ahead(&mut self, now: Millis, session: u32) {
        if self.absent_bytes == 0 {
            return;
        }
        let most_bytes = self.room_for_bodies();
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        if s.absent_bytes() == 0 || s.conn.is_none() || s.fetching != FetchTicket::NONE || !s.needs_bodies(now) {
            return;
        }
        let (orders, positions, bytes) = s.missing(now, most_bytes);
        if orders.is_empty() {
            return;
        }
        self.fetches.last_ticket += 1;
        let ticket = FetchTicket(self.fetches.last_ticket);
        s.fetching = ticket;
        let partition = s.partition;
        self.fetches.bytes += bytes;
        self.fetches.out.push_back(Fetch {
            ticket,
            partition,
            positions: positions.clone(),
        });
        let wanted = Wanted {
            session,
            orders,
            positions,
            bytes,
        };
        self.fetches.wanted.insert(ticket, wanted);
    }

    /// Bytes that may be fetched now: one message always, so that nobody waits for ever.
    fn room_for_bodies(&self) -> u64 {
        let taken = self.held_bytes().saturating_add(self.fetches.bytes);
        self.config.memory_bytes.saturating_sub(taken).min(MAX_FETCH_BYTES)
    }

    fn bring(&mut self, session: u32, order: u64, message: Arc<Message>) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        if let Some(place) = s.find_copy(order) {
            self.absent_bytes -= s.bring(place, message);
        }
    }

    /// Nothing is at a position. Where the record was appended again meanwhile it is asked for there; else the copy is lost.
    fn cannot_read(&mut self, session: u32, order: u64, position: Position) {
        let Some(s) = self.sessions.get_mut(session as usize) else {
            return;
        };
        let Some(place) = s.find_copy(order) else { return };
        let Some(copy) = s.copy_mut(place) else { return };
        if copy.body().is_some() || copy.position() != Some(position) {
            return;
        }
        self.counters.dropped.unreadable += 1;
        match place {
            Place::Queue(at) => {
                if let Some(queued) = self.remove_queued(session, at) {
                    self.record_acknowledged(session, queued.order, queued.qos);
                }
            }
            Place::InFlight(at) => self.lose_in_flight(session, at),
        }
    }

    /// The client may have a QoS 2 message already: its identifier is freed as if PUBREC had come.
    fn lose_in_flight(&mut self, session: u32, at: usize) {
        let Some(sent) = self.sessions.get(session as usize).and_then(|s| s.in_flight.get(at)) else {
            return;
        };
        let (packet_id, order) = (sent.packet_id, sent.order());
        if let Stage::AtLeastOnce(queued) = &sent.stage {
            let qos = queued.qos;
            self.change_in_flight(session, |in_flight| in_flight.remove(at));
            return self.record_acknowledged(session, order, qos);
        }
        self.change_in_flight(session, |in_flight| in_flight.release(at));
        self.record_aside(session, |session| Record::HandedOver {
            session,
            packet_id,
            order,
        });
    }
}

impl Session {
    /// Bytes of the messages that are in the store alone.
    pub(crate) fn absent_bytes(&self) -> u64 {
        self.queue_absent_bytes + self.in_flight.absent_bytes()
    }

    /// Whether a copy is so near to its turn that it stays in memory while there is a connection.
    fn is_near(&self, place: Place) -> bool {
        let Place::Queue(at) = place else { return true };
        let resident = (self.queue_bytes + self.in_flight.bytes()).saturating_sub(self.absent_bytes());
        at == 0 || (at < MAX_RESIDENT_MESSAGES && resident <= MAX_RESIDENT_BYTES)
    }

    /// Whether one of the next copies is not in memory, apart from those that need not be read because they have expired.
    fn needs_bodies(&self, now: Millis) -> bool {
        let waits = |queued: &&crate::queued::Queued| !queued.is_expired(now);
        let mut next = self.in_flight.to_resend().chain(self.queue.iter().filter(waits));
        next.by_ref()
            .take(MAX_FETCH_MESSAGES / 2)
            .any(|copy| copy.body().is_none())
    }

    /// The next copies that are not in memory, by order and position, and their bytes.
    fn missing(&self, now: Millis, most_bytes: u64) -> (Vec<u64>, Vec<Position>, u64) {
        let (mut orders, mut positions, mut bytes) = (Vec::new(), Vec::new(), 0);
        let waiting = self.queue.iter().filter(|queued| !queued.is_expired(now));
        let next = self.in_flight.to_resend().chain(waiting);
        for copy in next.take(2 * MAX_FETCH_MESSAGES).filter(|copy| copy.body().is_none()) {
            let Some(position) = copy.position() else { continue };
            if orders.len() == MAX_FETCH_MESSAGES || (!orders.is_empty() && bytes + copy.bytes() > most_bytes) {
                break;
            }
            orders.push(copy.order);
            positions.push(position);
            bytes += copy.bytes();
        }
        (orders, positions, bytes)
    }

    /// Takes the body of a copy out of memory, where it is durable. Answers its bytes.
    fn evict(&mut self, place: Place) -> u64 {
        match place {
            Place::InFlight(at) => self.in_flight.evict(at),
            Place::Queue(at) => {
                let bytes = self.queue.get_mut(at).map_or(0, |queued| queued.evict());
                self.queue_absent_bytes += bytes;
                bytes
            }
        }
    }

    fn evict_all(&mut self) -> u64 {
        let bytes = self.queue.iter_mut().map(|queued| queued.evict()).sum::<u64>();
        self.queue_absent_bytes += bytes;
        bytes
            + (0..self.in_flight.len())
                .map(|at| self.in_flight.evict(at))
                .sum::<u64>()
    }

    /// The body of a copy is here. Answers the bytes that were absent.
    fn bring(&mut self, place: Place, message: Arc<Message>) -> u64 {
        match place {
            Place::InFlight(at) => self.in_flight.bring(at, message),
            Place::Queue(at) => {
                let bytes = self.queue.get_mut(at).map_or(0, |queued| queued.bring(message));
                self.queue_absent_bytes -= bytes;
                bytes
            }
        }
    }
}
