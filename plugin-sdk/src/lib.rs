//! Write plugins for the Nervewire MQTT broker: one trait implementation per hook and one macro line.
//!
//! ```
//! use nervewire_plugin_sdk::{export, prelude::*};
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     greeting: String,
//! }
//!
//! struct Doorman {
//!     greeting: String,
//! }
//!
//! impl Plugin for Doorman {
//!     type Config = Config;
//!
//!     fn init(config: Config, _files: Files) -> Result<Self, String> {
//!         Ok(Self { greeting: config.greeting })
//!     }
//! }
//!
//! impl Authenticate for Doorman {
//!     fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication {
//!         match &credentials.username {
//!             None => Authentication::Abstain,
//!             Some(name) if name == "mallory" => Authentication::Deny(Refusal::Banned),
//!             Some(name) => {
//!                 log::info!("{}, {name} from {}", self.greeting, client.address);
//!                 Authentication::allow()
//!             }
//!         }
//!     }
//! }
//!
//! export!(Doorman: authenticate);
//! # fn main() {}
//! ```
//!
//! The crate depends on this one and on `serde`, and is a `["cdylib", "rlib"]`:
//! `cargo build --release --target wasm32-wasip2` makes the component, and plain `cargo test` tests it natively, with
//! [`testing`].
//!
//! A plugin has no file system, environment or network. What the broker offers it is in [`log`], [`clock`], [`metrics`]
//! and [`counters`], and by grant in [`kv`], [`random`] and [`http`]; a component imports only what its code calls.
//!
//! | a plugin | implements | and names in [`export!`] |
//! |---|---|---|
//! | says who a client is | [`Authenticate`] | `authenticate` |
//! | says what a client may do, at best as [rules](Authorize::rules) | [`Authorize`] | `authorize` |
//! | changes, splits, drops or refuses messages | [`Transform`] | `transform` |
//! | says what is odd | [`Detect`] | `detect` |
//! | does something by itself every so often | [`Plugin::tick`] | |

#[cfg(any(all(target_arch = "wasm32", feature = "allocator"), test))]
#[allow(unsafe_code)] // An allocator hands out raw memory.
mod allocator;
mod authentication;
mod authorization;
#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(any(all(target_arch = "wasm32", feature = "allocator"), test))]
#[allow(unsafe_code)] // As above.
mod call_arena;
mod config;
mod detection;
mod export;
#[doc(hidden)]
pub mod grants;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
mod host;
pub mod http;
#[cfg(not(target_arch = "wasm32"))]
mod native;
mod plugin;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod topic;
mod transformation;
mod types;

pub use authentication::{Authenticate, Authentication, Credentials, Identity, Quotas, Refusal};
pub use authorization::{
    Action, Actions, Authorize, Decision, Dependencies, Effect, Request, Rule, RuleBuilder, Verdict,
};
pub use detection::{Detect, Finding, Response, Window};
pub use host::{clock, counters, kv, log, metrics, random};
pub use plugin::Plugin;
pub use transformation::{Rejection, Transform, Transformation};
pub use types::{Certificate, Client, Files, Message, Property, Protocol, Qos};

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
#[global_allocator]
static ALLOCATOR: allocator::Blocks = allocator::Blocks::new();

#[doc(no_inline)]
pub use serde;

/// What a plugin needs: `use nervewire_plugin_sdk::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Action, Actions, Authenticate, Authentication, Authorize, Client, Credentials, Decision, Detect, Files,
        Finding, Identity, Message, Plugin, Qos, Refusal, Rejection, Request, Rule, Transform, Transformation, Verdict,
        Window, clock, counters, http, kv, log, metrics, random, topic,
    };
    #[doc(no_inline)]
    pub use serde::Deserialize;
}
