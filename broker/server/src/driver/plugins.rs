//! The warm plugin instances of one shard, and the calls on them.

use nervewire_core::hook::{CallFailed, Client, Rule};
use nervewire_core::shard::{Answer, Call};
use nervewire_plugin_host::Instance;

/// One instance of each plugin that is called on shards, made ready before its generation is swapped in.
pub(crate) struct ShardPlugins {
    instances: Vec<Instance>,
    /// Positions in `instances`, in the order of the policy's authorizers.
    authorizers: Vec<usize>,
    transforms: Vec<usize>,
}

impl ShardPlugins {
    pub(crate) fn new(instances: Vec<Instance>, authorizers: Vec<usize>, transforms: Vec<usize>) -> Self {
        Self {
            instances,
            authorizers,
            transforms,
        }
    }

    /// Carries out a call, and says how many nanoseconds the guest took. `None` for what does not belong on a shard.
    pub(super) fn run(&mut self, call: &Call) -> Option<(Answer, u64)> {
        match call {
            Call::Rules { client, .. } => Some(self.rules(client)),
            Call::Authorize {
                authorizer,
                client,
                request,
                ..
            } => {
                let (answer, ns) = self.on(self.authorizers.get(*authorizer).copied(), |i| {
                    i.authorize(client, request)
                });
                Some((Answer::Authorize(answer), ns))
            }
            Call::Transform {
                transform,
                client,
                message,
                ..
            } => {
                let (answer, ns) = self.on(self.transforms.get(*transform).copied(), |i| {
                    i.transform(client, message)
                });
                Some((Answer::Transform(answer), ns))
            }
            Call::Authenticate { .. } => None,
        }
    }

    fn rules(&mut self, client: &Client) -> (Answer, u64) {
        let mut answers: Vec<Result<Option<Vec<Rule>>, CallFailed>> = Vec::with_capacity(self.authorizers.len());
        let mut total_ns = 0;
        for position in 0..self.authorizers.len() {
            let (answer, ns) = self.on(self.authorizers.get(position).copied(), |i| i.rules(client));
            total_ns += ns;
            answers.push(answer);
        }
        (Answer::Rules(answers), total_ns)
    }

    fn on<T>(
        &mut self,
        position: Option<usize>,
        call: impl FnOnce(&mut Instance) -> Result<T, CallFailed>,
    ) -> (Result<T, CallFailed>, u64) {
        match position.and_then(|position| self.instances.get_mut(position)) {
            Some(instance) => {
                let answer = call(instance);
                (answer, instance.last_call_ns())
            }
            None => (Err(CallFailed), 0),
        }
    }
}
