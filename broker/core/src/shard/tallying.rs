//! Counts what clients do, where a plugin looks for what is odd. Each of these is one branch where none does.

use super::{ConnId, Shard};
use crate::hook::Client;
use crate::windows::{Tally, Windows};
use nervewire_codec::PublishRef;
use std::sync::Arc;

impl Shard {
    /// Whether what clients do is counted.
    #[inline]
    pub fn counts_windows(&self) -> bool {
        self.windows.is_some()
    }

    /// Bytes that came from a client's socket.
    #[inline]
    pub fn count_bytes_in(&mut self, id: ConnId, bytes: usize) {
        if self.windows.is_some()
            && let Some(tally) = self.tally_on(id)
        {
            tally.bytes_in(bytes);
        }
    }

    /// Bytes that went into a client's socket.
    #[inline]
    pub fn count_bytes_out(&mut self, id: ConnId, bytes: usize) {
        if self.windows.is_some()
            && bytes > 0
            && let Some(tally) = self.tally_on(id)
        {
            tally.bytes_out(bytes);
        }
    }

    /// The driver refused a CONNECT.
    pub fn count_refused_login(&mut self, client: &Arc<Client>) {
        if let Some(stranger) = self.windows.as_deref_mut().and_then(|windows| windows.stranger(client)) {
            stranger.failed_login();
        }
    }

    /// Somebody broke the protocol between its CONNECT and the answer.
    pub fn count_malformed_stranger(&mut self, client: &Arc<Client>) {
        if let Some(stranger) = self.windows.as_deref_mut().and_then(|windows| windows.stranger(client)) {
            stranger.malformed_packet();
        }
    }

    /// Ends the window and hands out what was counted in it.
    pub fn close_window(&mut self) -> Vec<Tally> {
        self.windows.as_deref_mut().map(Windows::close).unwrap_or_default()
    }

    #[inline]
    pub(super) fn count_message_in(&mut self, session: u32, publish: &PublishRef<'_>) {
        if let Some(windows) = &mut self.windows
            && let Some(s) = self.sessions.get_mut(session as usize)
        {
            windows.message_in(&mut s.tally, &s.client, publish.topic.as_str(), publish.payload.len());
        }
    }

    #[inline]
    pub(super) fn count_message_out(&mut self, session: u32) {
        if self.windows.is_some()
            && let Some(tally) = self.tally(session)
        {
            tally.message_out();
        }
    }

    pub(super) fn count_denial_on(&mut self, id: ConnId) {
        if let Some(tally) = self.tally_on(id) {
            tally.denial();
        }
    }

    pub(super) fn count_malformed_packet(&mut self, id: ConnId) {
        if let Some(tally) = self.tally_on(id) {
            tally.malformed_packet();
        }
    }

    pub(super) fn count_connect(&mut self, session: u32) {
        if self.windows.is_none() {
            return;
        }
        let client = self.sessions.get(session as usize).map(|s| s.client.clone());
        if let (Some(client), Some(tally)) = (client, self.tally(session)) {
            tally.connect(&client);
        }
    }

    /// As the policy and the configuration want it.
    pub(super) fn set_windows(&mut self) {
        let max_clients = self.config.window_clients;
        match (&mut self.windows, self.policy.detects) {
            (Some(windows), true) => windows.set_max_clients(max_clients),
            (None, true) => self.windows = Some(Box::new(Windows::new(max_clients))),
            (_, false) => {
                self.counters.window_clients_over_bound = self.windows_over_bound();
                self.windows = None;
            }
        }
    }

    /// Since the start: what earlier detectors' windows counted, and those of now.
    pub(super) fn windows_over_bound(&self) -> u64 {
        let now = self.windows.as_ref().map_or(0, |windows| windows.over_bound());
        self.counters.window_clients_over_bound + now
    }

    fn tally_on(&mut self, id: ConnId) -> Option<&mut Tally> {
        self.windows.as_ref()?;
        let session = self.conn(id)?.session?;
        self.tally(session)
    }

    fn tally(&mut self, session: u32) -> Option<&mut Tally> {
        let windows = self.windows.as_deref_mut()?;
        let s = self.sessions.get_mut(session as usize)?;
        windows.tally(&mut s.tally, &s.client)
    }
}
