use crate::{Files, Message};
use serde::de::DeserializeOwned;

/// A plugin: its configuration, and how an instance begins.
///
/// The broker keeps several instances of a plugin; each sees only some of the calls, and a trap or a swap throws its
/// memory away. What instances must share belongs into [`kv`](crate::kv).
pub trait Plugin: Sized + 'static {
    /// The plugin's `config` table. `()`: there is none. Keys that it does not know are refused where the type says
    /// `#[serde(deny_unknown_fields)]`, as it should.
    type Config: DeserializeOwned + 'static;

    /// Called once per instance, before any other call; called again, it replaces the instance.
    ///
    /// # Errors
    /// In words for the person who wrote the configuration: they refuse the change that caused the load.
    fn init(config: Self::Config, files: Files) -> Result<Self, String>;

    /// [`tick`](Self::tick) is called this often; `None`: never. Asked once, after `init`.
    fn tick_milliseconds(&self) -> Option<u32> {
        None
    }

    /// Called on one instance of the plugin; `now` is Unix time in milliseconds. The messages are published in the
    /// plugin's name under its `publish:` grants.
    fn tick(&mut self, now: u64) -> Vec<Message> {
        let _ = now;
        Vec::new()
    }
}
