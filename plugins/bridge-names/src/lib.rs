//! `builtin:bridge-names`: the topics and payloads of several vendors become one language, and commands in it become theirs.
//!
//! ```toml
//! [[plugin]]
//! name = "bridge-names"
//! component = "builtin:bridge-names"
//! grants = ["publish:home/#", "publish:zigbee2mqtt/#", "publish:cmnd/#"]
//! config.presets = ["zigbee2mqtt", "tasmota"]
//! config.devices.zigbee2mqtt = { "0x00158d0001a2b3c4" = "kitchen/plug" }
//! config.devices.tasmota = { "tasmota_8F3A21" = "office/lamp" }
//! ```
//!
//! `zigbee2mqtt/0x00158d0001a2b3c4` with `{"state":"ON","power":4.2}` becomes `home/kitchen/plug/switch` with `true` and
//! `home/kitchen/plug/power_w` with `4.2`; `true` on `home/office/lamp/switch/set` becomes `cmnd/tasmota_8F3A21/POWER` with `ON`.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `presets` | none | `"zigbee2mqtt"`, `"tasmota"`: ready-made `rules` and `commands`, which come after your own |
//! | `root` | `"home"` | the first levels of the common topics |
//! | `state` | `"messages"` | one message per capability, on `ROOT/NAME/CAPABILITY`; or `"json"`: all that a message says in one object, on `ROOT/NAME/state` |
//! | `keep_original` | `false` | whether the vendor's message goes on as well |
//! | `devices.VENDOR` | none | what a device is called: `{ "its own name" = "room/name" }`; others keep their own name |
//! | `default_vendor` | none | whose devices get commands for names that are not in `devices`, under that name; none: such commands pass unchanged |
//! | `rules`, `commands` | none | see below |
//!
//! An entry of `rules` says what a vendor's message means; the first whose `match` matches the topic applies:
//!
//! | key | meaning |
//! |---|---|
//! | `match` | a topic filter, or a list of them; its first level must be a name, and not the one of `root` |
//! | `vendor` | whose it is: the table of `devices` |
//! | `device` | the device's own name: `${1}`, `${2}`, ... is what the first, second, ... `+` stands for; without it all of them, separated by `/` |
//! | `fields` | for a JSON object: entries with a `field` (`"Wifi.RSSI"`; `*` is any name), its `capability` and its conversion |
//! | `payload` | for any other payload: a `capability` and its conversion |
//! | `on_invalid` | a payload that is neither: `"reject"` (payload format invalid, the default) or `"pass"` |
//! | `ignore` | `true`: messages on this topic pass unchanged |
//!
//! An entry of `commands` says how to have a capability changed, by a message on `ROOT/NAME/CAPABILITY/set`:
//!
//! | key | meaning |
//! |---|---|
//! | `vendor`, `capability` | what it is for |
//! | `topic` | the vendor's topic; `${device}` is the device's own name |
//! | `field` | the payload is a JSON object with this field; without it the value alone |
//! | `min`, `max` | numbers beyond are refused |
//!
//! A conversion is `values` (from what it says, whatever its case, to what it shall say: what is not in the table is left out of a state
//! and refused in a command), or `factor`, `offset` and `round` (digits) for a number, or `unit = "F"` (degrees Fahrenheit become
//! Celsius) or `unit_from = "TempUnit"` (the same where that field says `F`). Without one a value stays as it is, to the last digit.
//!
//! **No loop.** A topic that is translated never begins with `root` and one that is made does, or the other way round, so no rule sees
//! what another has made; that is checked when the configuration is loaded. What the plugin makes carries the user property
//! `bridge-names`, and a message that comes in with it, by way of another broker, passes unchanged.
//!
//! QoS, retain flag and properties of a message stay. More than 16 capabilities in one message cannot be sent: the rest is left out.
//! A message that says nothing that is known passes unchanged. Counters: `states`, `commands`, `refused`, `unknown` (nothing known in
//! it), `left_out`, `returned` (with the user property).

mod command;
mod convert;
mod devices;
mod preset;
mod state;

use command::{Command, CommandConfig, Commands};
use devices::Devices;
use nervewire_plugin_parts::compile_each;
use nervewire_plugin_sdk::{export, prelude::*, topic::is_valid_name};
use state::{Reading, StateConfig, States};
use std::collections::BTreeMap;

/// On everything that this plugin makes.
const MARK: &str = "bridge-names";

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    presets: Vec<String>,
    #[serde(default = "default_root")]
    root: String,
    #[serde(default)]
    state: Form,
    #[serde(default)]
    keep_original: bool,
    #[serde(default)]
    devices: BTreeMap<String, BTreeMap<String, String>>,
    default_vendor: Option<String>,
    #[serde(default)]
    rules: Vec<StateConfig>,
    #[serde(default)]
    commands: Vec<CommandConfig>,
}

fn default_root() -> String {
    "home".to_owned()
}

/// How a state is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Messages,
    Json,
}

/// The plugin.
#[derive(Debug)]
pub struct BridgeNames {
    states: States,
    commands: Commands,
    devices: Devices,
}

impl Plugin for BridgeNames {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        if !is_valid_name(&config.root) || config.root.starts_with('$') {
            return Err(format!("config.root = `{}` is no topic name", config.root));
        }
        let state = |rule| state::compile(rule, &config.root);
        let command = |rule| Command::compile(rule, &config.root);
        let mut states = compile_each("config.rules", config.rules, state)?;
        let mut commands = compile_each("config.commands", config.commands, command)?;
        for name in &config.presets {
            let preset = preset::named(name)?;
            states.extend(compile_each(name, preset.rules, state)?);
            commands.extend(compile_each(name, preset.commands, command)?);
        }
        let states: Vec<_> = states.into_iter().flatten().collect();
        let mut vendors: Vec<_> = states.iter().filter_map(state::State::vendor).collect();
        vendors.extend(commands.iter().map(Command::vendor));
        let devices = Devices::new(config.devices, config.default_vendor, &vendors)?;
        Ok(Self {
            states: States::new(states, config.root.clone(), config.state, config.keep_original),
            commands: Commands::new(commands, &config.root),
            devices,
        })
    }
}

impl Transform for BridgeNames {
    fn transform(&mut self, client: &Client, message: Message) -> Transformation {
        if message.user_properties.iter().any(|property| property.name == MARK) {
            return counted("returned", Transformation::Pass);
        }
        if let Some((name, capability)) = self.commands.addressed(&message.topic) {
            let Some((vendor, device)) = self.devices.device(name) else {
                return counted("unknown", Transformation::Pass);
            };
            return match self.commands.translate(vendor, device, capability, &message) {
                Ok(command) => counted("commands", Transformation::Replace(command)),
                Err(rejection) => counted("refused", Transformation::Reject(rejection)),
            };
        }
        match self.states.translate(client, &message, &self.devices) {
            None => Transformation::Pass,
            Some(Reading::Unknown) => counted("unknown", Transformation::Pass),
            Some(Reading::Invalid) => counted("refused", Transformation::Reject(Rejection::PayloadFormatInvalid)),
            Some(Reading::Said(mut messages)) => counted(
                "states",
                match messages.pop() {
                    Some(only) if messages.is_empty() => Transformation::Replace(only),
                    last => {
                        messages.extend(last);
                        Transformation::Emit(messages)
                    }
                },
            ),
        }
    }
}

fn counted(counter: &str, outcome: Transformation) -> Transformation {
    counters::add(counter, 1);
    outcome
}

export!(BridgeNames: transform);

#[cfg(test)]
mod tests;
