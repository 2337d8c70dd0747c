//! `nervewire bench`: a load generator for this broker and any other.
//!
//! One thread, raw readiness events, packets encoded by hand: so cheap that on a shared machine the broker is what
//! is measured. It has a codec of its own, because a mistake in the broker's would otherwise hide itself.

mod course;
mod decode;
mod encode;
mod filters;
mod fleet;
mod handshake;
mod histogram;
mod idle;
mod idle_report;
mod meter;
mod opening;
mod outbox;
mod process;
mod pubsub;
mod pubsub_args;
mod pubsub_report;
mod queue;
mod queue_report;
mod relay;
mod relay_tokio;
mod report;
mod retained;
mod retained_report;
mod scatter;
mod scenarios;
mod sequence;
mod storm;
mod subscribing;
mod subscriptions;
mod subscriptions_report;
mod target;
mod traffic;
mod visit;
mod window;

use std::process::ExitCode;

use report::Outcome;
use target::TargetArgs;

/// Kinds of load, and what goes with them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Named scenarios, one after the other: those by which brokers are compared
    Run(scenarios::RunArgs),
    /// A load with all its parameters.
    #[command(flatten)]
    Load(LoadCommand),
    /// A server that only frames packets and forwards bytes at QoS 0: the floor to compare brokers with
    Relay(relay::RelayArgs),
}

/// Kinds of load.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum LoadCommand {
    /// Publishers to subscribers: throughput, cost and latency of messages, and whether all of them arrive
    Pubsub(pubsub_args::PubsubArgs),
    /// Many subscriptions with wildcards: cost and memory of each, and of messages on topics drawn from all of them
    Subscriptions(subscriptions::SubscriptionsArgs),
    /// Many connections with one subscription each: cost and memory of a connection
    Idle(idle::IdleArgs),
    /// Many retained messages: cost of setting them, and how soon a new subscriber has them all
    Retained(retained::RetainedArgs),
    /// Many messages for durable sessions that are offline: how fast and in how much memory they queue, and whether all arrive
    Queue(queue::QueueArgs),
}

/// Puts the load on the broker. The exit code is 1 when messages were lost or duplicated, or connections failed.
///
/// # Errors
/// When the arguments contradict each other, the broker cannot be reached or refuses the clients.
pub(crate) fn run(command: BenchCommand) -> anyhow::Result<ExitCode> {
    match command {
        BenchCommand::Run(args) => scenarios::run(&args),
        BenchCommand::Load(load) => {
            let json = load.target().json;
            load.run()?.show(json)
        }
        BenchCommand::Relay(args) => relay::run(&args),
    }
}

impl LoadCommand {
    fn run(&self) -> anyhow::Result<Outcome> {
        match self {
            LoadCommand::Pubsub(args) => pubsub::run(args),
            LoadCommand::Subscriptions(args) => subscriptions::run(args),
            LoadCommand::Idle(args) => idle::run(args),
            LoadCommand::Retained(args) => retained::run(args),
            LoadCommand::Queue(args) => queue::run(args),
        }
    }

    fn target(&self) -> &TargetArgs {
        match self {
            LoadCommand::Pubsub(args) => &args.target,
            LoadCommand::Subscriptions(args) => &args.target,
            LoadCommand::Idle(args) => &args.target,
            LoadCommand::Retained(args) => &args.target,
            LoadCommand::Queue(args) => &args.target,
        }
    }
}
