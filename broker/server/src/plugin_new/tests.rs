use super::*;

const LANGUAGES: [Language; 3] = [Language::Rust, Language::Javascript, Language::Python];

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
fn a_plugin_has_what_its_hooks_need_and_no_more() {
    for hook in HOOKS {
        check(Language::Rust, "src/lib.rs", hook, |other| {
            format!("impl {other:?} for Policy")
        });
        check(Language::Javascript, "plugin.js", hook, |other| {
            format!("export const {} =", interface(other))
        });
        for language in [Language::Javascript, Language::Python] {
            check(language, "wit/world.wit", hook, |other| {
                format!("export nervewire:plugin/{}@", interface(other))
            });
        }
        check(Language::Python, "plugin.py", hook, |other| {
            format!("from wit_world.exports import {}\n", interface(other))
        });
    }
}

/// Whether a plugin for `hook` has what belongs to it in a file, and nothing that belongs to the others.
fn check(language: Language, file: &str, hook: Hook, belongs_to: impl Fn(Hook) -> String) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("policy");
    create(&dir, "my-policy", &[hook, hook], language).unwrap();
    let text = fs::read_to_string(dir.join(file)).unwrap();
    for other in HOOKS {
        assert_eq!(
            text.contains(&belongs_to(other)),
            hook == other,
            "{hook:?} {other:?}: {text}"
        );
    }
    let cases = fs::read_to_string(dir.join("CASES.toml")).unwrap();
    for other in HOOKS {
        let has_case = cases.contains(&format!("hook = \"{}\"", hook_name(other)));
        assert_eq!(has_case, hook == other, "{cases}");
    }
    if language == Language::Rust {
        assert!(
            text.contains(&format!("export!(Policy: {});", hook_name(hook))),
            "{text}"
        );
    }
}

fn interface(hook: Hook) -> &'static str {
    match hook {
        Hook::Authenticate => "authentication",
        Hook::Authorize => "authorization",
        Hook::Transform => "transformation",
        Hook::Detect => "detection",
    }
}

#[test]
fn nothing_of_the_templates_shows() {
    for (language, files) in LANGUAGES.into_iter().zip([FOR_RUST, FOR_JAVASCRIPT, FOR_PYTHON]) {
        for (path, template) in files.iter().chain(FOR_ALL) {
            let text = fill(template, "my-policy", &HOOKS, language);
            assert!(!text.lines().any(|line| marker(line).is_some()), "{path}: {text}");
            assert!(!text.contains("{{") && !text.contains("plugin new"), "{path}: {text}");
        }
    }
}

#[test]
fn what_is_written_as_toml_is_toml() {
    for language in LANGUAGES {
        for (path, template) in FOR_RUST
            .iter()
            .chain(FOR_ALL)
            .filter(|(path, _)| path.ends_with(".toml"))
        {
            let text = fill(template, "my-policy", &HOOKS, language);
            assert!(text.parse::<toml::Table>().is_ok(), "{path}: {text}");
        }
    }
}

#[test]
fn the_component_is_where_its_language_puts_it() {
    let component = |language| fill("{{component}}", "my-policy", &HOOKS, language);
    assert_eq!(
        component(Language::Rust),
        "target/wasm32-wasip2/release/my_policy.wasm\n"
    );
    assert_eq!(component(Language::Javascript), "my-policy.wasm\n");
    assert_eq!(component(Language::Python), "my-policy.wasm\n");
}

#[test]
fn the_contract_comes_along_and_for_rust_the_sdk() {
    for language in LANGUAGES {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("policy");
        create(&dir, "policy", &HOOKS, language).unwrap();
        let (contract, has_sdk) = match language {
            Language::Rust => ("vendor/wit", true),
            Language::Javascript | Language::Python => ("wit/deps/nervewire-plugin", false),
        };
        for file in ["hooks.wit", "host.wit", "types.wit", "worlds.wit"] {
            assert!(dir.join(contract).join(file).is_file(), "{file}");
        }
        assert_eq!(dir.join("vendor/plugin-sdk/src/lib.rs").is_file(), has_sdk);
    }
}

#[test]
fn a_directory_that_is_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("precious"), "").unwrap();
    assert!(create(dir.path(), "policy", &HOOKS, Language::Rust).is_err());
    assert!(dir.path().join("precious").exists());
    assert!(create(&dir.path().join("no/such/parent"), "policy", &HOOKS, Language::Rust).is_err());
}
