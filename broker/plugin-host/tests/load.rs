//! What is loaded, what is refused and in which words, what is kept, and that nothing leaks.
#![allow(clippy::unwrap_used)]

mod support;

use nervewire_core::hook::Transformation;
use nervewire_plugin_host::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use support::*;

fn check_refused(spec: PluginSpec, parts: &[&str]) {
    let words = host().load(spec).unwrap_err().to_string();
    for part in parts {
        assert!(words.contains(part), "`{words}` does not contain `{part}`");
    }
}

fn text_component(wat: &str) -> PluginSpec {
    PluginSpec {
        component: wat::parse_str(wat).unwrap().into(),
        ..spec("plain")
    }
}

#[test]
fn imports_need_their_grants() {
    check_refused(
        spec("counting"),
        &[
            "nervewire:plugin/kv@0.1.1",
            "nervewire:plugin/random@0.1.1",
            "write `grants = [\"kv\", \"random\"]`",
        ],
    );
    check_refused(
        granted(&["publish:a/#", "kv"], spec("counting")),
        &[
            "imports `nervewire:plugin/random@0.1.1`, which",
            "write `grants = [\"publish:a/#\", \"kv\", \"random\"]`",
        ],
    );
    assert!(
        host()
            .load(granted(&["kv", "random", "publish:a/#"], spec("counting")))
            .is_ok()
    );
    let random = r#"(component (import "wasi:random/random@0.2.6" (instance)))"#;
    check_refused(
        text_component(random),
        &["wasi:random/random@0.2.6", "grants = [\"random\"]"],
    );
}

#[test]
fn what_reaches_outside_is_refused_by_name() {
    let check = |import: &str, why: &str| {
        check_refused(
            text_component(&format!(r#"(component (import "{import}" (instance)))"#)),
            &[import, why],
        );
    };
    check("wasi:sockets/tcp@0.2.6", "no network");
    check("wasi:http/incoming-handler@0.2.6", "no such interface");
    check("wasi:cli/environment@0.3.0", "only WASI 0.2");
    check("evil:host/shell@1.0.0", "no such interface");
    check("nervewire:plugin/log@0.2.0", "another version");
    check_refused(
        text_component(r#"(component (import "f" (func)))"#),
        &["`f`", "no such interface"],
    );
}

#[test]
fn other_versions_and_other_things_are_refused() {
    let export = r#"(component (instance $i) (export "nervewire:plugin/authorization@0.2.0" (instance $i)))"#;
    check_refused(
        text_component(export),
        &["authorization@0.2.0", "another version", "0.1.1"],
    );
    check_refused(text_component("(component)"), &["lifecycle"]);
    check_refused(text_component("(module)"), &["not a WebAssembly component"]);
    check_refused(
        PluginSpec {
            component: b"garbage".as_slice().into(),
            ..spec("plain")
        },
        &["not a WebAssembly component"],
    );
    check_refused(
        PluginSpec {
            component: [].as_slice().into(),
            ..spec("plain")
        },
        &["not a WebAssembly component"],
    );
    let wrong_type =
        r#"(component (import "nervewire:plugin/log@0.1.0" (instance (export "log" (func (param "x" u32))))))"#;
    check_refused(text_component(wrong_type), &["lifecycle"]);
}

#[test]
fn a_function_of_another_type_than_in_the_contract_is_refused() {
    let component = r#"(component
        (core module $m (func (export "init") (param i32) (result i32) local.get 0))
        (core instance $c (instantiate $m))
        (func $init (param "x" u32) (result u32) (canon lift (core func $c "init")))
        (instance $lifecycle (export "init" (func $init)))
        (instance $hook)
        (export "nervewire:plugin/lifecycle@0.1.0" (instance $lifecycle))
        (export "nervewire:plugin/authorization@0.1.0" (instance $hook))
    )"#;
    check_refused(text_component(component), &["cannot be instantiated"]);
}

#[test]
fn hooks_are_those_exported_or_those_asked_for() {
    let with = |hooks: &[Hook], guest: &str| PluginSpec {
        hooks: Some(hooks.to_vec()),
        ..spec(guest)
    };
    let check = |spec, expected: &[Hook]| assert_eq!(host().load(spec).unwrap().hooks(), expected);
    check(spec("plain"), &[Hook::Authenticate, Hook::Authorize, Hook::Transform]);
    check(with(&[Hook::Transform], "plain"), &[Hook::Transform]);
    check(with(&[Hook::Authorize], "picky"), &[Hook::Authorize]);
    check(spec("picky"), &[Hook::Authorize, Hook::Detect]);
    check_refused(
        with(&[Hook::Detect], "plain"),
        &["`detect`", "it implements: authenticate"],
    );
    check_refused(
        with(&[Hook::Authenticate], "picky"),
        &["`authenticate`", "it implements: authorize, detect"],
    );
    check_refused(with(&[], "plain"), &["exports no hook"]);
}

#[test]
fn init_may_refuse_but_not_hurry_or_misbehave() {
    let picky = |config: &str| PluginSpec {
        hooks: Some(vec![Hook::Authorize]),
        config_json: config.to_owned(),
        ..spec("picky")
    };
    check_refused(
        picky(r#"{"refuse":true}"#),
        &["refuses its configuration: line 3: there is no such user"],
    );
    check_refused(
        picky(r#"{"hurry":true}"#),
        &["every 9 ms", "shortest interval is 10 ms"],
    );
    assert_eq!(host().load(picky(r#"{"tick":true}"#)).unwrap().tick_ms(), Some(250));
    assert_eq!(host().load(picky("{}")).unwrap().tick_ms(), None);
    let limits = Limits {
        authenticate_call_ms: 1000,
        ..Limits::default()
    };
    let hostile = |behaviour: &str| PluginSpec {
        config_json: format!(r#"{{"behaviour": "init-{behaviour}"}}"#),
        limits,
        ..spec("hostile")
    };
    check_refused(hostile("loop"), &["`init` failed (timeout)"]);
    check_refused(hostile("panic"), &["`init` failed (trap)"]);
    check_refused(hostile("bomb"), &["`init` failed (memory)"]);
    check_refused(
        PluginSpec {
            limits: Limits {
                memory_mib: 0,
                ..limits
            },
            ..spec("plain")
        },
        &["limits.memory_mib = 0"],
    );
}

#[test]
fn inspection_says_what_a_component_is_and_needs() {
    let bytes = guests::component("counting");
    let found = host().inspect(&bytes).unwrap();
    assert_eq!(found.hooks, [Hook::Transform]);
    assert_eq!(found.wit_version.as_deref(), Some("0.1.1"));
    assert_eq!(
        found.grants.iter().map(Grant::to_string).collect::<Vec<_>>(),
        ["kv", "random"]
    );
    assert!(
        found.imports.iter().any(|name| name == "nervewire:plugin/kv@0.1.1"),
        "{:?}",
        found.imports
    );
    assert!(found.refusals.is_empty(), "{:?}", found.refusals);
    assert_eq!((found.size_bytes, found.digest.len()), (bytes.len(), 64));
    let sockets = wat::parse_str(r#"(component (import "wasi:sockets/tcp@0.2.6" (instance)))"#).unwrap();
    assert_eq!(host().inspect(&sockets).unwrap().refusals.len(), 1);
}

fn ask(instance: &mut Instance, topic: &str) -> String {
    match instance.transform(&client("c"), &message(topic)) {
        Ok(Transformation::Replace(message)) => String::from_utf8(message.payload.to_vec()).unwrap(),
        other => panic!("{topic}: {other:?}"),
    }
}

#[test]
fn the_key_value_store_is_shared_bounded_and_outlives_a_swap() {
    let (host, now) = host_with_clock();
    let load = || host.load(granted(&["kv", "random"], spec("counting"))).unwrap();
    let old = load();
    let (mut one, mut two) = (old.instance(Role::Shard).unwrap(), old.instance(Role::Shard).unwrap());
    assert_eq!(ask(&mut one, "count"), "Ok(1)");
    assert_eq!(ask(&mut two, "count"), "Ok(2)");
    let mut new = load().instance(Role::Shard).unwrap();
    assert_eq!(ask(&mut new, "count"), "Ok(3)");
    assert_eq!(ask(&mut one, "count"), "Ok(4)", "the old generation counts along");
    assert_eq!(ask(&mut one, "set"), "Ok(())");
    assert_eq!(ask(&mut one, "swap"), "Ok(true)");
    assert_eq!(ask(&mut two, "swap"), "Ok(false)");
    assert_eq!(ask(&mut two, "get"), "Some([52, 49])");
    assert_eq!(ask(&mut one, "set-briefly"), "Ok(())");
    assert_eq!(ask(&mut one, "count"), "Err(Error::NotANumber)");
    now.store(50, Ordering::SeqCst);
    assert_eq!(ask(&mut one, "get"), "None");
    assert_eq!(ask(&mut one, "delete"), "()");
    assert_eq!(ask(&mut one, "too-large"), "Err(Error::TooLarge)");
    assert_eq!(
        (
            old.stats().kv_entries(),
            old.stats().kv_bytes(),
            old.stats().kv_refused()
        ),
        (0, 0, 2)
    );
    host.retain(|_| false);
    let mut forgotten = load().instance(Role::Shard).unwrap();
    assert_eq!(ask(&mut forgotten, "count"), "Ok(1)");
}

#[test]
fn random_numbers_differ_and_are_bounded() {
    let plugin = load(granted(&["kv", "random"], spec("counting")));
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let (one, two) = (ask(&mut instance, "random"), ask(&mut instance, "random"));
    assert_eq!(one.len(), 32);
    assert_ne!(one, two);
    assert!(instance.transform(&client("c"), &message("much-random")).is_err());
}

fn cached_host(dir: &Path) -> Host {
    Host::new(HostConfig {
        cache_dir: Some(dir.to_owned()),
        ..small_config()
    })
    .unwrap()
}

fn check_cache(host: &Host, hits: u64, misses: u64, rejected: u64) {
    host.load(spec("plain")).unwrap();
    let stats = host.cache_stats().unwrap();
    assert_eq!((stats.hits, stats.misses, stats.rejected), (hits, misses, rejected));
}

fn cached_files(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

#[test]
fn a_compiled_component_is_taken_from_the_cache_and_from_nothing_doubtful() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("components");
    check_cache(&cached_host(&dir), 0, 1, 0);
    assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    let host = cached_host(&dir);
    check_cache(&host, 1, 0, 0);
    let [file] = cached_files(&dir).try_into().unwrap();

    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    check_cache(&host, 1, 0, 1);
    check_cache(&host, 2, 0, 1);
    std::fs::write(&file, b"short").unwrap();
    check_cache(&host, 2, 0, 2);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o622)).unwrap();
    check_cache(&host, 2, 0, 3);
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    check_cache(&host, 2, 0, 4);
    assert_eq!(
        host.cache_stats().unwrap().failures,
        1,
        "nothing is written where others may look"
    );
}

#[test]
fn a_cache_that_cannot_be_written_costs_only_time() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let host = cached_host(&file.join("below"));
    host.load(spec("plain")).unwrap();
    assert_eq!(host.cache_stats().unwrap().failures, 1);
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn loading_and_dropping_again_and_again_leaks_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let host = cached_host(&parent.path().join("components"));
    let cycle = || {
        let plugin = host.load(spec("plain")).unwrap();
        let mut instances: Vec<_> = (0..4).map(|_| plugin.instance(Role::Shard).unwrap()).collect();
        instances
            .iter_mut()
            .for_each(|instance| _ = instance.transform(&client("c"), &message("echo")).unwrap());
    };
    cycle();
    let before = open_files();
    // More instances than the pool has slots, by far.
    (0..200).for_each(|_| cycle());
    // Other tests of this process open files, too, but not hundreds.
    assert!(
        open_files() < before + 100,
        "{} files are open, {before} were",
        open_files()
    );
}
