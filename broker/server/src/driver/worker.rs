//! One shard's thread.

use super::Clock;
use super::accept::{Listener, ListenerSettings};
use super::certificates::Trusts;
use super::handshake::Stage;
use super::holding::Held;
use super::inbox::{Inbox, Mesh, ShardEvent, Swap};
use super::io::Client;
use super::memory::ReadMemory;
use super::plugins::{Generations, Ran, ReplyPath, ShardPlugins};
use super::requests::DriverCounters;
use super::store::ShardStore;
use super::told::Told;
use crate::auth_pool::{AuthPool, Job, ReplyTo};
use crate::defence::Defence;
use crate::detect::Alerts;
use crate::shadow::{ShadowPool, Watched};
use mio::{Events, Poll, Token};
use nervewire_codec::ReasonCode;
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::hook::Authentication;
use nervewire_core::shard::{Answer, Call, CallId, ConnId, Notice, Shard};
use nervewire_core::table::Table;
use nervewire_core::time::Millis;
use nervewire_store::Journal;
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

/// What all shards share: nothing on the path of a message but the inboxes.
pub(crate) struct Shared {
    pub(crate) mesh: Mesh,
    pub(crate) authenticators: AuthPool,
    /// Plugins in shadow mode.
    pub(crate) shadows: ShadowPool,
    pub(crate) defence: Arc<Defence>,
    /// What the log was told of those who are not let in.
    pub(crate) told: Told,
    /// What detectors have found.
    pub(crate) alerts: Alerts,
    /// Connections of all shards, let in or not.
    pub(crate) connections: AtomicUsize,
    pub(crate) max_connections: AtomicUsize,
    pub(crate) clock: Clock,
    /// Where the shards store what they keep.
    pub(crate) journal: Option<Arc<Journal>>,
    /// Bytes that the start cut off its end.
    pub(crate) cut_bytes: u64,
    /// Somebody stopped reading because of it.
    pub(crate) journal_waited_for: AtomicBool,
}

/// What one shard starts with.
pub(crate) struct ShardSetup {
    pub(crate) poll: Poll,
    /// With everything that the store held.
    pub(crate) shard: Shard,
    /// Where it stores what it keeps.
    pub(crate) store: Option<ShardStore>,
    pub(crate) max_packet_bytes: u32,
    pub(crate) plugins: ShardPlugins,
    pub(crate) listeners: Vec<(Arc<ListenerSettings>, TcpListener)>,
}

/// A shard and everything its thread owns.
pub(crate) struct Worker {
    pub(super) number: u16,
    pub(super) shared: Arc<Shared>,
    pub(super) poll: Poll,
    pub(super) shard: Shard,
    pub(super) store: Option<ShardStore>,
    pub(super) plugins: Generations,
    pub(super) listeners: Vec<Option<Listener>>,
    /// The sockets of this shard. A number is the [`ConnId`] of whoever was let in.
    pub(super) numbers: Slab<Stage>,
    /// Listeners that may have somebody to accept.
    pub(super) accepting: VecDeque<usize>,
    /// Connections that are not let in and have something to say.
    pub(super) newcomers: VecDeque<usize>,
    /// Connect timeouts in the order they come up.
    pub(super) deadlines: BTreeSet<(Millis, usize, u64)>,
    pub(super) held: Held,
    pub(super) memory: ReadMemory,
    /// Who waits for a ban to be durable.
    pub(super) waits_for_bans: BTreeMap<u64, Sender<()>>,
    /// By [`ConnId`].
    pub(super) clients: Table<Client>,
    /// Who authenticates again, for comparisons with plugins in shadow mode: while a call is under way.
    pub(super) watched: BTreeMap<u32, Watched>,
    /// To be served in this pass.
    pub(super) ready: VecDeque<ConnId>,
    pub(super) lingering: VecDeque<(Millis, ConnId)>,
    pub(super) touched: Vec<ConnId>,
    /// Whose certificates are to be judged again.
    pub(super) unjudged: VecDeque<ConnId>,
    /// By what they are judged.
    pub(super) trusts: Trusts,
    pub(super) scratch: Box<[u8]>,
    pub(super) now: Millis,
    pub(super) serial: u64,
    pub(super) max_packet_bytes: u32,
    pub(super) accept_again_at: Option<Millis>,
    pub(super) driver: DriverCounters,
    /// Questions that cached verdicts answered, by authorizer.
    pub(super) cache_hits: BTreeMap<Arc<str>, u64>,
    /// The last pass left something to be carried out.
    unfinished: bool,
    /// Who waits until every will is sent, those included about which plugins are still asked.
    settling: Option<Sender<()>>,
    state: State,
}

enum State {
    Running,
    /// Clients are not read any more; what they have sent is carried out.
    Settling,
    /// Ends when everything is written, or at this moment.
    Ending(Millis),
    Ended,
}

/// The kinds of readiness sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Waker = 0,
    Listener = 1,
    Connection = 2,
}

/// The token of a shard's waker.
pub(crate) const WAKER: Token = Token(Kind::Waker as usize);

/// Starts a shard's thread.
pub(crate) fn spawn(number: u16, shared: Arc<Shared>, setup: ShardSetup) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(format!("shard-{number}"))
        .spawn(move || Worker::new(number, shared, setup).run())
}

impl Worker {
    fn new(number: u16, shared: Arc<Shared>, setup: ShardSetup) -> Self {
        const SCRATCH_BYTES: usize = 64 * 1024;
        let mut worker = Self {
            number,
            poll: setup.poll,
            shard: setup.shard,
            store: setup.store,
            plugins: Generations::new(setup.plugins),
            listeners: Vec::new(),
            numbers: Slab::new(),
            accepting: VecDeque::new(),
            newcomers: VecDeque::new(),
            deadlines: BTreeSet::new(),
            held: Held::default(),
            memory: ReadMemory::default(),
            waits_for_bans: BTreeMap::new(),
            clients: Table::default(),
            watched: BTreeMap::new(),
            ready: VecDeque::new(),
            lingering: VecDeque::new(),
            touched: Vec::new(),
            unjudged: VecDeque::new(),
            trusts: Trusts::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            now: shared.clock.now(),
            serial: 0,
            max_packet_bytes: setup.max_packet_bytes,
            accept_again_at: None,
            driver: DriverCounters::default(),
            cache_hits: BTreeMap::new(),
            unfinished: true, // What was restored may have something to do at once.
            settling: None,
            state: State::Running,
            shared,
        };
        worker.shard.set_bans(worker.shared.defence.clone());
        let listeners = setup
            .listeners
            .into_iter()
            .map(|(settings, socket)| (settings, Some(socket)))
            .collect();
        worker.set_listeners(listeners);
        worker.trusts = worker.trusts();
        worker
    }

    fn run(mut self) {
        const EVENTS: usize = 1_024;
        let mut events = Events::with_capacity(EVENTS);
        while !matches!(self.state, State::Ended) {
            let timeout = self.timeout();
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the readiness loop failed");
                return;
            }
            self.now = self.shared.clock.now();
            for event in &events {
                self.note(event.token(), event.is_readable(), event.is_writable());
            }
            self.pass();
        }
    }

    fn note(&mut self, token: Token, readable: bool, writable: bool) {
        match Kind::of(token) {
            (Kind::Waker, _) => {}
            (Kind::Listener, number) if self.accepting.contains(&number) => {}
            (Kind::Listener, number) => self.accepting.push_back(number),
            (Kind::Connection, slot) => match self.numbers.get(slot) {
                Some(Stage::Pending(_)) => self.pending_ready(slot),
                Some(Stage::LetIn) => self.client_event(ConnId(slot as u32), readable, writable),
                None => {}
            },
        }
    }

    /// One pass: what came from other threads and what is due, then what is ready, then everything that must leave.
    fn pass(&mut self) {
        for event in self.shared.mesh.inboxes[usize::from(self.number)].take() {
            self.event(event);
        }
        self.shared.mesh.caught_up(self.number);
        self.shard.tick(self.now);
        self.run_calls();
        self.release_held();
        self.end_lingering();
        self.serve_newcomers();
        self.judge_some();
        self.serve_ready();
        self.shed_connections();
        self.leave();
        self.ask_shadows();
        self.end_if_done();
    }

    /// Serves each ready client once; those with more to read are served again in the next pass.
    fn serve_ready(&mut self) {
        if matches!(self.state, State::Settling) {
            return;
        }
        if self.shared.mesh.is_congested(self.number) {
            self.driver.mesh_over_bound += 1;
            return;
        }
        if self.is_store_congested() {
            self.driver.store_over_bound += 1;
            return;
        }
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else { break };
            self.serve(id);
        }
    }

    /// Everything that must leave: batches before sockets, so that what is acknowledged is visible everywhere.
    fn leave(&mut self) {
        const ROUNDS: usize = 8;
        for _ in 0..ROUNDS {
            self.run_calls();
            self.carry_out_notices();
            self.hand_to_store();
            self.send_batches();
            self.shard.take_touched(&mut self.touched);
            if self.touched.is_empty() {
                self.unfinished = false;
                return;
            }
            let mut touched = std::mem::take(&mut self.touched);
            for id in touched.drain(..) {
                self.flush(id);
            }
            if self.touched.is_empty() {
                self.touched = touched; // Keeps its memory.
            }
        }
        self.unfinished = true; // Others first: the next pass goes on at once.
    }

    fn carry_out_notices(&mut self) {
        while let Some(notice) = self.shard.next_notice() {
            match notice {
                Notice::Close(id) => self.close(id),
                Notice::Resume(id) => self.list(id),
                Notice::Kept(number) => {
                    if let Some(stored) = self.waits_for_bans.remove(&number) {
                        let _ = stored.send(()); // Whoever asked may have given up waiting.
                    }
                }
                Notice::TakenOverOften { client, before, after } => {
                    tracing::warn!(
                        client_id = &*client.client_id,
                        tenant = client.tenant.as_deref(),
                        before = %SocketAddr::from(before),
                        after = %SocketAddr::from(after),
                        "a client identifier is taken over again and again: two clients use the same one"
                    );
                }
                Notice::ShadowRulesRefused {
                    plugin,
                    client_id,
                    error,
                } => {
                    tracing::warn!(
                        plugin = &*plugin,
                        client_id = &*client_id,
                        error,
                        "the rules of a plugin in shadow mode were refused"
                    );
                }
                Notice::RulesRefused {
                    authorizer,
                    client_id,
                    error,
                } => {
                    tracing::warn!(
                        authorizer,
                        client_id = &*client_id,
                        error,
                        "a plugin's rules were refused"
                    );
                }
            }
        }
    }

    /// Writes connections whose output has filled up in the middle of a pass: their subscribers may well keep up.
    pub(super) fn write_full(&mut self) {
        let full = self.shard.take_full();
        if full.is_empty() {
            return;
        }
        self.send_batches();
        for id in full {
            self.flush(id);
        }
    }

    fn send_batches(&mut self) {
        while self.send_a_batch_to_each() {}
    }

    /// Whether there was one.
    fn send_a_batch_to_each(&mut self) -> bool {
        let mut sent = false;
        for shard in (0..self.shared.mesh.shards()).filter(|shard| *shard != self.number) {
            let batch = self.shard.take_mesh(shard);
            if !batch.is_empty() {
                sent = true;
                self.shared.mesh.send(shard, ShardEvent::Mesh(batch));
            }
        }
        sent
    }

    /// Carries out plugin calls until none is left.
    pub(super) fn run_calls(&mut self) {
        while let Some((id, call)) = self.shard.next_call() {
            let (shared, shard) = (&self.shared, self.number);
            let path = |generation| ReplyPath {
                shared: Arc::downgrade(shared),
                shard,
                call: id,
                generation,
            };
            match self.plugins.run(&call, path) {
                Ran::Answered(answer, spent_ns) => self.shard.answer(self.now, id, answer, spent_ns),
                Ran::Later => {}
                Ran::NotHere => self.ask_authenticators(id, call),
            }
        }
        self.plugins.release();
    }

    /// An answer that was awaited. Whoever waited for it is served as if it had just asked.
    fn answered(&mut self, generation: u64, call: CallId, answer: Answer) {
        self.shard.answer(self.now, call, answer, 0);
        self.plugins.answered(generation);
        self.run_calls();
        self.write_full();
        if !self.plugins.is_waiting()
            && let Some(done) = self.settling.take()
        {
            self.leave();
            let _ = done.send(()); // The one who asked may have given up waiting.
        }
    }

    /// Comparisons come last: whoever waits for this pass has been served.
    fn ask_shadows(&mut self) {
        while let Some(question) = self.shard.next_shadow_question() {
            self.shared.shadows.submit(self.number, question);
        }
    }

    fn ask_authenticators(&mut self, id: CallId, call: Call) {
        let Call::Authenticate {
            client,
            credentials,
            only,
        } = call
        else {
            return;
        };
        let shared = &self.shared;
        // Comparisons are with the whole chain.
        if shared.shadows.watches_logins() && shared.authenticators.asks_all(&client.listener) {
            let (client, credentials) = (client.clone(), credentials.clone());
            let watched = Watched {
                client,
                credentials,
                only,
            };
            self.watched.insert(id.0, watched);
        }
        let job = Job {
            client,
            credentials,
            only,
            reply_to: ReplyTo::Call {
                shard: self.number,
                call: id,
            },
        };
        if let Some(outcome) = self.shared.authenticators.submit(job) {
            self.reauthenticated(id, outcome);
        }
    }

    fn reauthenticated(&mut self, id: CallId, outcome: ChainOutcome) {
        if let Some(watched) = self.watched.remove(&id.0) {
            let unanswered = Authentication::Deny(ReasonCode::NotAuthorized);
            self.shared.shadows.watch(watched.decided(outcome.clone(), unanswered));
        }
        self.shard.answer(self.now, id, Answer::Authenticate(outcome), 0);
    }

    fn event(&mut self, event: ShardEvent) {
        match event {
            ShardEvent::Mesh(batch) => {
                for message in batch {
                    self.shard.mesh(self.now, message);
                    self.run_calls();
                    self.write_full();
                }
            }
            ShardEvent::Store(event) => self.store_event(event),
            ShardEvent::Adopt(adopted) => self.adopt(*adopted),
            ShardEvent::Authenticated(slot, serial, outcome) => self.authenticated(slot, serial, outcome),
            ShardEvent::Reauthenticated(call, outcome) => self.reauthenticated(call, outcome),
            ShardEvent::Answered {
                generation,
                call,
                answer,
            } => self.answered(generation, call, answer),
            ShardEvent::Swap(swap) => self.swap(*swap),
            ShardEvent::Shadow(id, answer) => self.shard.shadow_answered(self.now, id, answer),
            ShardEvent::Ask(question) => question(self),
            ShardEvent::SettleWills(done) => self.settle_wills(&done),
            ShardEvent::ShutDown => self.shut_down(),
        }
    }

    /// A new generation: nothing fed after this is judged by the old one.
    fn swap(&mut self, swap: Swap) {
        self.max_packet_bytes = swap.config.max_packet_bytes;
        self.shard.set_config(swap.config);
        self.count_cache_hits();
        self.shard.set_policy(swap.policy);
        self.plugins.swap(swap.plugins);
        self.set_listeners(swap.listeners);
        self.judge_again();
        let _ = swap.done.send(()); // Nobody waits any more: the swap holds all the same.
    }

    fn settle_wills(&mut self, done: &Sender<()>) {
        self.stop_accepting();
        self.state = State::Settling;
        self.shard.settle_wills(self.now);
        self.run_calls();
        self.leave();
        if self.plugins.is_waiting() {
            self.settling = Some(done.clone());
            return;
        }
        let _ = done.send(()); // The one who asked may have given up waiting.
    }

    fn shut_down(&mut self) {
        const GRACE_MS: u64 = 5_000;
        self.shard.shut_down(self.now);
        self.run_calls();
        let numbers: Vec<usize> = self.numbers.iter().map(|(slot, _)| slot).collect();
        for slot in numbers {
            self.drop_pending(slot);
        }
        self.state = State::Ending(self.now + GRACE_MS);
    }

    fn end_if_done(&mut self) {
        if let State::Ending(until) = self.state
            && (until <= self.now || self.open_clients().next().is_none())
        {
            self.state = State::Ended;
        }
    }

    /// How long nothing will be due.
    fn timeout(&self) -> Option<Duration> {
        if self.unfinished || self.have_newcomers() || !self.unjudged.is_empty() {
            return Some(Duration::ZERO);
        }
        let serves = !self.ready.is_empty() && !matches!(self.state, State::Settling);
        if serves && !self.shared.mesh.is_congested(self.number) && !self.is_store_congested() {
            return Some(Duration::ZERO);
        }
        let ending = match self.state {
            State::Ending(until) => Some(until),
            State::Running | State::Settling | State::Ended => None,
        };
        let deadline = self.deadlines.first().map(|(at, ..)| *at);
        let lingering = self.lingering.front().map(|(at, _)| *at);
        let due = [
            self.shard.next_deadline(),
            self.store_deadline(),
            deadline,
            lingering,
            self.held.next(),
            self.accept_again_at,
            ending,
        ];
        let next = due.into_iter().flatten().min()?;
        Some(Duration::from_millis(next.saturating_sub(self.shared.clock.now())))
    }
}

/// The inboxes of so many shards, with the polls that they wake.
pub(crate) fn inboxes(shards: u16) -> std::io::Result<(Mesh, Vec<Poll>)> {
    let mut inboxes = Vec::new();
    let mut polls = Vec::new();
    for _ in 0..shards {
        let poll = Poll::new()?;
        inboxes.push(Inbox::new(mio::Waker::new(poll.registry(), WAKER)?));
        polls.push(poll);
    }
    Ok((Mesh { inboxes }, polls))
}
