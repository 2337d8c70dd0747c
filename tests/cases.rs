//! Every bundled plugin answers as its CASES.toml says.

mod support;

use std::path::{Path, PathBuf};
use support::nervewire;

fn plugins_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")
}

/// The builtins, from the broker itself: it lists them where it does not find one.
fn builtins() -> Vec<String> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("broker.toml");
    let toml = "[[listener]]\nbind = \"127.0.0.1:0\"\n[[plugin]]\nname = \"p\"\ncomponent = \"builtin:\"\n";
    std::fs::write(&file, toml).expect("write");
    let output = nervewire()
        .args(["check", "--config"])
        .arg(&file)
        .output()
        .expect("run nervewire");
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let names = printed.split("builtin:").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_bundled_plugin_has_cases_and_passes_them() {
    let builtins = builtins();
    assert!(builtins.len() >= 3, "{builtins:?}");
    for name in builtins {
        let cases = plugins_dir().join(&name).join("CASES.toml");
        assert!(cases.exists(), "plugins/{name} has no CASES.toml");
        let output = nervewire()
            .args(["plugin", "test", &format!("builtin:{name}")])
            .arg(&cases)
            .output()
            .expect("run nervewire");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "builtin:{name}:\n{printed}");
        assert!(printed.contains(" 0 failed"), "builtin:{name}:\n{printed}");
    }
}
