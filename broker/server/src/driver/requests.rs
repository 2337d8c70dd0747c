//! Questions to the shards from the administration.

use super::ShardEvent;
use super::worker::{Shared, Worker};
use crate::tls::Failure;
use nervewire_codec::ReasonCode;
use nervewire_core::counters::Counters;
use nervewire_core::explain::Inquiry;
use nervewire_core::hook::{AppMessage, Client, Request};
use nervewire_core::shadow::{Differences, Tally as ShadowTally};
use nervewire_core::shard::{SessionInfo, ShardInfo, home_shard};

use nervewire_core::store::{BannedSubject, ClientKey, StoredBan};
use nervewire_core::time::Millis;
use nervewire_core::windows::Tally;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// What the driver of one shard counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct DriverCounters {
    pub(crate) bytes_received: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) accept_errors: u64,
    pub(crate) connections_over_bound: u64,
    pub(crate) listener_connections_over_bound: u64,
    /// Connections to a listener behind proxies from elsewhere, or without a header.
    pub(crate) proxies_refused: u64,
    /// Requests that did not become a WebSocket.
    pub(crate) upgrades_refused: u64,
    pub(crate) connect_timeouts: u64,
    pub(crate) newcomer_slices_over_bound: u64,
    pub(crate) pending_shed: u64,
    pub(crate) mesh_over_bound: u64,
    pub(crate) store_over_bound: u64,
    pub(crate) earlier_generations_over_bound: u64,
    /// In the order of [`Failure::ALL`].
    pub(crate) tls_failures: [u64; Failure::ALL.len()],
    pub(crate) tls_full: u64,
    pub(crate) tls_resumed: u64,
    pub(crate) refused_credentials: u64,
    pub(crate) refused_not_authorized: u64,
    pub(crate) refused_protocol: u64,
    pub(crate) refused_busy: u64,
    pub(crate) refused_other: u64,
}

impl DriverCounters {
    pub(super) fn tls_failed(&mut self, failure: Failure) {
        let position = Failure::ALL.iter().position(|known| *known == failure);
        if let Some(counter) = position.and_then(|at| self.tls_failures.get_mut(at)) {
            *counter += 1;
        }
    }

    pub(super) fn refused(&mut self, reason: ReasonCode) {
        if reason == ReasonCode::Banned {
            return; // Counted where bans are.
        }
        let counter = match reason {
            ReasonCode::BadUserNameOrPassword => &mut self.refused_credentials,
            ReasonCode::NotAuthorized => &mut self.refused_not_authorized,
            ReasonCode::ServerBusy | ReasonCode::ServerUnavailable => &mut self.refused_busy,
            ReasonCode::ProtocolError | ReasonCode::MalformedPacket | ReasonCode::UnsupportedProtocolVersion => {
                &mut self.refused_protocol
            }
            _ => &mut self.refused_other,
        };
        *counter += 1;
    }
}

/// The state of one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardReport {
    pub(crate) counters: Counters,
    pub(crate) totals: ShardInfo,
    pub(crate) driver: DriverCounters,
    /// Questions that cached verdicts answered, by plugin.
    pub(crate) cache_hits: BTreeMap<Arc<str>, u64>,
    /// Comparisons with plugins in shadow mode, by plugin.
    pub(crate) shadows: Vec<(Arc<str>, ShadowTally)>,
}

impl Worker {
    pub(crate) fn report(&mut self) -> ShardReport {
        self.count_cache_hits();
        let shadows = self.shard.shadow_differences().iter();
        ShardReport {
            cache_hits: self.cache_hits.clone(),
            shadows: shadows
                .map(|known| (known.plugin.clone(), known.total.clone()))
                .collect(),
            counters: self.shard.counters(),
            totals: self.shard.info_totals(),
            driver: DriverCounters {
                earlier_generations_over_bound: self.plugins.over_bound,
                ..self.driver.clone()
            },
        }
    }

    /// Adds up what the shard counts by position, which holds for one policy only.
    pub(super) fn count_cache_hits(&mut self) {
        let hits = self.shard.take_cache_hits();
        let policy = self.shard.policy();
        for (authorizer, hits) in policy.authorizers.iter().zip(hits) {
            *self.cache_hits.entry(authorizer.name.clone()).or_default() += hits;
        }
    }

    /// What is known about a request of a client.
    pub(crate) fn inquire(&self, supposed: &Arc<Client>, request: &Request) -> Inquiry {
        self.shard.inquire(self.now, supposed, &request.by_reference())
    }

    /// What was seen of one plugin in shadow mode.
    pub(crate) fn shadow_differences(&self, plugin: &str) -> Option<Differences> {
        let known = self.shard.shadow_differences().iter();
        known.into_iter().find(|known| *known.plugin == *plugin).cloned()
    }

    pub(crate) fn reset_shadow(&mut self, plugin: &str) -> bool {
        self.shard.reset_shadow(plugin)
    }

    pub(crate) fn sessions(&self, limit: usize) -> Vec<SessionInfo> {
        self.shard.sessions(0, limit)
    }

    pub(crate) fn session(&self, tenant: Option<&str>, client_id: &str) -> Option<SessionInfo> {
        self.shard.session(tenant, client_id)
    }

    pub(crate) fn kick(&mut self, tenant: Option<&str>, client_id: &str) -> bool {
        self.shard.kick(self.now, tenant, client_id)
    }

    /// Records a ban; somebody may want to hear when it is durable.
    pub(crate) fn keep_ban(&mut self, ban: StoredBan, stored: Option<Sender<()>>) {
        let number = self.wait_for_ban(stored);
        self.shard.keep_ban(self.now, ban, number);
    }

    /// The same of its end.
    pub(crate) fn lift_ban(&mut self, subject: BannedSubject, stored: Option<Sender<()>>) {
        let number = self.wait_for_ban(stored);
        self.shard.lift_ban(self.now, subject, number);
    }

    fn wait_for_ban(&mut self, stored: Option<Sender<()>>) -> u64 {
        self.serial += 1;
        if let Some(stored) = stored {
            self.waits_for_bans.insert(self.serial, stored);
        }
        self.serial
    }

    /// Ends the connections of everybody who is banned by now.
    pub(crate) fn disconnect_banned(&mut self) {
        let (shared, now) = (self.shared.clone(), self.now);
        self.shard.banish(now, |client| shared.defence.bans_client(client, now));
    }

    /// Ends the window of this shard, and hands out what was counted in it.
    pub(crate) fn close_window(&mut self) -> Vec<Tally> {
        self.shard.close_window()
    }

    pub(crate) fn throttle(&mut self, key: &ClientKey, messages_per_s: u32, until: Millis) -> bool {
        self.shard.throttle(key.clone(), messages_per_s, until)
    }

    pub(crate) fn lift_throttle(&mut self, key: &ClientKey) -> bool {
        self.shard.lift_throttle(key)
    }

    /// Ends a connection because a detector asked for it.
    pub(crate) fn end_odd(&mut self, key: &ClientKey) -> bool {
        self.shard.end_odd(self.now, key)
    }

    /// Publishes a message of the broker itself.
    pub(crate) fn announce(&mut self, message: AppMessage) {
        let broker = Arc::new(Client::unknown("$broker".into(), None));
        self.shard.announce(self.now, &broker, message);
        self.run_calls();
        self.write_full();
    }

    /// Publishes what a plugin made in its own name. Hands it back where publishers must wait.
    pub(crate) fn publish_from(&mut self, plugin: &Client, messages: Vec<AppMessage>) -> Result<(), Vec<AppMessage>> {
        if self.shared.mesh.is_congested(self.number) || self.is_store_congested() {
            return Err(messages);
        }
        for message in messages {
            self.shard.publish_from(self.now, plugin, message);
            // Before the next event, which may swap the instances.
            self.run_calls();
            self.write_full();
        }
        Ok(())
    }

    /// Whether nothing waits for the store.
    pub(crate) fn is_settled(&self) -> bool {
        self.shard.is_settled()
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

/// Asks every shard.
pub(crate) fn ask_all<T: Send + 'static>(
    shared: &Shared,
    question: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
) -> Vec<T> {
    ask(shared, 0..shared.mesh.shards(), question)
}

/// Asks the shard that owns the session of this name, or would own it. `None`: it did not answer in time.
pub(crate) fn ask_home<T: Send + 'static>(
    shared: &Shared,
    tenant: Option<&str>,
    client_id: &str,
    question: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
) -> Option<T> {
    let home = home_shard(tenant, client_id, shared.mesh.shards());
    ask(shared, home..home + 1, question).pop()
}

/// Asks these shards and waits for the answers; a shard that does not answer in time is left out.
fn ask<T: Send + 'static>(
    shared: &Shared,
    shards: Range<u16>,
    question: impl Fn(&mut Worker) -> T + Send + Sync + 'static,
) -> Vec<T> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let question = Arc::new(question);
    let (sender, answers) = channel();
    for shard in shards.clone() {
        let (sender, question) = (sender.clone(), question.clone());
        let ask = Box::new(move |worker: &mut Worker| {
            let _ = sender.send(question(worker)); // Nobody waits any more.
        });
        shared.mesh.send(shard, ShardEvent::Ask(ask));
    }
    drop(sender);
    shards.map_while(|_| answers.recv_timeout(PATIENCE).ok()).collect()
}
