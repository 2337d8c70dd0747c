//! The admin surface: what an operator can see of a running broker and change about it, over HTTP and on the command line.
//!
//! [`backend`] says what the broker must be able to answer, [`server`] serves it, [`guard`] decides who may ask, and
//! [`client`] with [`view`] is the other end: `nervewire status`, `clients`, `kick`, `plugins` and `reload`.

pub(crate) mod alerts;
pub(crate) mod api;
pub(crate) mod backend;
pub(crate) mod bans;
pub(crate) mod client;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod guard;
pub(crate) mod metrics;
pub(crate) mod server;
pub(crate) mod table;
pub(crate) mod view;

#[cfg(test)]
mod tests;

/// Where the admin API listens when nothing says otherwise.
pub(crate) const DEFAULT_ADMIN_ADDRESS: &str = "127.0.0.1:8080";
