//! `nervewire`: an MQTT broker whose authentication, authorization and message transformation are sandboxed WebAssembly
//! components. See ARCHITECTURE.md for the map.

mod admin;
mod auth_pool;
mod backend;
mod bench;
mod builtin;
mod cli;
mod config;
mod defence;
mod detect;
mod driver;
mod explain;
mod generation;
mod listeners;
mod logging;
mod metrics;
mod numbers;
mod passwd;
mod plugin_new;
mod plugin_tools;
mod record;
mod reminders;
mod restore;
mod rollback;
mod run;
mod shadow;
mod store_command;
mod supervisor;
mod tick;
mod tls;
mod transport;
mod unix_time;
mod watch;
mod window_text;

use admin::client::AdminEndpoint;
use admin::guard::Token;
use anyhow::Result;
use clap::Parser;
use cli::{Cli, Command, PluginCommand};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

/// Messages that are kept come and go in small pieces, often freed on another shard than they were made on.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::parse().into_command()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nervewire: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(args) if args.print_config => print(config::DEFAULTS_TOML),
        Command::Run(args) => {
            let _written_at_the_end = logging::start();
            run::run(args.config)
        }
        Command::Check(args) => Ok(run::check(&args.config)),
        Command::Passwd(args) => {
            let done = match args.delete {
                true => passwd::remove_user(&args.file, &args.user),
                false => passwd::set_password(&args.file, &args.user),
            };
            print(&format!("{}\n", done?))
        }
        Command::Plugin(PluginCommand::New(args)) => plugin_new::run(&args),
        Command::Plugin(PluginCommand::Inspect(args)) => plugin_tools::inspect::run(&args),
        Command::Plugin(PluginCommand::Test(args)) => plugin_tools::test::run(&args),
        Command::Plugin(PluginCommand::Bench(args)) => plugin_tools::bench::run(&args),
        Command::Plugin(PluginCommand::Replay(args)) => plugin_tools::replay::run(&args),
        Command::Admin(command) => {
            let done = admin::client::run(&command, admin_endpoint, &mut std::io::stdout());
            Ok(done.map_or_else(
                |error| {
                    eprintln!("nervewire: {error}");
                    ExitCode::from(error.exit_code())
                },
                |()| ExitCode::SUCCESS,
            ))
        }
        Command::Store(command) => store_command::run(&command),
        Command::Bench(command) => bench::run(command),
    }
}

/// Where the `[admin]` of a configuration file says the API is.
fn admin_endpoint(file: &Path) -> Result<AdminEndpoint> {
    let config = supervisor::read_config(Some(file)).map_err(|messages| anyhow::anyhow!(messages.join("\n")))?;
    let token = config.admin.token.and_then(Token::new);
    Ok(AdminEndpoint {
        bind: config.admin.bind.address,
        token,
    })
}

fn print(text: &str) -> Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
