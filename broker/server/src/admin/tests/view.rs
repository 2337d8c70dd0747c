//! What the commands print, beyond what the fake broker says.

use super::super::backend::{
    ClientInfo, ClientPage, Kicked, LastReload, ListenerStatus, PluginInfo, ReloadReport, Status, StoreStatus,
};
use super::super::diff::PluginDiff;
use super::super::view::View;

const NOW: u64 = 1_000_000;
const ESCAPE: &str = "\u{1b}[2J";

/// `parts` are in the text, and nothing in it acts on the terminal.
fn check(answer: &impl View, parts: &[&str]) {
    let text = answer.view(NOW);
    assert!(!text.contains('\u{1b}'), "{text:?}");
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

fn status(last_reload: Option<LastReload>) -> Status {
    let listener = ListenerStatus {
        bind: "127.0.0.1:8883".into(),
        transport: "tcp".into(),
        tls: true,
    };
    let config_file = Some("/etc/nervewire.toml".into());
    Status {
        uptime_s: 90,
        max_connections: 50,
        listeners: vec![listener],
        config_file,
        last_reload,
        ..Status::default()
    }
}

#[test]
fn the_status_shows_what_the_disk_has_and_says() {
    let store = |trouble: Option<&str>, last_error: Option<&str>| Status {
        store: Some(StoreStatus {
            bytes: 2048,
            pending_bytes: 0,
            trouble: trouble.map(Into::into),
            last_error: last_error.map(Into::into),
        }),
        ..status(None)
    };
    check(&status(None), &["store          none\n"]);
    check(&store(None, None), &["store          2.0 KiB\n"]);
    check(
        &store(Some("the store is full"), Some(ESCAPE)),
        &["2.0 KiB, TROUBLE: the store is full (last error: \\u{1b}[2J)\n"],
    );
    check(
        &store(Some("the store is full"), None),
        &["2.0 KiB, TROUBLE: the store is full\n"],
    );
    check(
        &store(None, Some("no space left")),
        &["2.0 KiB, works again after: no space left\n"],
    );
}

#[test]
fn the_status_shows_the_latest_reload_and_the_listeners() {
    let reload = |ok, error: Option<&str>| {
        Some(LastReload {
            at_unix_s: NOW - 5,
            ok,
            error: error.map(Into::into),
        })
    };
    check(
        &status(None),
        &["last reload    none since the start\n", "up             1m 30s\n"],
    );
    check(
        &status(reload(true, None)),
        &["last reload    5s ago\n", "/etc/nervewire.toml\n"],
    );
    check(
        &status(reload(false, Some(ESCAPE))),
        &["last reload    REFUSED 5s ago: \\u{1b}[2J\n"],
    );
    check(
        &status(None),
        &["0 of at most 50\n", "127.0.0.1:8883  tcp        yes\n"],
    );
}

#[test]
fn what_strangers_chose_is_made_harmless() {
    check(
        &Kicked {
            client_id: ESCAPE.into(),
            tenant: None,
        },
        &["\\u{1b}[2J was disconnected\n"],
    );
    check(
        &ClientInfo {
            username: Some(ESCAPE.into()),
            ..ClientInfo::default()
        },
        &["user            \\u{1b}[2J\n"],
    );
    let disguised = PluginInfo {
        name: ESCAPE.into(),
        ..PluginInfo::default()
    };
    check(&vec![disguised], &["\\u{1b}[2J"]);
    check(
        &ReloadReport {
            generation: 2,
            changes: vec![ESCAPE.into()],
            took_ms: 1,
        },
        &["  \\u{1b}[2J\n"],
    );
}

#[test]
fn sessions_say_how_long_they_last() {
    let client = |session_expiry_s| ClientInfo {
        session_expiry_s,
        ..ClientInfo::default()
    };
    check(&client(None), &["session expiry  never\n"]);
    check(&client(Some(0)), &["session expiry  with its connection\n"]);
    check(&client(Some(3_600)), &["session expiry  1h 0m after its connection\n"]);
}

#[test]
fn empty_answers_are_said_in_words() {
    check(&Vec::new(), &["no plugins\n"]);
    check(&ClientPage::default(), &["no clients\n"]);
    check(
        &ReloadReport {
            generation: 3,
            ..ReloadReport::default()
        },
        &["nothing changed; generation 3 stays in force\n"],
    );
}

#[test]
fn a_diff_names_whom_a_plugin_would_have_locked_out_and_why() {
    let diff = super::fake::diff();
    let parts = [
        "acl-next in the place of acl: 12 compared, 7 different\n  authorize: 7 would_deny\n",
        "meter (tenant acme)",
        "ann\\u{1b}",
        "publish q1",
        "plant/7/temp",
        "allowed by acl, rule 1: allow publish #",
        "denied by acl-next, rule 2: deny publish plant/+/temp",
        "and 2 differences more",
    ];
    check(&diff, &parts);
    let nothing = PluginDiff {
        plugin: "next".into(),
        ..PluginDiff::default()
    };
    assert_eq!(nothing.view(NOW), "next as one more plugin: 0 compared, 0 different\n");
}
