//! Knows what each client usually does, and says when one does something else: sends far more, falls silent, tries out topics,
//! is denied again and again, changes its payloads, or is in two places; and when somebody tries out passwords.
//!
//! Everything here is counted in windows of the broker, and nothing is done but answering them: no grant is needed.

mod baseline;
mod clients;
mod guard;
mod logins;
mod rules;
mod settings;
#[cfg(test)]
mod tests;

pub use guard::Guard;
pub use settings::{Config, Response, Rules};

use nervewire_plugin_sdk::{export, prelude::*};

impl Plugin for Guard {
    type Config = Config;

    fn init(config: Config, _: Files) -> Result<Self, String> {
        config.check()?;
        Ok(Self::new(config))
    }
}

impl Detect for Guard {
    fn detect(&mut self, windows: &[Window]) -> Vec<Finding> {
        self.look_at(windows)
    }
}

export!(Guard: detect);
