//! The commands against a served fake broker.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use clap::Parser;

use super::super::backend::{ClientPage, PluginInfo};
use super::super::client::{self, AdminEndpoint, ClientError};
use super::super::guard::Token;
use super::fake::{plugin, sessions};
use super::{Fixture, JSON};
use crate::cli::{Cli, Command};

/// Runs a command line against the fixture; standard output, or exit code and standard error.
fn command(fixture: &Fixture, line: &[&str]) -> Result<String, (u8, String)> {
    let url = format!("http://{}", fixture.address);
    run_command(&[line, &["--admin", &url]].concat())
}

fn run_command(line: &[&str]) -> Result<String, (u8, String)> {
    run_command_with(line, |file| anyhow::bail!("{} was not to be read", file.display()))
}

fn run_command_with(
    line: &[&str],
    endpoint_of: impl FnOnce(&Path) -> anyhow::Result<AdminEndpoint>,
) -> Result<String, (u8, String)> {
    let cli = Cli::try_parse_from([&["nervewire"], line].concat()).unwrap();
    let Command::Admin(command) = cli.into_command() else {
        panic!("{line:?} is no admin command")
    };
    let mut out = Vec::new();
    let failed = |error: ClientError| (error.exit_code(), error.to_string());
    client::run(&command, endpoint_of, &mut out).map_err(failed)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn lists_read_well_in_a_terminal() {
    let f = Fixture::new(None);
    let check = |line: &[&str], expected: &[&str]| {
        let text = command(&f, line).unwrap();
        for part in expected {
            assert!(text.contains(part), "{line:?} lacks {part:?}:\n{text}");
        }
    };
    check(
        &["status"],
        &[
            "version        0.1.0\n",
            "shards         2\n",
            "last reload    none since the start\n",
            "rollback       nothing to go back to\n",
        ],
    );
    check(
        &["clients"],
        &["CLIENT       TENANT  USER  STATE", "meter        acme    -     offline"],
    );
    check(
        &["clients", "--limit", "1"],
        &["1 to 1 of 2 clients; --page 2 shows the next\n"],
    );
    check(
        &["clients", "--limit", "1", "--page", "2"],
        &["meter", "2 to 2 of 2 clients\n"],
    );
    check(&["clients", "--page", "9"], &["nothing on page 9 of 2 clients\n"]);
    check(
        &["clients", "room/1 ü%2F"],
        &["client          room/1 ü%2F\n", "session expiry  with its connection\n"],
    );
    check(
        &["clients", "meter", "--tenant", "acme"],
        &["queued          7 messages, 2.0 KiB\n", "session expiry  never\n"],
    );
    check(&["kick", "room/1 ü%2F"], &["room/1 ü%2F was disconnected\n"]);
    check(
        &["unthrottle", "meter"],
        &["\"meter\" may publish at its normal rate again\n"],
    );
    check(
        &["alerts"],
        &["odd-0", "odd-2", "3 of 9 alerts since the start; 3 are kept\n"],
    );
    check(&["alerts", "--limit", "1"], &["1 of 9 alerts since the start"]);
    check(
        &["plugins"],
        &["41 allow, 1 trap", "12.5 us\n", "2.0 KiB", "every 50 ms, 3 skipped"],
    );
}

#[test]
fn a_reload_prints_what_changed_or_why_it_was_refused() {
    let f = Fixture::new(None);
    assert_eq!(
        command(&f, &["reload"]).unwrap(),
        "generation 2 is in force after 5 ms\n  plugin acl: new rules\n"
    );
    f.backend
        .findings
        .lock()
        .unwrap()
        .extend(["nw.toml:3:1: unknown key".into(), "no \u{1b}[31mfile".into()]);
    let (code, error) = command(&f, &["reload"]).unwrap_err();
    assert_eq!(code, 1);
    assert!(
        error.ends_with("\n  nw.toml:3:1: unknown key\n  no \\u{1b}[31mfile"),
        "{error}"
    );
}

#[test]
fn a_rollback_prints_what_is_in_force_or_why_nothing_changed() {
    let f = Fixture::new(None);
    assert_eq!(
        command(&f, &["rollback"]).unwrap(),
        "generation 3 is in force after 4 ms: what generation 1 was\n  plugin acl was loaded\n"
    );
    let findings = &f.backend.findings;
    findings.lock().unwrap().push("there is nothing to go back to".into());
    let (code, error) = command(&f, &["rollback"]).unwrap_err();
    assert_eq!(code, 1);
    assert!(error.contains("there is nothing to go back to"), "{error}");
    assert_eq!(f.ask("POST", "/v1/rollback", JSON, "").0, 409);
}

#[test]
fn json_is_what_the_api_said() {
    let f = Fixture::new(None);
    let text = command(&f, &["clients", "--json"]).unwrap();
    assert!(
        f.get("/v1/clients", "").1.ends_with(&text) && text.starts_with("{\n  \"total\": 2,\n"),
        "{text}"
    );
    let page: ClientPage = serde_json::from_str(&text).unwrap();
    assert_eq!(page.clients, sessions());
    let plugins: Vec<PluginInfo> = serde_json::from_str(&command(&f, &["plugins", "--json"]).unwrap()).unwrap();
    assert_eq!(plugins, [plugin()]);
}

#[test]
fn failed_commands_say_what_to_do() {
    let f = Fixture::new(Some("s3cret"));
    let check = |result: Result<String, (u8, String)>, code: u8, part: &str| {
        let (actual, error) = result.unwrap_err();
        assert!(actual == code && error.contains(part), "{actual} {error}");
    };
    check(command(&f, &["status"]), 1, "--token-file");
    check(
        run_command(&["status", "--admin", "https://127.0.0.1:1"]),
        2,
        "expected http://HOST:PORT",
    );
    check(
        run_command(&["status", "--admin", "127.0.0.1:1"]),
        2,
        "expected http://HOST:PORT",
    );
    check(
        run_command(&["status", "--admin", "http://a@b:1"]),
        2,
        "expected http://HOST:PORT",
    );
    check(
        run_command(&["status", "--token-file", "does-not-exist"]),
        2,
        "does-not-exist",
    );
    check(
        run_command_with(&["status", "--config", "nw.toml"], |_| anyhow::bail!("nw.toml:1:1: no")),
        2,
        "nw.toml:1:1: no",
    );
    let open = Fixture::new(None);
    check(
        command(&open, &["kick", "nobody"]),
        1,
        "no client \"nobody\" outside all tenants is connected",
    );
    check(
        command(&open, &["unthrottle", "nobody"]),
        1,
        "no client \"nobody\" outside all tenants is throttled",
    );
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        run_command(&["status", "--admin", &format!("http://{closed}")]),
        1,
        "is the broker running",
    );
}

#[test]
fn the_configuration_says_where_the_broker_is() {
    let f = Fixture::new(Some("s3cret"));
    let endpoint = |file: &Path| {
        assert_eq!(file, Path::new("nw.toml"));
        Ok(AdminEndpoint {
            bind: SocketAddr::new([0, 0, 0, 0].into(), f.address.port()),
            token: Token::new("s3cret"),
        })
    };
    let text = run_command_with(&["status", "--config", "nw.toml"], endpoint).unwrap();
    assert!(text.contains("durability     memory"), "{text}");
}

#[test]
fn the_token_is_read_from_a_file() {
    let f = Fixture::new(Some("s3cret"));
    let file = std::env::temp_dir().join(format!("nervewire-token-{}-{}", std::process::id(), f.address.port()));
    let status = |content: &str| {
        std::fs::write(&file, content).unwrap();
        command(&f, &["status", "--token-file", file.to_str().unwrap()])
    };
    let results = [status("s3cret\n"), status("wrong"), status(""), status("two words")];
    std::fs::remove_file(&file).unwrap();
    assert_eq!(results.map(|r| r.map_or_else(|(code, _)| code, |_| 0)), [0, 1, 2, 2]);
}
