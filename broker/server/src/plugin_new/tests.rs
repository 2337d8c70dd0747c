use super::*;

const HOOKS: [Hook; 3] = [Hook::Authenticate, Hook::Authorize, Hook::Transform];

#[test]
fn names_that_are_none_are_refused() {
    for name in ["policy", "my-policy", "my_policy2", "p"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    let long = "a".repeat(65);
    for name in [
        "",
        "-a",
        "2a",
        "A",
        "a b",
        "a/b",
        "../a",
        "a.b",
        "é",
        "serde",
        "test",
        "proc_macro",
        "fn",
        &long,
    ] {
        assert!(check_name(name).is_err(), "{name}");
    }
}

#[test]
fn a_crate_has_what_its_hooks_need_and_no_more() {
    for hook in HOOKS {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("policy");
        create(&dir, "my-policy", &[hook, hook]).unwrap();
        let lib = fs::read_to_string(dir.join("src/lib.rs")).unwrap();
        assert!(lib.contains(&format!("export!(Policy: {});", hook_name(hook))), "{lib}");
        for other in HOOKS {
            assert_eq!(
                lib.contains(&format!("impl {other:?} for Policy")),
                hook == other,
                "{lib}"
            );
        }
        let config = fs::read_to_string(dir.join("nervewire.toml")).unwrap();
        assert!(
            config.contains("release/my_policy.wasm") && !config.contains("{{"),
            "{config}"
        );
    }
}

#[test]
fn nothing_of_the_template_shows() {
    for template in [LIB_RS, CARGO_TOML, NERVEWIRE_TOML, README_MD] {
        let text = cut(template, &HOOKS);
        assert!(!text.lines().any(|line| marker(line).is_some()));
        assert!(!text.contains("plugin new"), "{text}");
    }
}

#[test]
fn the_sdk_comes_along_with_the_contract_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("policy");
    create(&dir, "policy", &HOOKS).unwrap();
    for file in [
        "plugin-sdk/Cargo.toml",
        "plugin-sdk/src/lib.rs",
        "wit/hooks.wit",
        "wit/worlds.wit",
    ] {
        assert!(dir.join("vendor").join(file).is_file(), "{file}");
    }
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "").unwrap();
    assert!(create(dir.path(), "policy", &HOOKS).is_err());
    assert!(dir.path().join("precious").exists());
    assert!(create(&dir.path().join("no/such/parent"), "policy", &HOOKS).is_err());
}
