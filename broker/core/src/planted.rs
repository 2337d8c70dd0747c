//! Bugs that can be switched on, to show that the simulation (`tests/simulation`) finds such. A release build has none of this; in
//! a debug build a shard has no bug until somebody plants one, and nothing but that test does.

use crate::shard::Shard;

/// A bug, by what it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// PUBACK and PUBREC leave before what they promise is durable.
    AcknowledgeBeforeCommit,
    /// A QoS 2 identifier of a client is forgotten with its connection.
    ForgetIdentifier,
    /// A takeover costs the session a message of its queue.
    DropOnTakeover,
    /// What is sent again after a reconnect is out of order.
    ReorderAfterRedelivery,
}

#[cfg(debug_assertions)]
impl Shard {
    /// From now on this shard has a bug.
    pub fn plant(&mut self, bug: Planted) {
        self.planted = Some(bug);
    }

    /// Whether it has this one.
    pub(crate) fn has_planted(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }
}

#[cfg(not(debug_assertions))]
impl Shard {
    /// Never: there are no bugs to be planted.
    #[inline(always)]
    pub(crate) const fn has_planted(&self, _bug: Planted) -> bool {
        false
    }
}
