#![allow(dead_code)] // Its other parts use the rest.

//! The plugin host's `spec.rs`, and what it is made of.

#[path = "../../../../broker/plugin-host/src/origin.rs"]
mod origin;
#[path = "../../../../broker/plugin-host/src/spec.rs"]
mod spec;

pub use origin::Origin;
pub use spec::*;
