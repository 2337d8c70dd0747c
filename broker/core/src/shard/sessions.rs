//! The sessions of a shard, by slot and by key.

use crate::session::Session;
use crate::table::Table;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// A session's key is in the facts of its client; the table of keys holds slots alone.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    slots: Table<Session>,
    /// Below the number of slots that were ever used.
    vacant: Vec<u32>,
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
    stored: usize,
}

impl Sessions {
    pub(super) fn get(&self, slot: usize) -> Option<&Session> {
        self.slots.get(slot)
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)
    }

    /// The slot of a session.
    pub(super) fn find(&self, tenant: Option<&str>, client_id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((tenant, client_id));
        let is_meant = |slot: &u32| {
            let session = self.slots.get(*slot as usize);
            session.is_some_and(|session| key(session) == (tenant, client_id))
        };
        self.by_key.find(hash, is_meant).copied()
    }

    /// Takes in a session whose key none has, and answers its slot.
    pub(super) fn insert(&mut self, session: Session) -> u32 {
        let hash = self.hasher.hash_one(key(&session));
        // Without vacant slots they are used from 0 on without a gap.
        let slot = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        self.slots.insert(slot as usize, session);
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |slot: &u32| {
            let session = slots.get(*slot as usize);
            session.map_or(0, |session| hasher.hash_one(key(session)))
        };
        self.by_key.insert_unique(hash, slot, rehash);
        slot
    }

    pub(super) fn try_remove(&mut self, slot: usize) -> Option<Session> {
        let session = self.slots.remove(slot)?;
        self.stored -= usize::from(session.stored);
        match self.slots.is_empty() {
            true => self.vacant = Vec::new(),
            false => self.vacant.push(slot as u32),
        }
        let hash = self.hasher.hash_one(key(&session));
        if let Ok(entry) = self.by_key.find_entry(hash, |known| *known as usize == slot) {
            entry.remove();
        }
        Some(session)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Session)> {
        self.slots.iter()
    }

    /// All slots in use are below.
    pub(super) fn end(&self) -> usize {
        self.slots.len() + self.vacant.len()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The store has a record of a session.
    pub(super) fn mark_stored(&mut self, slot: usize) {
        if let Some(session) = self.slots.get_mut(slot) {
            self.stored += usize::from(!std::mem::replace(&mut session.stored, true));
        }
    }

    /// How many the store has a record of.
    pub(super) fn stored(&self) -> usize {
        self.stored
    }
}

fn key(session: &Session) -> (Option<&str>, &str) {
    (session.tenant().map(|tenant| &**tenant), &session.client.client_id)
}
