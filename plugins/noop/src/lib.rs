//! The least a plugin can do in every hook: what a call of it costs is what the sandbox costs. `nervewire plugin bench` measures
//! it beside the plugin it is about. Not a `builtin:`.

use nervewire_plugin_sdk::{export, prelude::*};

/// The plugin: nothing.
#[derive(Clone, Copy, Debug)]
pub struct Noop;

impl Plugin for Noop {
    type Config = ();

    fn init(_config: (), _files: Files) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Authenticate for Noop {
    fn authenticate(&mut self, _client: &Client, _credentials: &Credentials) -> Authentication {
        Authentication::Abstain
    }
}

impl Authorize for Noop {}

impl Transform for Noop {
    fn transform(&mut self, _client: &Client, _message: Message) -> Transformation {
        Transformation::Pass
    }
}

impl Detect for Noop {
    fn detect(&mut self, _windows: &[Window]) -> Vec<Finding> {
        Vec::new()
    }
}

export!(Noop: authenticate, authorize, transform, detect);
