//! `nervewire bench run`: loads with a name, so that different brokers, machines and versions are put under the same ones.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use clap::builder::{PossibleValue, PossibleValuesParser};

use super::LoadCommand;
use super::process::Process;
use super::report::{Outcome, exit_code};
use super::target::{TargetArgs, seconds};

/// Stands for all of them.
const ALL: &str = "all";

/// A load by its name: what it is, and the arguments of `nervewire bench` that describe it.
struct Scenario {
    name: &'static str,
    what: &'static str,
    arguments: &'static str,
}

const fn scenario(name: &'static str, what: &'static str, arguments: &'static str) -> Scenario {
    Scenario { name, what, arguments }
}

const SCENARIOS: &[Scenario] = &[
    scenario(
        "qos0",
        "10 publishers to 10 subscribers, QoS 0, 100 in flight each",
        "pubsub --qos 0",
    ),
    scenario("qos1", "the same, QoS 1", "pubsub --qos 1"),
    scenario("qos2", "the same, QoS 2", "pubsub --qos 2"),
    scenario(
        "one-in-flight",
        "QoS 0, one message in flight each",
        "pubsub --inflight 1",
    ),
    scenario("payload-1k", "QoS 0, payload of 1 KiB", "pubsub --payload 1024"),
    scenario(
        "fan-in",
        "50 publishers to 1 wildcard subscriber, QoS 0",
        "pubsub --publishers 50 --subscribers 1 --topic-scheme wildcard",
    ),
    scenario(
        "fan-out-100",
        "1 publisher to 100 subscribers, QoS 0, 20 in flight",
        "pubsub --publishers 1 --subscribers 100 --inflight 20 --topic-scheme fan-out",
    ),
    scenario(
        "fan-out-1000",
        "1 publisher to 1,000 subscribers, QoS 0, 5 in flight",
        "pubsub --publishers 1 --subscribers 1000 --inflight 5 --topic-scheme fan-out",
    ),
    scenario(
        "latency",
        "QoS 1 at 20,000 messages per second: look at the latency",
        "pubsub --qos 1 --rate 20000",
    ),
    scenario(
        "wildcards-1k",
        "1,000 wildcard subscriptions, one matches each message",
        "subscriptions --count 1000",
    ),
    scenario("wildcards-100k", "100,000 of them", "subscriptions --count 100000"),
    // Over 100 clients, because brokers bound the subscriptions of one; with 1,000 in flight there are as many messages on
    // their way to each as above.
    scenario(
        "wildcards-1m",
        "1,000,000 of them, of 100 subscribers, 1,000 in flight each",
        "subscriptions --count 1000000 --subscribers 100 --inflight 1000",
    ),
    scenario(
        "wildcards-1k-deep",
        "1,000 wildcard subscriptions to deep filters",
        "subscriptions --count 1000 --shape deep",
    ),
    scenario(
        "wildcards-100k-deep",
        "100,000 of them",
        "subscriptions --count 100000 --shape deep",
    ),
    scenario(
        "wildcards-1m-deep",
        "1,000,000 of them",
        "subscriptions --count 1000000 --subscribers 100 --inflight 1000 --shape deep",
    ),
    scenario(
        "subscribe-single",
        "1,000,000 wildcard subscriptions, one per SUBSCRIBE, and no messages",
        "subscriptions --count 1000000 --subscribers 100 --per-packet 1 --seconds 0",
    ),
    scenario(
        "storm",
        "20,000 messages per second at QoS 1 to 100,000 wildcard subscriptions, without and with 100,000 changes of \
         subscriptions per second",
        "subscriptions --count 100000 --qos 1 --rate 20000 --storm 100000",
    ),
    scenario(
        "connect",
        "19,000 clients that only connect",
        "idle --clients 19000 --no-subscription --hold 1",
    ),
    scenario(
        "idle",
        "19,000 idle clients with a subscription each: look at the memory",
        "idle --clients 19000",
    ),
    scenario(
        "retained",
        "100,000 retained messages set, and fetched by wildcard",
        "retained --count 100000",
    ),
    scenario(
        "durable-qos1",
        "100 publishers to 100 durable sessions, QoS 1, 10 in flight each",
        "pubsub --qos 1 --publishers 100 --subscribers 100 --inflight 10 --durable",
    ),
    scenario(
        "durable-qos1-single",
        "1 publisher to 1 durable session, QoS 1, one message in flight: each waits for the disk",
        "pubsub --qos 1 --publishers 1 --subscribers 1 --inflight 1 --durable",
    ),
    scenario(
        "queue",
        "1,000,000 messages queued for 1,000 durable sessions that are offline, and collected",
        "queue",
    ),
];

/// Arguments of `nervewire bench run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Scenarios to run, in this order
    #[arg(required = true, value_name = "NAME", value_parser = names())]
    names: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
    /// Seconds to publish, or to stay idle [default: 10, or 3]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Seconds of the same load before measuring starts [default: 1]
    #[arg(long, value_parser = seconds)]
    warm_up: Option<f64>,
    /// No more connections of a kind, subscriptions, retained or queued messages than this: to see whether it works at all
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    at_most: Option<u32>,
}

fn names() -> PossibleValuesParser {
    let named = SCENARIOS
        .iter()
        .map(|scenario| PossibleValue::new(scenario.name).help(scenario.what));
    PossibleValuesParser::new(named.chain([PossibleValue::new(ALL).help("all of them")]))
}

/// Runs them one after the other; a failed one does not keep the others from running.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let process = args.target.process()?;
    let mut results = Vec::new();
    for scenario in args.scenarios() {
        let outcome = args.load(scenario).and_then(|load| load.run());
        if !args.target.json {
            print_line(scenario, &outcome);
        }
        results.push(Entry::new(scenario, outcome));
        process.iter().for_each(wait_until_quiet);
    }
    if args.target.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(exit_code(results.iter().all(|result| result.passed)))
}

impl RunArgs {
    fn scenarios(&self) -> Vec<&'static Scenario> {
        let names = self.names.iter();
        names
            .flat_map(|name| SCENARIOS.iter().filter(move |it| name == ALL || name == it.name))
            .collect()
    }

    /// The scenario's load, on this target and within these bounds.
    fn load(&self, scenario: &Scenario) -> anyhow::Result<LoadCommand> {
        let mut load = scenario.load()?;
        match &mut load {
            LoadCommand::Pubsub(args) => {
                args.target = self.target.clone();
                args.seconds = self.seconds.unwrap_or(args.seconds);
                args.warm_up = self.warm_up.unwrap_or(args.warm_up);
                args.publishers = self.bounded(args.publishers);
                args.subscribers = self.bounded(args.subscribers);
            }
            LoadCommand::Subscriptions(args) => {
                args.target = self.target.clone();
                // Where nothing is published, there is nothing to lengthen.
                let publishes = args.seconds > 0.0;
                args.seconds = self.seconds.filter(|_| publishes).unwrap_or(args.seconds);
                args.warm_up = self.warm_up.unwrap_or(args.warm_up);
                args.count = args.count.min(self.at_most.map_or(u64::MAX, u64::from));
            }
            LoadCommand::Idle(args) => {
                args.target = self.target.clone();
                args.hold = self.seconds.unwrap_or(args.hold);
                args.clients = self.bounded(args.clients);
            }
            LoadCommand::Retained(args) => {
                args.target = self.target.clone();
                args.count = args.count.min(self.at_most.map_or(u64::MAX, u64::from));
            }
            LoadCommand::Queue(args) => {
                args.target = self.target.clone();
                self.at_most.iter().for_each(|most| args.shrink(*most));
            }
        }
        Ok(load)
    }

    fn bounded(&self, count: u32) -> u32 {
        count.min(self.at_most.unwrap_or(u32::MAX))
    }
}

impl Scenario {
    fn load(&self) -> anyhow::Result<LoadCommand> {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Line {
            #[command(subcommand)]
            load: LoadCommand,
        }
        let line = Line::try_parse_from(self.arguments.split(' '));
        Ok(line.with_context(|| format!("scenario {}", self.name))?.load)
    }
}

/// What came of one scenario.
#[derive(serde::Serialize)]
struct Entry {
    name: &'static str,
    arguments: &'static str,
    passed: bool,
    error: Option<String>,
    report: Option<serde_json::Value>,
}

impl Entry {
    fn new(scenario: &Scenario, outcome: anyhow::Result<Outcome>) -> Self {
        let Scenario { name, arguments, .. } = *scenario;
        let (passed, error, report) = match outcome {
            Ok(outcome) => (outcome.passed, None, Some(outcome.json)),
            Err(error) => (false, Some(format!("{error:#}")), None),
        };
        Self {
            name,
            arguments,
            passed,
            error,
            report,
        }
    }
}

fn print_line(scenario: &Scenario, outcome: &anyhow::Result<Outcome>) {
    let width = SCENARIOS.iter().map(|it| it.name.len()).max().unwrap_or(0);
    let name = scenario.name;
    match outcome {
        Ok(outcome) if outcome.passed => println!("{name:width$}  {}", outcome.summary),
        Ok(outcome) => println!("{name:width$}  FAILED: {}", outcome.summary),
        Err(error) => println!("{name:width$}  FAILED: {error:#}"),
    }
}

/// The clients of one scenario are gone, but the broker may still be busy with what they have left.
fn wait_until_quiet(process: &Process) {
    const LONGEST: Duration = Duration::from_secs(20);
    const LOOK: Duration = Duration::from_millis(100);
    const QUIET: Duration = Duration::from_millis(5);
    let began = Instant::now();
    while began.elapsed() < LONGEST {
        let Ok(before) = process.cpu() else { return };
        std::thread::sleep(LOOK);
        let Ok(after) = process.cpu() else { return };
        if after.since(&before) < QUIET {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_understood_and_has_a_name_of_its_own() {
        for scenario in SCENARIOS {
            assert!(scenario.load().is_ok(), "{}", scenario.name);
            let same = SCENARIOS.iter().filter(|other| other.name == scenario.name);
            assert_eq!(same.count(), 1, "{}", scenario.name);
        }
    }

    fn args(line: &str) -> RunArgs {
        #[derive(clap::Parser)]
        #[command(no_binary_name = true)]
        struct Line {
            #[command(flatten)]
            run: RunArgs,
        }
        Line::try_parse_from(line.split(' ')).unwrap().run
    }

    #[test]
    fn scenarios_run_in_the_order_asked_for() {
        let names = |line| args(line).scenarios().iter().map(|it| it.name).collect::<Vec<_>>();
        assert_eq!(names("retained qos1"), ["retained", "qos1"]);
        assert_eq!(names("all").len(), SCENARIOS.len());
    }

    #[test]
    fn bounds_shrink_what_they_are_about() {
        let args = args("all --at-most 50 --seconds 0.5 --warm-up 0");
        for scenario in SCENARIOS {
            match args.load(scenario).unwrap() {
                LoadCommand::Pubsub(args) => {
                    assert!(args.subscribers <= 50 && args.publishers <= 50);
                    assert_eq!((args.seconds, args.warm_up), (0.5, 0.0));
                }
                LoadCommand::Subscriptions(args) => {
                    let expected = if scenario.name == "subscribe-single" { 0.0 } else { 0.5 };
                    assert_eq!((args.count, args.seconds), (50, expected));
                }
                LoadCommand::Idle(args) => assert_eq!(args.clients, 50),
                LoadCommand::Retained(args) => assert_eq!(args.count, 50),
                LoadCommand::Queue(args) => assert_eq!((args.sessions, args.each), (5, 10)),
            }
        }
    }
}
