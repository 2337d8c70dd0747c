//! Plugins asked now, on instances of their own, with the time it took.

use nervewire_core::hook::{AppMessage, CallFailed, Client, Request, Rule, Transformation, Verdict};
use nervewire_plugin_host::{Instance, Plugin, Question, Reply, Role};
use std::sync::Arc;
use std::time::Instant;

/// The instances of one explanation.
#[derive(Default)]
pub(super) struct Asking {
    instances: Vec<(Arc<Plugin>, Instance)>,
}

impl Asking {
    pub(super) fn rules(
        &mut self,
        plugin: &Arc<Plugin>,
        client: &Arc<Client>,
    ) -> Result<Option<Vec<Rule>>, CallFailed> {
        if plugin.is_asynchronous() {
            return match plugin.ask(Question::Rules { client: client.clone() }) {
                Reply::Rules(answer) => answer,
                _ => Err(CallFailed),
            };
        }
        self.instance(plugin)?.rules(client)
    }

    /// With the microseconds it took.
    pub(super) fn authorize(
        &mut self,
        plugin: &Arc<Plugin>,
        client: &Arc<Client>,
        request: &Request,
    ) -> (Result<Verdict, CallFailed>, f64) {
        self.warm_up(plugin);
        timed(|| {
            if plugin.is_asynchronous() {
                let (client, request) = (client.clone(), request.clone());
                return match plugin.ask(Question::Authorize { client, request }) {
                    Reply::Authorize(answer) => answer,
                    _ => Err(CallFailed),
                };
            }
            self.instance(plugin)?.authorize(client, request)
        })
    }

    /// With the microseconds it took.
    pub(super) fn transform(
        &mut self,
        plugin: &Arc<Plugin>,
        client: &Arc<Client>,
        message: &AppMessage,
    ) -> (Result<Transformation, CallFailed>, f64) {
        self.warm_up(plugin);
        timed(|| {
            if plugin.is_asynchronous() {
                let (client, message) = (client.clone(), message.clone());
                return match plugin.ask(Question::Transform { client, message }) {
                    Reply::Transform(answer) => answer,
                    _ => Err(CallFailed),
                };
            }
            self.instance(plugin)?.transform(client, message)
        })
    }

    /// Its instance is made before the clock starts.
    fn warm_up(&mut self, plugin: &Arc<Plugin>) {
        if !plugin.is_asynchronous() {
            let _ = self.instance(plugin); // The call says what is wrong with it.
        }
    }

    /// Made at its first use.
    fn instance(&mut self, plugin: &Arc<Plugin>) -> Result<&mut Instance, CallFailed> {
        let at = self.instances.iter().position(|(known, _)| Arc::ptr_eq(known, plugin));
        let at = match at {
            Some(at) => at,
            None => {
                let instance = plugin.instance(Role::Shard).map_err(|_| CallFailed)?;
                self.instances.push((plugin.clone(), instance));
                self.instances.len() - 1
            }
        };
        self.instances
            .get_mut(at)
            .map(|(_, instance)| instance)
            .ok_or(CallFailed)
    }
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let answer = call();
    (answer, start.elapsed().as_nanos() as f64 / 1_000.0)
}
