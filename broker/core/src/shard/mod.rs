//! One shard: the state machine of a share of the broker's sessions.
//!
//! Contract with the driver: every method takes `now`. Packets of a connection are fed in order, and only while
//! [`Shard::packet`] answered [`Feed::More`] or [`Notice::Resume`] named the connection. After any call the driver carries
//! out, in this order: each [`Call`] (and hands back its [`Answer`]), each append (and reports it by [`Shard::stored`]), each fetch (and hands back what it brings by [`Shard::fetched`]), each batch for another shard, each [`Notice`], then one
//! write for each touched connection. Batches leave before sockets are written: what was acknowledged is visible to every
//! later request on any shard.

mod admin;
mod ahead;
mod already;
mod arriving;
mod auth;
mod banned;
mod batch;
mod bodies;
mod bounds;
mod certificate;
mod commit;
mod conn;
mod connect;
mod deliver;
mod disconnect;
mod emit;
mod examine;
mod explain;
mod here;
mod inbound;
mod interest;
mod judge;
mod lane;
mod live;
mod mesh;
mod packed;
mod publish;
mod publish_stored;
mod queue;
mod rates;
mod read_queue;
mod record;
mod restore;
mod restored;
mod retain;
mod review;
mod route;
mod sessions;
mod shadowing;
mod shared;
mod shed;
mod sources;
mod subscribe;
mod takeovers;
mod tallying;
#[cfg(test)]
mod tests;
mod throttle;
mod timers;
mod trouble;
mod unsettled;

pub use admin::{SessionInfo, ShardInfo};
pub use batch::{Ahead, Batch, MAX_BATCH_BYTES, MAX_BATCH_MESSAGES, may_be_asked_ahead};
pub use commit::CommitId;
pub use here::{Answered, Elsewhere, PluginsHere};
pub(crate) use mesh::hash;
pub use mesh::{Assignment, Confirm, MeshMessage, SessionRef, SharedKey, home_shard, topic_owner};
pub use packed::Packed;
pub use restored::Step;
pub(crate) use review::{Reviewed, UNREVIEWED};

use crate::bans::{Bans, Nobody};
use crate::counters::Counters;
use crate::handshake::ChainOutcome;
use crate::hook::{AppMessage, CallFailed, Client, Credentials, Request, Rule, Transformation, Verdict};
use crate::index::Index;
use crate::limits::ShardConfig;
use crate::message::MessageId;
use crate::outbuf::{OutBuf, SpareBuffers};
use crate::policy::{ClientRules, Policy};
use crate::retained::Retained;
use crate::shadow::Shadowing;
use crate::store::{AppendFailed, BannedSubject, ClientKey, StoredBan};
use crate::subscriptions::Subscription;
use crate::table::Table;
use crate::time::Millis;
use crate::verdicts::SharedVerdicts;
use crate::windows::Windows;
use already::Already;
use bodies::Fetches;
use commit::Commits;
use conn::Conn;
use emit::EncodeCache;
use hashbrown::HashMap;
use interest::Interests;
use judge::Judge;
use live::Sharing;
use nervewire_codec::ReasonCode;
use publish::PublishFlow;
use restore::Restoring;
use route::LastRoute;
use sessions::Sessions;
use shared::SharedGroups;
use slab::Slab;
use sources::SourceRules;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
pub use subscribe::Entry;
use subscribe::SubscribeFlow;
use takeovers::Takeovers;
use throttle::Throttles;
use timers::Timers;
use unsettled::Unsettled;

/// A connection of this shard, under a number that its driver chose: small, and not in use until [`Shard::closed`] was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// A plugin call that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallId(pub u32);

/// May the driver feed the connection's next packet?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// Yes.
    More,
    /// No: it waits for an answer, is paused or about to be closed. [`Notice::Resume`] says when to go on.
    Stop,
}

/// Something to ask of plugins, for the driver to carry out.
#[derive(Clone, Debug)]
pub enum Call {
    /// The rules of every authorizer of a policy, in order.
    Rules {
        /// Of which policy; it may have been replaced meanwhile, where an earlier answer took its time.
        generation: u64,
        /// About whom.
        client: Arc<Client>,
    },
    /// One authorizer's verdict.
    Authorize {
        /// Of which policy.
        generation: u64,
        /// Position in [`Policy::authorizers`].
        authorizer: usize,
        /// Who.
        client: Arc<Client>,
        /// What.
        request: Request,
    },
    /// One transform.
    Transform {
        /// Of which policy.
        generation: u64,
        /// Position in [`Policy::transforms`].
        transform: usize,
        /// Who published.
        client: Arc<Client>,
        /// What.
        message: AppMessage,
    },
    /// Re-authentication: the authenticators' chain, in the worker pool.
    Authenticate {
        /// Who.
        client: Arc<Client>,
        /// With what.
        credentials: Credentials,
        /// Only the authenticator that challenged before.
        only: Option<usize>,
    },
}

/// The answer to a [`Call`] of the same name.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Answer {
    Rules(Vec<Result<Option<Vec<Rule>>, CallFailed>>),
    Authorize(Result<Verdict, CallFailed>),
    Transform(Result<Transformation, CallFailed>),
    Authenticate(ChainOutcome),
}

/// Something for the driver to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Write what waits, close the socket, then call [`Shard::closed`].
    Close(ConnId),
    /// Feed this connection again.
    Resume(ConnId),
    /// An authorizer's rules were refused; one line for the log.
    RulesRefused {
        /// Position in [`Policy::authorizers`].
        authorizer: usize,
        /// Whose rules.
        client_id: Arc<str>,
        /// Why.
        error: String,
    },
    /// The ban or its end that was given this number is as durable as anything is here.
    Kept(u64),
    /// A client identifier is taken over again and again; one line for the log.
    TakenOverOften {
        /// Which.
        client: ClientKey,
        /// Who has the session now.
        before: (IpAddr, u16),
        /// Who wants it.
        after: (IpAddr, u16),
    },
    /// [`Notice::RulesRefused`] of a plugin in shadow mode.
    ShadowRulesRefused {
        /// Its name.
        plugin: Arc<str>,
        /// Whose rules.
        client_id: Arc<str>,
        /// Why.
        error: String,
    },
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    Connect(Box<connect::Connecting>),
    Publish(Box<PublishFlow>),
    Subscribe(Box<SubscribeFlow>),
    /// The head of a session's queue, and the connection that it is for.
    Deliver(Box<Judge>, (ConnId, u64)),
    Reauthenticate(ConnId, u64),
}

/// Topics of one tenant on this shard.
#[derive(Debug)]
struct Space {
    tenant: Option<Arc<str>>,
    index: Index<Subscription>,
    retained: Retained,
    groups: SharedGroups,
    sessions: u32,
    /// Tells it from a later one in the same slot.
    serial: u64,
}

impl Space {
    fn is_in_use(&self) -> bool {
        self.sessions > 0 || !self.retained.is_empty() || !self.groups.is_empty()
    }

    /// Shared ones are counted where their group lives.
    fn subscriptions(&self) -> usize {
        self.index.len() + self.groups.members()
    }
}

/// Of a [`MessageId`], below the number of its shard.
const MESSAGE_NUMBER_BITS: u32 = 48;

/// The name space of clients without a tenant.
const COMMON_SPACE: u32 = 0;

/// One shard. See the module's contract.
#[derive(Debug)]
pub struct Shard {
    config: ShardConfig,
    policy: Arc<Policy>,
    conns: Table<Conn>,
    sessions: Sessions,
    spaces: Slab<Space>,
    by_tenant: HashMap<Option<Arc<str>>, u32>,
    timers: Timers,
    commits: Commits,
    /// Why nothing becomes durable at present.
    trouble: Option<AppendFailed>,
    waiters: Slab<Waiter>,
    calls: VecDeque<(CallId, Call)>,
    notices: VecDeque<Notice>,
    touched: Vec<ConnId>,
    full: Vec<ConnId>,
    mesh_out: Vec<Vec<MeshMessage>>,
    /// What other shards must not have before everything in `mesh_out`.
    mesh_late: Vec<Vec<MeshMessage>>,
    interests: Interests,
    counters: Counters,
    serial: u64,
    next_message: MessageId,
    /// Of the last record of a message for sessions.
    last_order: u64,
    /// Records were read, and not everything has followed from them yet.
    restoring: Option<Box<Restoring>>,
    already: Already,
    takeovers: Takeovers,
    /// What is recorded of bans.
    kept_bans: HashMap<BannedSubject, StoredBan>,
    sharing: Sharing,
    bans: Arc<dyn Bans>,
    sources: SourceRules,
    /// Sessions whose next record must wait.
    unsettled: HashMap<ClientKey, Unsettled>,
    /// Sessions whose end is on its way into the log.
    ends: HashMap<ClientKey, CommitId>,
    route_number: u64,
    last_route: LastRoute,
    last_publisher: Option<Arc<Client>>,
    cache: EncodeCache,
    spare: SpareBuffers,
    retained: ShardInfo,
    /// Bytes of all messages that were sent and may have to be sent again.
    in_flight_bytes: u64,
    /// Bytes of all messages, queued or in flight, that are in the store alone.
    absent_bytes: u64,
    /// Bytes that wait in connections' outputs, as of their last writes.
    output_bytes: u64,
    /// Bytes that were read from connections and cannot be fed yet, or belong to connections that are not let in.
    read_bytes: u64,
    /// Making room was in vain, and is not tried again before this moment.
    shed_again_at: Millis,
    fetches: Fetches,
    /// The slot of the session whose queue is next to be purged.
    next_purged: usize,
    /// What holds where there are no authorizers.
    no_rules: Arc<ClientRules>,
    /// The latest client's rules: in most configurations the next client's are the same, and shared with it.
    latest_rules: Arc<ClientRules>,
    /// Verdicts that hold for more than one client.
    verdicts: SharedVerdicts,
    /// Questions that a cached verdict answered, by authorizer.
    cache_hits: Vec<u64>,
    /// Where some plugin is in shadow mode.
    shadowing: Option<Box<Shadowing>>,
    /// Where some plugin looks for what is odd.
    windows: Option<Box<Windows>>,
    throttles: Throttles,
    #[cfg(debug_assertions)]
    pub(crate) planted: Option<crate::planted::Planted>,
}

impl Shard {
    /// A shard without sessions.
    pub fn new(config: ShardConfig, policy: Arc<Policy>, now: Millis) -> Self {
        let shards = usize::from(config.shards.max(1));
        let next_message = MessageId::from(config.shard) << MESSAGE_NUMBER_BITS;
        let mut shard = Self {
            conns: Table::default(),
            sessions: Sessions::default(),
            spaces: Slab::new(),
            by_tenant: HashMap::new(),
            timers: Timers::new(now),
            commits: Commits::default(),
            trouble: None,
            waiters: Slab::new(),
            calls: VecDeque::new(),
            notices: VecDeque::new(),
            touched: Vec::new(),
            full: Vec::new(),
            mesh_out: (0..shards).map(|_| Vec::new()).collect(),
            mesh_late: (0..shards).map(|_| Vec::new()).collect(),
            interests: Interests::new(shards),
            counters: Counters::default(),
            serial: 0,
            next_message,
            last_order: 0,
            restoring: None,
            already: Already::default(),
            takeovers: Takeovers::default(),
            kept_bans: HashMap::new(),
            sharing: Sharing::default(),
            bans: Arc::new(Nobody),
            sources: SourceRules::default(),
            unsettled: HashMap::new(),
            ends: HashMap::new(),
            route_number: 0,
            last_route: LastRoute::default(),
            last_publisher: None,
            cache: EncodeCache::default(),
            spare: SpareBuffers::default(),
            retained: ShardInfo::default(),
            in_flight_bytes: 0,
            absent_bytes: 0,
            output_bytes: 0,
            read_bytes: 0,
            shed_again_at: 0,
            fetches: Fetches::default(),
            next_purged: 0,
            no_rules: Arc::default(),
            latest_rules: Arc::default(),
            verdicts: SharedVerdicts::default(),
            cache_hits: vec![0; policy.authorizers.len()],
            shadowing: Shadowing::succeed(None, &policy),
            windows: policy.detects.then(|| Box::new(Windows::new(config.window_clients))),
            throttles: Throttles::default(),
            #[cfg(debug_assertions)]
            planted: None,
            policy,
            config,
        };
        shard.space_of(None);
        shard
    }

    /// What this shard judges by from now on; each client's rules are asked for again at their next use.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.cache_hits = vec![0; policy.authorizers.len()];
        self.shadowing = Shadowing::succeed(self.shadowing.take(), &policy);
        self.policy = policy;
        self.set_windows();
    }

    /// Who is kept out from now on; nobody is until this is called.
    pub fn set_bans(&mut self, bans: Arc<dyn Bans>) {
        self.bans = bans;
    }

    /// Whether a client must not come in, nor anything of it go out: it is banned, or its certificate has run out or was
    /// revoked.
    fn kept_out(&self, now: Millis, client: &Client) -> Option<ReasonCode> {
        if self.bans.is_banned(client, now) {
            return Some(ReasonCode::Banned);
        }
        let end = self.policy.revoked.end_of(client, now);
        end.map(|_| ReasonCode::NotAuthorized)
    }

    /// The policy in force.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Changed bounds; number and count of shards and durability stay as they were.
    pub fn set_config(&mut self, config: ShardConfig) {
        let lifetime_s = self.config.max_connection_s;
        self.config = ShardConfig {
            shard: self.config.shard,
            shards: self.config.shards,
            durability: self.config.durability,
            ..config
        };
        if self.config.max_connection_s != lifetime_s {
            self.restart_lifetimes();
        }
        self.set_windows();
    }

    /// The next plugin call to carry out.
    pub fn next_call(&mut self) -> Option<(CallId, Call)> {
        self.calls.pop_front()
    }

    /// The next thing to do.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Connections with new output, each once.
    pub fn take_touched(&mut self, into: &mut Vec<ConnId>) {
        let conns = &mut self.conns;
        // Those that were closed meanwhile are not touched any more, even where their number is in use again.
        let touched = |id: &ConnId| {
            let conn = conns.get_mut(id.0 as usize);
            conn.is_some_and(|conn| std::mem::replace(&mut conn.touched, false))
        };
        into.extend(self.touched.drain(..).filter(touched));
    }

    /// Connections whose output has filled up since the last call. What is routed to them goes to their sessions' queues; a
    /// driver that writes them at once, instead of at the end of its pass, keeps a burst from running into the queues' bounds.
    pub fn take_full(&mut self) -> Vec<ConnId> {
        let mut full = std::mem::take(&mut self.full);
        full.retain(|id| {
            let conn = self.conns.get_mut(id.0 as usize);
            conn.is_some_and(|conn| std::mem::replace(&mut conn.full, false))
        });
        full
    }

    /// Whether a plugin is to be called, or a connection to be written, before the next packet is fed.
    pub fn wants_attention(&self) -> bool {
        !self.calls.is_empty() || !self.full.is_empty()
    }

    /// What waits for a connection's socket.
    pub fn output(&mut self, id: ConnId) -> Option<&mut OutBuf> {
        self.conns.get_mut(id.0 as usize).map(|conn| &mut conn.out)
    }

    /// The driver wrote what it could of [`Shard::output`]; what is left keeps no more memory than it needs.
    pub fn settle_output(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id.0 as usize) {
            conn.out.settle(&mut self.spare);
            self.count_output(id);
        }
    }

    /// What waits for another shard, in order. To be asked for every shard in turn until nothing waits for any: some messages
    /// come only when all shards have been given what comes before.
    pub fn take_mesh(&mut self, shard: u16) -> Vec<MeshMessage> {
        let early = self.mesh_out.iter().any(|batch| !batch.is_empty());
        let queue = if early { &mut self.mesh_out } else { &mut self.mesh_late };
        queue
            .get_mut(usize::from(shard))
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.sessions.len() as u64,
            spare_buffers_over_bound: self.spare.over_bound(),
            shadow_over_bound: self.shadowing.as_ref().map_or(0, |shadowing| shadowing.over_bound()),
            window_clients_over_bound: self.windows_over_bound(),
            throttled_clients: self.throttles.len() as u64,
            connections: self.conns.len() as u64,
            subscriptions: self.spaces.iter().map(|(_, space)| space.subscriptions() as u64).sum(),
            ..self.counters.clone()
        }
    }

    /// The answer to a call. `spent_ns` is the plugin time it took, charged to the client.
    pub fn answer(&mut self, now: Millis, id: CallId, answer: Answer, spent_ns: u64) {
        let Some(waiter) = self.waiters.try_remove(id.0 as usize) else {
            return;
        };
        match waiter {
            Waiter::Connect(flow) => {
                let (conn, serial) = flow.conn();
                self.charge(now, conn, serial, spent_ns);
                self.connect_answered(now, flow, answer);
            }
            Waiter::Publish(flow) => {
                if let Some((conn, serial)) = flow.conn() {
                    self.charge(now, conn, serial, spent_ns);
                }
                self.publish_answered(now, flow, answer);
            }
            Waiter::Subscribe(flow) => {
                let (conn, serial) = flow.conn();
                self.charge(now, conn, serial, spent_ns);
                self.subscribe_answered(now, flow, answer);
            }
            Waiter::Deliver(judge, (conn, serial)) => {
                self.charge(now, conn, serial, spent_ns);
                self.deliver_answered(now, *judge, answer);
            }
            Waiter::Reauthenticate(conn, serial) => self.reauthentication_answered(now, conn, serial, answer),
        }
    }

    fn call(&mut self, waiter: Waiter, call: Call) {
        let id = CallId(self.waiters.insert(waiter) as u32);
        self.calls.push_back((id, call));
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The name space of a tenant, made at its first use.
    fn space_of(&mut self, tenant: Option<&Arc<str>>) -> u32 {
        let key = tenant.cloned();
        if let Some(space) = self.by_tenant.get(&key) {
            return *space;
        }
        let space = Space {
            serial: self.next_serial(),
            tenant: key.clone(),
            index: Index::default(),
            retained: Retained::new(self.config.retained_messages, self.config.retained_bytes),
            groups: SharedGroups::default(),
            sessions: 0,
        };
        let slot = self.spaces.insert(space) as u32;
        self.by_tenant.insert(key, slot);
        slot
    }

    /// Forgets a tenant that has nothing left here.
    fn release_space(&mut self, slot: u32) {
        let Some(space) = self.spaces.get(slot as usize) else {
            return;
        };
        if slot != COMMON_SPACE && !space.is_in_use() {
            let space = self.spaces.remove(slot as usize);
            self.by_tenant.remove(&space.tenant);
        }
    }
}
