//! What reaches a shard from other threads: one queue each, one wake per batch.
//!
//! All senders share a shard's queue, so that whoever was told of an effect finds its cause already queued before it: a message
//! that was acknowledged on one shard is in the queue of every other before a later SUBSCRIBE there can ask for it.

use super::accept::ListenerSettings;
use super::handshake::Adopted;
use super::plugins::ShardPlugins;
use super::worker::Worker;
use nervewire_core::handshake::ChainOutcome;
use nervewire_core::limits::ShardConfig;
use nervewire_core::policy::Policy;
use nervewire_core::shadow::ShadowAnswer;
use nervewire_core::shard::{Answer, CallId, MeshMessage};
use nervewire_store::StoreEvent;
use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

/// Bounds of the driver.
pub(crate) mod bounds {
    /// Messages queued for one shard by all others; above, nobody reads publishers until it has caught up.
    pub(crate) const MESH_MESSAGES: usize = 65_536;
    /// Bytes handed to the journal by all shards and not stored yet; above, nobody reads publishers.
    pub(crate) const STORE_PENDING_BYTES: u64 = 64 * 1024 * 1024;
    /// Bytes read from one connection in one pass.
    pub(crate) const READ_BYTES_PER_PASS: usize = 256 * 1024;
    /// A read counts as so many bytes at least.
    pub(crate) const READ_BYTES_AT_LEAST: usize = 1_024;
    /// Reads before CONNECT that bring frames of WebSocket and nothing of MQTT.
    pub(crate) const HANDSHAKE_EMPTY_READS: u32 = 64;
    /// Bytes of a CONNECT or AUTH packet from a client that was not let in yet.
    pub(crate) const HANDSHAKE_PACKET_BYTES: u32 = 262_144;
    /// Earlier generations of plugins that a shard keeps for answers that are awaited.
    pub(crate) const EARLIER_GENERATIONS: usize = 8;
    /// Authentications that wait for a worker.
    pub(crate) const AUTHENTICATION_QUEUE: usize = 65_536;
    /// Time for the last bytes to leave a connection that is being closed.
    pub(crate) const LINGER_MS: u64 = 5_000;
    /// Live connections whose certificates are judged again in one pass after a reload, which takes a tenth of a millisecond each.
    pub(crate) const JUDGED_PER_PASS: usize = 16;
    /// Microseconds of one pass for accepting, as many for connections that are not let in, and as many for closing those that are late.
    pub(crate) const NEWCOMERS_US_PER_PASS: u64 = 250;
}

/// An event from another thread.
pub(crate) enum ShardEvent {
    /// A batch of messages from another shard.
    Mesh(Vec<MeshMessage>),
    /// What became of something that was handed to the journal.
    Store(StoreEvent),
    /// A connection whose session lives here.
    Adopt(Box<Adopted>),
    /// The authenticators decided about a connection that is not let in yet (slot, serial).
    Authenticated(usize, u64, ChainOutcome),
    /// The authenticators decided about a connected client.
    Reauthenticated(CallId, ChainOutcome),
    /// An asynchronous plugin answered a call of the policy of this generation.
    Answered {
        generation: u64,
        call: CallId,
        answer: Answer,
    },
    /// What a plugin said for a comparison; `None`: there will be no answer.
    Shadow(u64, Option<ShadowAnswer>),
    /// A new generation of everything that can change; the sender hears when it is in force.
    Swap(Box<Swap>),
    /// A question from the administration.
    Ask(Box<dyn FnOnce(&mut Worker) + Send>),
    /// Accept nobody more, read nobody more and send all wills.
    SettleWills(Sender<()>),
    /// Say goodbye to every client, write what can be written, end.
    ShutDown,
}

impl ShardEvent {
    /// Messages from another shard.
    fn weight(&self) -> usize {
        match self {
            Self::Mesh(batch) => batch.iter().map(MeshMessage::weight).sum(),
            _ => 0,
        }
    }
}

/// What a reload replaces on a shard.
pub(crate) struct Swap {
    pub(crate) policy: Arc<Policy>,
    pub(crate) plugins: ShardPlugins,
    pub(crate) config: ShardConfig,
    /// All listeners from now on; those with a socket are new.
    pub(crate) listeners: Vec<(Arc<ListenerSettings>, Option<TcpListener>)>,
    pub(crate) done: Sender<()>,
}

/// The queue of one shard.
pub(crate) struct Inbox {
    events: Mutex<VecDeque<ShardEvent>>,
    waker: mio::Waker,
    /// A wake is under way or the shard is awake.
    awake: AtomicBool,
    mesh_messages: AtomicUsize,
    /// Somebody stopped reading because of this shard.
    waited_for: AtomicBool,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            events: Mutex::new(VecDeque::new()),
            waker,
            awake: AtomicBool::new(false),
            mesh_messages: AtomicUsize::new(0),
            waited_for: AtomicBool::new(false),
        }
    }

    pub(crate) fn send(&self, event: ShardEvent) {
        self.mesh_messages.fetch_add(event.weight(), Ordering::Relaxed);
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(event);
        self.wake();
    }

    fn wake(&self) {
        if !self.awake.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    /// Everything that waits. Called by the shard at the start of a pass.
    pub(super) fn take(&self) -> VecDeque<ShardEvent> {
        // Before the lock: an event sent after this wakes again, at worst once too often.
        self.awake.store(false, Ordering::Release);
        let events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        let arrived = events.iter().map(ShardEvent::weight).sum();
        self.mesh_messages.fetch_sub(arrived, Ordering::Relaxed);
        events
    }
}

/// The inboxes of all shards.
pub(crate) struct Mesh {
    pub(crate) inboxes: Vec<Inbox>,
}

impl Mesh {
    pub(crate) fn shards(&self) -> u16 {
        self.inboxes.len() as u16
    }

    pub(crate) fn send(&self, shard: u16, event: ShardEvent) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard)) {
            inbox.send(event);
        }
    }

    /// Whether some shard is so far behind that publishers must wait; it then wakes everybody when it has caught up.
    pub(super) fn is_congested(&self, own: u16) -> bool {
        let behind = |inbox: &Inbox| inbox.mesh_messages.load(Ordering::Relaxed) > bounds::MESH_MESSAGES;
        let mut congested = false;
        for (shard, inbox) in self.inboxes.iter().enumerate() {
            if shard != usize::from(own) && behind(inbox) {
                inbox.waited_for.store(true, Ordering::SeqCst);
                // It may have caught up between the two looks.
                congested |= behind(inbox);
            }
        }
        congested
    }

    /// This shard took everything that waited: those who waited for it may go on.
    pub(super) fn caught_up(&self, own: u16) {
        let Some(inbox) = self.inboxes.get(usize::from(own)) else {
            return;
        };
        if inbox.waited_for.load(Ordering::SeqCst) && inbox.waited_for.swap(false, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    /// Every shard makes a pass.
    pub(super) fn wake_all(&self) {
        self.inboxes.iter().for_each(Inbox::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nervewire_core::shard::SessionRef;
    use std::time::Duration;

    fn two_shards() -> (Mesh, Vec<mio::Poll>) {
        crate::driver::inboxes(2).unwrap()
    }

    fn batch(messages: usize) -> ShardEvent {
        let session = SessionRef {
            shard: 0,
            slot: 0,
            serial: 0,
        };
        let message = MeshMessage::Gathered {
            session,
            ticket: 0,
            messages: Vec::new(),
        };
        ShardEvent::Mesh(vec![message; messages])
    }

    fn is_woken(poll: &mut mio::Poll) -> bool {
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        !events.is_empty()
    }

    #[test]
    fn events_come_out_in_order_with_one_wake() {
        let (mesh, mut polls) = two_shards();
        mesh.send(1, batch(1));
        mesh.send(1, ShardEvent::ShutDown);
        assert!(is_woken(&mut polls[1]));
        let events = mesh.inboxes[1].take();
        assert!(matches!(
            events.iter().collect::<Vec<_>>()[..],
            [ShardEvent::Mesh(_), ShardEvent::ShutDown]
        ));
        assert!(!is_woken(&mut polls[1]));
        mesh.send(1, ShardEvent::ShutDown);
        assert!(is_woken(&mut polls[1]), "taken events must not swallow the next wake");
    }

    #[test]
    fn whoever_waits_for_a_shard_is_woken_when_it_has_caught_up() {
        let (mesh, mut polls) = two_shards();
        mesh.send(1, batch(bounds::MESH_MESSAGES));
        assert!(!mesh.is_congested(0));
        mesh.send(1, batch(1));
        assert!(mesh.is_congested(0));
        assert!(!mesh.is_congested(1), "a shard does not wait for itself");
        assert!(!is_woken(&mut polls[0]));
        mesh.inboxes[1].take();
        mesh.caught_up(1);
        assert!(is_woken(&mut polls[0]));
        assert!(!mesh.is_congested(0));
    }
}
