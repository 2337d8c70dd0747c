//! Whom rules, passwords and listeners let in.

use crate::support::*;
use crate::{may_publish, may_subscribe};
use std::net::TcpStream;

/// Users with passwords, and rules about their names; nobody else, and nothing else.
fn strict(users: &[&str]) -> Setup {
    let setup = Setup::new()
        .auth("anonymous = \"allow\"\ndefault = \"deny\"")
        .toml(&format!(
            "[[plugin]]\nname = \"password\"\ncomponent = \"builtin:password\"\nfiles = {{ users = \"passwd\" }}\n\
             limits = {{ authenticate_call_ms = 10_000 }}\n\
             [[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\n{PATIENT}\
             config.rules = [{{ allow = \"both\", topics = [\"user/${{username}}/#\", \"id/${{client_id}}/#\"] }}]\n"
        ));
    let file = setup.path("passwd").display().to_string();
    for user in users {
        let output = nervewire_with_input(&["passwd", &file, user], "secret\n");
        assert!(output.status.success(), "{output:?}");
    }
    setup
}

/// CVE-2017-7650: a name that holds a wildcard, or a level of its own, matched everybody's topics.
#[test]
fn wildcards_in_names_open_no_pattern() {
    let names = ["+", "a#", "a/b", "ann/#", "+ann"];
    let broker = strict(&["ann", "+", "a#", "a/b", "ann/#", "+ann"]).start();
    for name in names {
        let (mut client, _) = Client::connect(&broker, login(Version::V5, name, name, "secret"));
        for topic in ["user/ann/x", "user/+/x", "id/ann/x", "user/a/b/x", "id/+/x", "user/#"] {
            assert!(!may_subscribe(&mut client, topic), "{name} subscribes to {topic}");
        }
        for topic in ["user/ann/x", "id/a/b/x", "user/a/b/x"] {
            assert!(!may_publish(&mut client, topic), "{name} publishes to {topic}");
        }
    }
    let (mut ann, _) = Client::connect(&broker, login(Version::V5, "c", "ann", "secret"));
    assert!(may_subscribe(&mut ann, "user/ann/#") && may_publish(&mut ann, "user/ann/x"));
}

/// CVE-2026-32696: a template for a client without a user name crashed, or matched the empty name.
#[test]
fn an_absent_user_name_opens_no_pattern() {
    let broker = strict(&["ann"]).start();
    for version in [Version::V311, Version::V5] {
        let mut client = Client::new(&broker, version, "c");
        for topic in ["user//x", "user/+/x", "user/#"] {
            assert!(!may_subscribe(&mut client, topic), "{topic}");
        }
        assert!(may_subscribe(&mut client, "id/c/x"));
        if version == Version::V5 {
            assert!(!may_publish(&mut client, "user//x"));
        }
    }
    // An empty one is a user name, which nobody has.
    let (_, refused) = Client::try_connect(&broker, login(Version::V5, "c", "", "secret"));
    assert!(refused.reason as u8 >= 0x80, "{refused:?}");
}

/// CVE-2017-7652: where there was no file descriptor left to read the configuration, the defaults let everybody in.
#[test]
fn a_reload_without_file_descriptors_changes_nothing() {
    let broker = strict(&["ann"]).start();
    let pid = rustix::process::Pid::from_raw(i32::try_from(broker.pid()).expect("a process id"));
    let set_files = |current: u64| {
        let files = rustix::process::Resource::Nofile;
        let old = rustix::process::getrlimit(files);
        let limit = rustix::process::Rlimit {
            current: Some(current),
            maximum: old.maximum,
        };
        rustix::process::prlimit(pid, files, limit).expect("set the limit of open files")
    };
    let (mut ann, _) = Client::connect(&broker, login(Version::V5, "c", "ann", "secret"));
    let (mut stranger, _) = Client::connect(&broker, hello(Version::V5, "stranger"));
    let generation = get(&broker, "/v1/status").json()["generation"].clone();
    let before = metric(&broker, "nervewire_reloads_total", &[("outcome", "refused")]);
    // Something is new, so that everything has to be read.
    broker.replace_toml("[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = [{ allow = \"both\", topics = [\"#\"] }]\n");
    let normal = set_files(3);
    broker.signal("HUP");
    broker.logs("Too many open files");
    // Who is there already is judged as before.
    assert!(!may_publish(&mut stranger, "user/ann/x") && may_publish(&mut ann, "user/ann/x"));
    set_files(normal.current.expect("a limit"));
    let after = wait_for("the broker to accept connections again", || {
        let refused = metric(&broker, "nervewire_reloads_total", &[("outcome", "refused")]);
        (refused > before).then_some(refused)
    });
    assert!(after > before);
    assert!(get(&broker, "/v1/status").json()["generation"].as_u64() >= generation.as_u64());
    // And with descriptors it is taken over.
    broker.reloaded();
    assert!(may_publish(&mut stranger, "user/ann/x"));
}

/// CVE-2018-12550, CVE-2018-12551: an empty list of rules allowed everything, a damaged line of the password file let in.
#[test]
fn no_rules_allow_nothing_and_damaged_passwords_let_nobody_in() {
    let rules = "[[plugin]]\nname = \"acl\"\ncomponent = \"builtin:acl\"\nconfig.rules = []\n";
    let broker = Setup::new()
        .auth("anonymous = \"allow\"\ndefault = \"deny\"")
        .toml(rules)
        .start();
    let mut client = Client::new(&broker, Version::V5, "c");
    assert!(!may_publish(&mut client, "t") && !may_subscribe(&mut client, "t"));

    let entry = |setup: &Setup| std::fs::read_to_string(setup.path("passwd")).expect("the password file");
    for damage in [
        "ann",
        "ann:",
        ":",
        "ann:plain",
        "ann:$argon2id$",
        "ann:$argon2id$v=19$m=1,t=1,p=1$$",
        "\u{0}ann:x",
    ] {
        let setup = strict(&["bob"]);
        let damaged = format!("{}{damage}\n", entry(&setup));
        let refused = setup.file("passwd", damaged).try_start().err();
        let (_, status, log) = *refused.unwrap_or_else(|| panic!("{damage:?} was taken"));
        assert_eq!(status.code(), Some(2), "{damage:?}: {log}");
        assert!(log.contains("line 2"), "{damage:?}: {log}");
    }
    // And while it runs: the file that was good stays.
    let setup = strict(&["bob"]);
    let good = entry(&setup);
    let broker = setup.start();
    broker.replace_file("passwd", format!("{good}ann:\n"));
    assert_eq!(broker.reload().status.code(), Some(1));
    for (user, password, is_in) in [
        ("ann", "", false),
        ("ann", "x", false),
        ("bob", "x", false),
        ("bob", "secret", true),
    ] {
        let (_, answer) = Client::try_connect(&broker, login(Version::V5, "c", user, password));
        assert_eq!((answer.reason as u8) < 0x80, is_in, "{user}, {password:?}");
    }
}

/// CVE-2018-20145: the rules held on one listener, and not on the other.
#[test]
fn every_listener_is_judged_by_the_rules() {
    let extra = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = extra.local_addr().expect("an address");
    drop(extra);
    let setup = strict(&["ann"]).toml(&format!("[[listener]]\nbind = \"{address}\"\n"));
    let broker = setup.start();
    let over_extra = |connect: Connect| {
        let stream = TcpStream::connect(address).expect("connect to the second listener");
        stream.set_read_timeout(Some(DEADLINE)).expect("set a timeout");
        let mut client = Client::over(stream, connect.version);
        client.send(Packet::Connect(Box::new(connect)));
        let answer = *client.expect_connack();
        (client, answer)
    };
    let (_, refused) = over_extra(login(Version::V5, "c", "ann", "wrong"));
    assert!(refused.reason as u8 >= 0x80, "{refused:?}");
    let (mut stranger, _) = over_extra(hello(Version::V5, "stranger"));
    let (mut ann, _) = over_extra(login(Version::V5, "c", "ann", "secret"));
    let mut other = Client::new(&broker, Version::V5, "other");
    for client in [&mut stranger, &mut other] {
        assert!(!may_publish(client, "user/ann/x") && !may_subscribe(client, "#"));
    }
    assert!(may_publish(&mut ann, "user/ann/x"));
}
