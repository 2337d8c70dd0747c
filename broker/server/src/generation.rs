//! From a configuration to a generation: plugins compiled, checked, initialized, and warm for every shard, before any of them
//! counts.

use crate::auth_pool::AuthChain;
use crate::builtin;
use crate::config::{self, Component, Config, Mode};
use crate::detect::Detecting;
use crate::driver::{Place, ShardPlugins};
use crate::shadow::{self, ShadowPlugins};
use crate::tick::Ticking;
use anyhow::{Context, Result, anyhow};
use nervewire_codec::Utf8String;
use nervewire_core::certificates::RevokedCertificates;
use nervewire_core::hook::Client;
use nervewire_core::policy::{Authorizer, Policy, Publisher, Transform};
use nervewire_plugin_host::{Hook, Host, Plugin, PluginSpec, Role};
use std::path::Path;
use std::sync::Arc;

/// The plugins of one configuration, ready to be swapped in.
pub(crate) struct Generation {
    pub(crate) policy: Arc<Policy>,
    pub(crate) plugins: Vec<LoadedPlugin>,
}

/// One plugin with the part of its configuration that the broker itself acts on.
#[derive(Clone)]
pub(crate) struct LoadedPlugin {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) settings: config::Plugin,
    /// The generation that loaded it.
    pub(crate) since: u64,
    fingerprint: Fingerprint,
}

/// What a plugin was made of: where nothing of it changed, the loaded plugin is used again.
#[derive(Clone, PartialEq)]
struct Fingerprint {
    component: Arc<[u8]>,
    files: Vec<(String, Vec<u8>)>,
    settings: config::Plugin,
}

impl LoadedPlugin {
    /// What it says happens.
    pub(crate) fn is_enforced(&self) -> bool {
        self.settings.mode == Mode::Enforce
    }
}

/// Loads every plugin of a configuration.
///
/// # Errors
/// The first plugin that cannot be loaded, with its name and what to do.
pub(crate) fn load(host: &Host, config: &Config, number: u64, previous: &[LoadedPlugin]) -> Result<Generation> {
    let plugins = config
        .plugins
        .iter()
        .map(|settings| load_plugin(host, settings, number, previous))
        .collect::<Result<Vec<_>>>()?;
    refuse_silent_authenticators(config, &plugins)?;
    let policy = Arc::new(policy(&plugins, config, number)?);
    Ok(Generation { policy, plugins })
}

/// A listener whose clients are to be judged by a plugin that judges nobody would let them in or not for another reason.
fn refuse_silent_authenticators(config: &Config, plugins: &[LoadedPlugin]) -> Result<()> {
    for listener in &config.listeners {
        for name in listener.own.authenticators.iter().flatten() {
            let named = plugins.iter().find(|loaded| loaded.settings.name == *name);
            if !named.is_some_and(|loaded| loaded.plugin.has_hook(Hook::Authenticate)) {
                return Err(anyhow!(
                    "listener {}: plugin \"{name}\" has no hook `authenticate`; write others in `authenticators`",
                    listener.bind.text
                ));
            }
        }
    }
    Ok(())
}

/// Plugins that were loaded before, as another generation.
///
/// # Errors
/// A topic filter that is none, which it was not when they were loaded.
pub(crate) fn again(config: &Config, number: u64, plugins: Vec<LoadedPlugin>) -> Result<Generation> {
    let policy = Arc::new(policy(&plugins, config, number)?);
    Ok(Generation { policy, plugins })
}

fn load_plugin(host: &Host, settings: &config::Plugin, number: u64, previous: &[LoadedPlugin]) -> Result<LoadedPlugin> {
    let name = &settings.name;
    let fingerprint = Fingerprint {
        component: component_bytes(&settings.component).with_context(|| format!("plugin \"{name}\""))?,
        files: read_files(settings).with_context(|| format!("plugin \"{name}\""))?,
        settings: settings.clone(),
    };
    if let Some(same) = previous.iter().find(|loaded| loaded.fingerprint == fingerprint) {
        return Ok(same.clone());
    }
    let spec = PluginSpec {
        name: name.to_string(),
        component: fingerprint.component.clone(),
        hooks: settings.hooks.clone(),
        grants: settings.grants.clone(),
        limits: settings.limits,
        files: fingerprint.files.clone(),
        config_json: serde_json::Value::Object(settings.config.clone()).to_string(),
    };
    let plugin = host.load(spec).map_err(|error| anyhow!("plugin \"{name}\": {error}"))?;
    plugin.set_generation(number);
    Ok(LoadedPlugin {
        plugin,
        settings: settings.clone(),
        since: number,
        fingerprint,
    })
}

fn component_bytes(component: &Component) -> Result<Arc<[u8]>> {
    match component {
        Component::Builtin(name) => builtin::component(name)
            .map(Arc::from)
            .ok_or_else(|| anyhow!("there is no builtin:{name}; there are {}", builtin::names().join(", "))),
        Component::File(path) => read(path).map(Arc::from),
    }
}

/// The files of its table `files`, by name.
pub(crate) fn read_files(settings: &config::Plugin) -> Result<Vec<(String, Vec<u8>)>> {
    settings
        .files
        .iter()
        .map(|(name, path)| Ok((name.clone(), read(path)?)))
        .collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn policy(plugins: &[LoadedPlugin], config: &Config, generation: u64) -> Result<Policy> {
    let mut policy = Policy {
        generation,
        default: config.auth.default,
        ..Policy::default()
    };
    for loaded in plugins.iter().filter(|loaded| loaded.is_enforced()) {
        if loaded.plugin.has_hook(Hook::Authorize) {
            policy.authorizers.push(authorizer(loaded)?);
        }
        if loaded.plugin.tick_ms().is_some() {
            policy.publishers.push(Publisher {
                client: Arc::new(publishing_client(&loaded.settings.name)),
                // Behind itself, where it transforms, too.
                first_transform: policy.transforms.len() + usize::from(loaded.plugin.has_hook(Hook::Transform)),
            });
        }
        if loaded.plugin.has_hook(Hook::Transform) {
            policy.transforms.push(transform(loaded)?);
        }
    }
    policy.shadows = shadow::shadows(plugins)?;
    policy.detects = plugins.iter().any(|loaded| loaded.plugin.has_hook(Hook::Detect));
    Ok(policy)
}

pub(crate) fn authorizer(loaded: &LoadedPlugin) -> Result<Authorizer> {
    Ok(Authorizer {
        name: loaded.settings.name.clone(),
        topics: filters(&loaded.settings.topics)?,
        on_failure: loaded.settings.on_failure,
    })
}

pub(crate) fn transform(loaded: &LoadedPlugin) -> Result<Transform> {
    let grants: Vec<String> = loaded.plugin.publish_grants().map(str::to_owned).collect();
    Ok(Transform {
        name: loaded.settings.name.clone(),
        topics: filters(&loaded.settings.topics)?,
        on_failure: loaded.settings.on_failure,
        publish_grants: filters(&grants)?.unwrap_or_default(),
    })
}

/// Whom transforms are told that a plugin's own messages come from.
fn publishing_client(plugin: &str) -> Client {
    Client::unknown(format!("$plugin/{plugin}").into(), None)
}

/// Topic filters as the core wants them; none: everywhere.
fn filters(texts: &[String]) -> Result<Option<Vec<Utf8String>>> {
    if texts.is_empty() {
        return Ok(None);
    }
    let filters = texts
        .iter()
        .map(|text| Utf8String::try_from(text.as_str()).map_err(|error| anyhow!("topic filter \"{text}\": {error}")));
    filters.collect::<Result<Vec<_>>>().map(Some)
}

impl Generation {
    /// What the listeners' revocation lists name; before it is swapped in.
    pub(crate) fn set_revoked(&mut self, revoked: RevokedCertificates) {
        Arc::make_mut(&mut self.policy).revoked = Arc::new(revoked);
    }

    /// Warm instances for one shard: one of each plugin that is called there.
    ///
    /// # Errors
    /// A plugin of which no instance can be made.
    pub(crate) fn shard_plugins(&self) -> Result<ShardPlugins> {
        let (mut instances, mut authorizers, mut transforms) = (Vec::new(), Vec::new(), Vec::new());
        for LoadedPlugin { plugin, .. } in self.plugins.iter().filter(|loaded| loaded.is_enforced()) {
            let (authorizes, transforms_too) = (plugin.has_hook(Hook::Authorize), plugin.has_hook(Hook::Transform));
            if !authorizes && !transforms_too {
                continue;
            }
            let place = match plugin.is_asynchronous() {
                true => Place::Pool(plugin.clone()),
                false => {
                    let instance = plugin.instance(Role::Shard);
                    instances.push(instance.map_err(|error| anyhow!("plugin \"{}\": {error}", plugin.name()))?);
                    Place::Here(instances.len() - 1)
                }
            };
            if authorizes {
                authorizers.push(place.clone());
            }
            if transforms_too {
                transforms.push(place);
            }
        }
        Ok(ShardPlugins::new(
            self.policy.generation,
            instances,
            authorizers,
            transforms,
        ))
    }

    /// The plugins that are asked for comparisons.
    pub(crate) fn shadow_plugins(&self) -> ShadowPlugins {
        ShadowPlugins::new(&self.policy, &self.plugins)
    }

    /// An instance of each plugin that asked for ticks.
    ///
    /// # Errors
    /// A plugin of which no instance can be made.
    pub(crate) fn ticking(&self) -> Result<Vec<Ticking>> {
        let ticks = self.plugins.iter().filter(|loaded| loaded.is_enforced());
        let ticks = ticks.filter(|loaded| loaded.plugin.tick_ms().is_some());
        let clients = self.policy.publishers.iter().map(|publisher| publisher.client.clone());
        let ticking = |(loaded, client): (&LoadedPlugin, _)| {
            let plugin = loaded.plugin.clone();
            let instance = (!plugin.is_asynchronous()).then(|| plugin.instance(Role::Background));
            let instance = instance.transpose();
            let instance = instance.map_err(|error| anyhow!("plugin \"{}\": {error}", plugin.name()))?;
            Ok(Ticking {
                plugin,
                client,
                instance,
            })
        };
        ticks.zip(clients).map(ticking).collect()
    }

    /// An instance of each plugin with the hook `detect`, in shadow mode or not.
    ///
    /// # Errors
    /// A plugin of which no instance can be made.
    pub(crate) fn detecting(&self) -> Result<Vec<Detecting>> {
        let detects = self
            .plugins
            .iter()
            .filter(|loaded| loaded.plugin.has_hook(Hook::Detect));
        let detecting = |loaded: &LoadedPlugin| {
            let plugin = loaded.plugin.clone();
            let instance = (!plugin.is_asynchronous()).then(|| plugin.instance(Role::Background));
            let instance = instance.transpose();
            let instance = instance.map_err(|error| anyhow!("plugin \"{}\": {error}", plugin.name()))?;
            Ok(Detecting {
                plugin,
                name: loaded.settings.name.clone(),
                mode: loaded.settings.mode,
                instance,
            })
        };
        detects.map(detecting).collect()
    }

    /// The chain of authenticators, and which of them the listeners of this configuration have asked.
    pub(crate) fn auth_chain(&self, config: &Config) -> AuthChain {
        let authenticates = |loaded: &&LoadedPlugin| loaded.is_enforced() && loaded.plugin.has_hook(Hook::Authenticate);
        let link = |loaded: &LoadedPlugin| (loaded.plugin.clone(), loaded.settings.on_failure);
        let links = self.plugins.iter().filter(authenticates).map(link).collect();
        AuthChain {
            generation: self.policy.generation,
            links,
            listeners: config
                .listeners
                .iter()
                .map(|listener| (listener.bind.text.clone(), listener.own.authenticators.clone()))
                .collect(),
        }
    }
}
