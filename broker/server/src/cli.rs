//! The command line: what can be typed, and its help. What the commands do is elsewhere.

mod bans;
mod tools;

pub(crate) use bans::{BansArgs, BansCommand};
pub(crate) use tools::{PluginBenchArgs, PluginReplayArgs, PluginTestArgs, RecordCommand};

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::admin::api::{MAX_ALERTS, MAX_CLIENTS_PER_PAGE};
use crate::admin::explain::Wanted;

/// An MQTT broker (3.1, 3.1.1, 5.0) whose decisions are made by sandboxed, hot-loaded WebAssembly components.
///
/// Without a command it runs a broker on embedded defaults: MQTT on 127.0.0.1:1883, for clients on this machine.
#[derive(Debug, Parser)]
#[command(name = "nervewire", version, args_conflicts_with_subcommands = true)]
#[command(after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

impl Cli {
    /// The command to carry out: `run` if none was named.
    pub(crate) fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Run(self.run))
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the broker until it gets SIGTERM or Ctrl-C
    Run(RunArgs),
    /// Check a configuration: exit 0, or 2 with file, line, column and what to write instead
    Check(CheckArgs),
    /// Add or change a user in a password file; the password comes from the terminal or from standard input
    Passwd(PasswdArgs),
    /// Write a plugin or look into one
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Commands that ask or change a running broker.
    #[command(flatten)]
    Admin(AdminCommand),
    /// Look after the store of a broker that does not run
    #[command(subcommand)]
    Store(StoreCommand),
    /// Put load on a broker and measure it
    #[command(subcommand)]
    Bench(crate::bench::BenchCommand),
}

/// Arguments of `run`.
#[derive(Debug, Default, Args)]
pub(crate) struct RunArgs {
    /// Configuration file (TOML); without it the embedded defaults apply
    #[arg(long, value_name = "FILE", conflicts_with = "print_config")]
    pub config: Option<PathBuf>,
    /// Print the embedded defaults and exit: a configuration to start from
    #[arg(long)]
    pub print_config: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `passwd`.
#[derive(Debug, Args)]
pub(crate) struct PasswdArgs {
    /// Password file of the plugin builtin:password; made if it does not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// User name
    #[arg(value_name = "USER")]
    pub user: String,
    /// Remove the user instead
    #[arg(long)]
    pub delete: bool,
}

/// Commands for plugin authors.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Write a new plugin, which builds and passes its own tests at once
    New(PluginNewArgs),
    /// Show what a component is: hooks, contract version, grants it asks for, size, digest
    Inspect(PluginInspectArgs),
    /// Ask a plugin what a file of cases says, and compare its answers; no broker is needed
    Test(PluginTestArgs),
    /// Measure what a call of each hook costs, beside a native no-op and a component that does nothing
    Bench(PluginBenchArgs),
    /// Send recorded calls through a component, and compare what it answers now
    Replay(PluginReplayArgs),
}

/// Arguments of `plugin new`.
#[derive(Debug, Args)]
pub(crate) struct PluginNewArgs {
    /// Name of the plugin and of the directory to make
    #[arg(value_name = "NAME")]
    pub name: String,
    /// A hook to implement; may be repeated
    #[arg(long = "hook", value_name = "HOOK", value_enum, default_value = "authenticate")]
    pub hooks: Vec<Hook>,
    /// The language to write it in
    #[arg(long, value_name = "LANGUAGE", value_enum, default_value = "rust")]
    pub language: Language,
}

/// Arguments of `plugin inspect`.
#[derive(Debug, Args)]
pub(crate) struct PluginInspectArgs {
    /// The component (.wasm), or builtin:NAME
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Commands for a store at rest.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of it and change nothing: exit 0, or 1 with what is damaged
    Check(StoreArgs),
    /// Set aside what is damaged, so that a broker starts with the rest
    Repair(StoreArgs),
}

/// Arguments of `store check` and `store repair`.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    /// The directory store/ in the broker's data_dir
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// A point at which the broker asks plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Hook {
    /// Who is connecting?
    Authenticate,
    /// May this client publish or subscribe to this topic?
    Authorize,
    /// What does this message look like when it is delivered?
    Transform,
    /// Is something odd going on?
    Detect,
}

/// A language that plugins are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust: small and fast
    Rust,
    /// JavaScript, by componentize-js
    Javascript,
    /// Python, by componentize-py
    Python,
}

/// Commands that ask or change a running broker through its admin API.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Show a running broker at a glance
    Status(ListArgs),
    /// List the clients of a running broker, or show one
    Clients(ClientsArgs),
    /// Disconnect a client
    Kick(KickArgs),
    /// List, make and lift bans of clients, users, addresses and networks
    Bans(BansArgs),
    /// Let a client publish at its normal rate again that a detector had throttled
    Unthrottle(KickArgs),
    /// Show what detectors found, the newest first
    Alerts(AlertsArgs),
    /// List the plugins of a running broker with their calls, failures and times
    Plugins(PluginsArgs),
    /// Show how a request of a client would be decided: what each plugin says, why, and which one decides
    Explain(ExplainArgs),
    /// Load the changed configuration now; if it is refused, say why and exit 1
    Reload(ListArgs),
    /// Go back to the configuration and plugins before the last change
    Rollback(ListArgs),
    /// Record calls of plugins to a file, with their answers and without secrets
    #[command(subcommand)]
    Record(RecordCommand),
}

impl AdminCommand {
    /// Where the broker is.
    pub(crate) fn admin(&self) -> &AdminArgs {
        match self {
            Self::Status(args) | Self::Reload(args) | Self::Rollback(args) => &args.admin,
            Self::Plugins(args) => match &args.command {
                Some(PluginsCommand::Diff(diff)) => &diff.list.admin,
                None => &args.list.admin,
            },
            Self::Clients(args) => &args.list.admin,
            Self::Kick(args) | Self::Unthrottle(args) => &args.admin,
            Self::Alerts(args) => &args.list.admin,
            Self::Bans(args) => args.admin(),
            Self::Explain(args) => &args.list.admin,
            Self::Record(RecordCommand::Start(args)) => &args.list.admin,
            Self::Record(RecordCommand::Stop(args) | RecordCommand::Status(args)) => &args.admin,
        }
    }
}

/// Where a running broker is.
#[derive(Debug, Default, Args)]
pub(crate) struct AdminArgs {
    /// Admin API of the broker [default: [admin] of --config, else http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// File that holds the token of the admin API
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The broker's configuration: address and token are taken from its [admin]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["admin", "token_file"])]
    pub config: Option<PathBuf>,
}

/// Arguments of the commands that print an answer.
#[derive(Debug, Default, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Print the API's JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `clients`.
#[derive(Debug, Args)]
pub(crate) struct ClientsArgs {
    /// Client identifier: show this one only
    #[arg(value_name = "ID", conflicts_with_all = ["page", "limit"])]
    pub id: Option<String>,
    /// Tenant the client belongs to
    #[arg(long, requires = "id")]
    pub tenant: Option<String>,
    /// Which page of the list [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub page: Option<u64>,
    /// Clients per page, at most 1000 [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_CLIENTS_PER_PAGE))]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `alerts`.
#[derive(Debug, Args)]
pub(crate) struct AlertsArgs {
    /// How many [default: 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MAX_ALERTS))]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("action").required(true).args(["publish", "subscribe", "deliver"])))]
pub(crate) struct ExplainArgs {
    /// Client identifier; where it has no session, a client with the given facts is supposed
    #[arg(long, value_name = "ID")]
    pub client: String,
    /// May it publish to this topic, and what becomes of the message?
    #[arg(long, value_name = "TOPIC")]
    pub publish: Option<String>,
    /// May it subscribe to this topic filter?
    #[arg(long, value_name = "FILTER")]
    pub subscribe: Option<String>,
    /// Would a message of this topic be delivered to it?
    #[arg(long, value_name = "TOPIC")]
    pub deliver: Option<String>,
    /// QoS of the message, or the requested one
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// The message is to be retained
    #[arg(long)]
    pub retain: bool,
    /// Tenant the client belongs to
    #[arg(long)]
    pub tenant: Option<String>,
    /// User name, where the client has no session
    #[arg(long)]
    pub user: Option<String>,
    /// What is published
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub payload: String,
    #[command(flatten)]
    pub list: ListArgs,
}

impl ExplainArgs {
    /// As the API takes it.
    pub(crate) fn wanted(&self) -> Wanted {
        let actions = [
            ("publish", &self.publish),
            ("subscribe", &self.subscribe),
            ("deliver", &self.deliver),
        ];
        let given = actions
            .into_iter()
            .find_map(|(action, topic)| Some((action, topic.clone()?)));
        // One of them was given, or the command line was refused.
        let (action, topic) = given.unwrap_or_default();
        Wanted {
            client_id: self.client.clone(),
            tenant: self.tenant.clone(),
            username: self.user.clone(),
            action: action.to_owned(),
            topic,
            qos: self.qos,
            retain: self.retain,
            payload: self.payload.clone(),
        }
    }
}

/// Arguments of `plugins`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct PluginsArgs {
    #[command(subcommand)]
    pub command: Option<PluginsCommand>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// More about the plugins of a running broker.
#[derive(Debug, Subcommand)]
pub(crate) enum PluginsCommand {
    /// Show where a plugin in shadow mode would have decided otherwise, about whom, and why
    Diff(DiffArgs),
}

/// Arguments of `plugins diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Name of the plugin in the configuration
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Forget what was seen of it instead
    #[arg(long)]
    pub reset: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `kick` and `unthrottle`.
#[derive(Debug, Args)]
pub(crate) struct KickArgs {
    /// Client identifier
    #[arg(value_name = "ID")]
    pub id: String,
    /// Tenant the client belongs to
    #[arg(long)]
    pub tenant: Option<String>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(std::iter::once("nervewire").chain(line.split_whitespace())).map(Cli::into_command)
    }

    #[test]
    fn the_definition_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        let check = |line: &str, expected: fn(&Command) -> bool| {
            let command = parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(expected(&command), "{line}: {command:?}");
        };
        check("", |c| {
            matches!(
                c,
                Command::Run(RunArgs {
                    config: None,
                    print_config: false
                })
            )
        });
        check("run", |c| {
            matches!(
                c,
                Command::Run(RunArgs {
                    config: None,
                    print_config: false
                })
            )
        });
        check(
            "--config a",
            |c| matches!(c, Command::Run(RunArgs { config: Some(f), .. }) if f.as_os_str() == "a"),
        );
        check(
            "run --config a",
            |c| matches!(c, Command::Run(RunArgs { config: Some(f), .. }) if f.as_os_str() == "a"),
        );
        check("--print-config", |c| {
            matches!(c, Command::Run(RunArgs { print_config: true, .. }))
        });
        check(
            "check --config a",
            |c| matches!(c, Command::Check(args) if args.config.as_os_str() == "a"),
        );
        check(
            "passwd f u",
            |c| matches!(c, Command::Passwd(args) if args.user == "u" && !args.delete),
        );
        check(
            "passwd f u --delete",
            |c| matches!(c, Command::Passwd(args) if args.delete),
        );
        check("plugin new p", |c| hooks(c) == [Hook::Authenticate]);
        check("plugin new p --hook detect --language python", |c| {
            hooks(c) == [Hook::Detect]
                && matches!(c, Command::Plugin(PluginCommand::New(args)) if args.language == Language::Python)
        });
        check("plugin new p --hook authorize --hook transform", |c| {
            hooks(c) == [Hook::Authorize, Hook::Transform]
        });
        check(
            "plugin inspect f --json",
            |c| matches!(c, Command::Plugin(PluginCommand::Inspect(args)) if args.json),
        );
        check(
            "plugin replay f r --config c --plugin p --fail-on-difference",
            |c| matches!(c, Command::Plugin(PluginCommand::Replay(args)) if args.fail_on_difference),
        );
        check("record start f --no-payloads --admin u", |c| {
            matches!(c, Command::Admin(a @ AdminCommand::Record(RecordCommand::Start(args)))
                if args.no_payloads && args.seconds == 60 && a.admin().admin.is_some())
        });
        check("record stop", |c| {
            matches!(c, Command::Admin(AdminCommand::Record(RecordCommand::Stop(_))))
        });
        check(
            "plugin bench f --cases c --seconds 0.5",
            |c| matches!(c, Command::Plugin(PluginCommand::Bench(args)) if args.cases.is_some()),
        );
        check(
            "plugin test f c",
            |c| matches!(c, Command::Plugin(PluginCommand::Test(args)) if args.cases.as_os_str() == "c"),
        );
        check(
            "status --json",
            |c| matches!(c, Command::Admin(AdminCommand::Status(args)) if args.json),
        );
        check(
            "clients",
            |c| matches!(c, Command::Admin(AdminCommand::Clients(args)) if args.id.is_none()),
        );
        check(
            "clients x --tenant t",
            |c| matches!(c, Command::Admin(AdminCommand::Clients(args)) if args.tenant.is_some()),
        );
        check(
            "kick x --admin u",
            |c| matches!(c, Command::Admin(AdminCommand::Kick(args)) if args.admin.admin.is_some()),
        );
        check(
            "kick -- -x",
            |c| matches!(c, Command::Admin(AdminCommand::Kick(args)) if args.id == "-x"),
        );
        check(
            "plugins --config f",
            |c| matches!(c, Command::Admin(a @ AdminCommand::Plugins(_)) if a.admin().config.is_some()),
        );
        check(
            "bans add --user u --tenant t --for 1h --reason r --json",
            |c| matches!(c, Command::Admin(AdminCommand::Bans(BansArgs { command: Some(BansCommand::Add(args)), .. })) if args.target().seconds == Some(3_600)),
        );
        check(
            "bans --json",
            |c| matches!(c, Command::Admin(AdminCommand::Bans(args)) if args.command.is_none() && args.list.json),
        );
        check(
            "bans lift --network 192.0.2.0/24",
            |c| matches!(c, Command::Admin(AdminCommand::Bans(BansArgs { command: Some(BansCommand::Lift(args)), .. })) if args.subject.target().network.is_some()),
        );
        check(
            "explain --client c --deliver t --qos 1",
            |c| matches!(c, Command::Admin(AdminCommand::Explain(args)) if args.wanted().action == "deliver"),
        );
        check(
            "plugins diff n --reset --config f",
            |c| matches!(c, Command::Admin(a @ AdminCommand::Plugins(_)) if a.admin().config.is_some()),
        );
        check(
            "reload --token-file f",
            |c| matches!(c, Command::Admin(a) if a.admin().token_file.is_some()),
        );
        check(
            "store check d",
            |c| matches!(c, Command::Store(StoreCommand::Check(args)) if args.dir.as_os_str() == "d"),
        );
        check("store repair d", |c| {
            matches!(c, Command::Store(StoreCommand::Repair(_)))
        });
        check("bench pubsub", |c| matches!(c, Command::Bench(_)));
    }

    fn hooks(command: &Command) -> &[Hook] {
        match command {
            Command::Plugin(PluginCommand::New(args)) => &args.hooks,
            _ => &[],
        }
    }

    #[test]
    fn wrong_usage_exits_with_2() {
        let check = |line: &str| assert_eq!(parse(line).map_err(|error| error.exit_code()).err(), Some(2), "{line}");
        check("run --config a --print-config");
        check("--config a status");
        check("check");
        check("passwd f");
        check("plugin");
        check("plugin new");
        check("plugin new p --hook deliver");
        check("plugin new p --language c");
        check("plugin test f");
        check("plugin bench f --cases c --config-json {}");
        check("plugin bench f --seconds 0");
        check("plugin replay f");
        check("plugin replay f r --config c");
        check("plugin replay f r --config c --plugin p --cases k");
        check("record");
        check("record start");
        check("record start f --seconds 0");
        check("record start f --max-mib 5000");
        check("plugins diff");
        check("bans lift");
        check("bans add");
        check("bans add --client c --user u");
        check("bans add --address 192.0.2.1 --tenant t");
        check("bans add --client c --for 5");
        check("explain --client c");
        check("explain --publish t");
        check("explain --client c --publish t --subscribe t");
        check("explain --client c --publish t --qos 3");
        check("kick");
        check("store");
        check("store check");
        check("clients --limit 0");
        check("clients --limit 1001");
        check("clients x --page 2");
        check("clients --tenant t");
        check("status --config f --admin u");
        check("status --config f --token-file t");
        check("run --shards 2");
    }

    #[test]
    fn help_and_version_are_no_errors() {
        for line in [
            "--help",
            "--version",
            "run --help",
            "plugin new --help",
            "clients --help",
        ] {
            assert_eq!(parse(line).map_err(|error| error.exit_code()).err(), Some(0), "{line}");
        }
    }
}
