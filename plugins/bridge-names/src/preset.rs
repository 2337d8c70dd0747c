//! Rules and commands that come with the plugin, written as they are in a configuration.

use crate::command::CommandConfig;
use crate::state::StateConfig;
use nervewire_plugin_sdk::prelude::*;

const PRESETS: [(&str, &str); 2] = [
    ("zigbee2mqtt", include_str!("presets/zigbee2mqtt.json")),
    ("tasmota", include_str!("presets/tasmota.json")),
];

/// What a vendor's devices say and understand.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preset {
    pub(crate) rules: Vec<StateConfig>,
    pub(crate) commands: Vec<CommandConfig>,
}

/// # Errors
/// What to write instead.
pub(crate) fn named(name: &str) -> Result<Preset, String> {
    let Some((_, json)) = PRESETS.iter().find(|(known, _)| *known == name) else {
        let known = PRESETS.map(|(known, _)| format!("\"{known}\"")).join(" or ");
        return Err(format!("config.presets: there is no {name:?}, write {known}"));
    };
    serde_json::from_str(json).map_err(|error| format!("preset {name}: {error}"))
}
