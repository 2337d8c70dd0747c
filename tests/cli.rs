//! The command line without a running broker.

mod support;

use std::path::Path;
use std::process::Output;
use support::{nervewire, nervewire_with_input};

#[track_caller]
fn run(args: &[&str], code: i32) -> Output {
    let output = nervewire().args(args).output().expect("run nervewire");
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    output
}

/// Checks a configuration: the exit code and what is printed.
#[track_caller]
fn check(toml: &str, code: i32) -> String {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, toml).expect("write");
    let output = run(&["check", "--config", &file.display().to_string()], code);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_printed_defaults_are_accepted() {
    let defaults = run(&["run", "--print-config"], 0).stdout;
    check(&String::from_utf8(defaults).expect("UTF-8"), 0);
}

/// Exit code 2 with file, line and column, and what to write instead.
#[test]
fn wrong_configurations_are_refused_where_they_are_wrong() {
    let listener = "[[listener]]\nbind = \"127.0.0.1:1883\"\n";
    let rows = [
        ("[broker]\nshard = 1\n", "broker.toml:2:1", "shards"),
        ("[broker]\nshards = \"two\"\n", "broker.toml:2:10", "number"),
        ("[limts]\n", "broker.toml:1:2", "limits"),
        ("[broker\n", "broker.toml:1:", ""),
        ("[auth]\nanonymous = \"sometimes\"\n", "broker.toml:2:13", "loopback"),
        (
            "[broker]\ndata_dir = \"\"\ndurability = \"fsync\"\n",
            "broker.toml:3:14",
            "data_dir = ",
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1\"\n",
            "broker.toml:2:8",
            "127.0.0.1:1883",
        ),
        (
            "[[plugin]]\nname = \"p\"\ncomponent = \"builtin:nothing\"\n",
            "broker.toml:3:13",
            "builtin:acl",
        ),
        ("[admin]\nbind = \"0.0.0.0:8080\"\n", "broker.toml:2:8", "token"),
    ];
    for (toml, place, advice) in rows {
        let text = if toml.contains("[[listener]]") {
            toml.to_owned()
        } else {
            format!("{toml}{listener}")
        };
        let printed = check(&text, 2);
        assert!(printed.contains(place), "{toml:?}: {place} is not in {printed:?}");
        assert!(printed.contains(advice), "{toml:?}: {advice} is not in {printed:?}");
    }
}

#[test]
fn a_missing_configuration_is_named() {
    for command in ["check", "run"] {
        let output = run(&[command, "--config", "no/such/file.toml"], 2);
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("no/such/file.toml"),
            "{output:?}"
        );
    }
}

#[test]
fn a_broken_component_is_refused_by_check_and_run() {
    let dir = tempfile::tempdir().expect("temporary directory");
    std::fs::write(dir.path().join("broken.wasm"), "not wasm").expect("write");
    let toml = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[plugin]]\nname = \"p\"\ncomponent = \"broken.wasm\"\n";
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, toml).expect("write");
    for command in ["check", "run"] {
        let output = run(&[command, "--config", &file.display().to_string()], 2);
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("plugin \"p\""),
            "{command}: {output:?}"
        );
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for args in [
        &["frobnicate"][..],
        &["check"],
        &["run", "--shards", "2"],
        &["kick"],
        &["plugin", "new"],
        &["passwd", "file"],
    ] {
        assert!(!run(args, 2).stderr.is_empty());
    }
}

#[test]
fn help_and_version_are_there() {
    let help = String::from_utf8(run(&["--help"], 0).stdout).expect("UTF-8");
    for command in [
        "run", "check", "passwd", "plugin", "status", "clients", "kick", "plugins", "reload", "bench",
    ] {
        assert!(help.contains(command), "{command} is not in the help");
    }
    assert!(String::from_utf8_lossy(&run(&["--version"], 0).stdout).contains(env!("CARGO_PKG_VERSION")));
}

fn passwd(file: &Path, user: &str, password: &str) -> Output {
    nervewire_with_input(&["passwd", &file.display().to_string(), user], password)
}

#[test]
fn passwd_adds_changes_and_removes_users() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("passwd");
    let lines = || {
        std::fs::read_to_string(&file)
            .expect("read")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(passwd(&file, "alice", "one\n").status.success());
    assert!(passwd(&file, "bob", "two\n").status.success());
    let before = lines();
    assert_eq!(before.len(), 2);
    assert!(before[0].starts_with("alice:$argon2id$"), "{before:?}");
    assert!(passwd(&file, "alice", "three\n").status.success());
    let after = lines();
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1], after[1], "others keep theirs");
    run(&["passwd", &file.display().to_string(), "alice", "--delete"], 0);
    assert_eq!(lines(), after[1..]);
}

#[test]
fn passwd_refuses_what_cannot_work() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("passwd");
    for (user, password) in [("alice", ""), ("alice", "\n"), ("a:b", "x\n")] {
        assert!(!passwd(&file, user, password).status.success(), "{user:?} {password:?}");
    }
    assert!(!file.exists());
}

#[test]
fn plugin_inspect_shows_what_a_component_is() {
    let output = run(&["plugin", "inspect", "builtin:acl", "--json"], 0);
    let inspected: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(inspected["hooks"], serde_json::json!(["authorize"]));
    assert_eq!(inspected["digest"].as_str().map(str::len), Some(64));
    let printed = String::from_utf8(run(&["plugin", "inspect", "builtin:password"], 0).stdout).expect("UTF-8");
    assert!(
        printed.contains("authenticate") && printed.contains("0.1.1"),
        "{printed}"
    );
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("broken.wasm");
    std::fs::write(&file, "not wasm").expect("write");
    run(&["plugin", "inspect", &file.display().to_string()], 1);
}

#[test]
fn plugin_new_writes_a_crate() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let new = || {
        nervewire()
            .current_dir(dir.path())
            .args(["plugin", "new", "my-policy", "--hook", "authorize"])
            .output()
            .expect("run")
    };
    let output = new();
    assert!(output.status.success(), "{output:?}");
    let package = dir.path().join("my-policy");
    for file in ["Cargo.toml", "src/lib.rs"] {
        assert!(package.join(file).is_file(), "{file}");
    }
    assert!(!new().status.success(), "an existing directory is left alone");
}

#[test]
fn plugin_new_writes_other_languages_beside_the_contract() {
    let dir = tempfile::tempdir().expect("temporary directory");
    for (language, source) in [("javascript", "plugin.js"), ("python", "plugin.py")] {
        let output = nervewire()
            .current_dir(dir.path())
            .args(["plugin", "new", language, "--hook", "transform", "--language", language])
            .output()
            .expect("run");
        assert!(output.status.success(), "{output:?}");
        for file in [
            source,
            "CASES.toml",
            "wit/world.wit",
            "wit/deps/nervewire-plugin/hooks.wit",
        ] {
            assert!(dir.path().join(language).join(file).is_file(), "{language} {file}");
        }
    }
}

#[test]
#[ignore = "needs the registry, and minutes"]
fn a_new_crate_with_every_hook_builds_and_passes_its_tests() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let dir = directory.path();
    let mut new = nervewire();
    new.current_dir(dir).args(["plugin", "new", "all-hooks"]);
    for hook in ["authenticate", "authorize", "transform", "detect"] {
        new.args(["--hook", hook]);
    }
    assert!(new.status().expect("run").success());
    let package = &dir.join("all-hooks");
    for args in [&["test"][..], &["build", "--release", "--target", "wasm32-wasip2"]] {
        let output = support::cargo()
            .current_dir(package)
            .args(args)
            .output()
            .expect("run cargo");
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let component = package.join("target/wasm32-wasip2/release/all_hooks.wasm");
    let printed =
        String::from_utf8(run(&["plugin", "inspect", &component.display().to_string()], 0).stdout).expect("UTF-8");
    assert!(
        printed.contains("authenticate, authorize, transform, detect"),
        "{printed}"
    );
    let cases = package.join("CASES.toml");
    run(
        &[
            "plugin",
            "test",
            &component.display().to_string(),
            &cases.display().to_string(),
        ],
        0,
    );
}
