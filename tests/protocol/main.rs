//! The two specifications, as a client sees them: one test per behaviour, with one and with two shards.

#[path = "../support/mod.rs"]
mod support;

mod connect;
mod expiry;
mod limits;
mod malformed;
mod qos;
mod redelivery;
mod retained;
mod session;
mod shared;
mod shutdown;
mod subscriptions;
mod will;
