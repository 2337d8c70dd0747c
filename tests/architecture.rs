//! What ARCHITECTURE.md says about the code itself: who may depend on whom, what the pure crates know nothing of, that no file
//! is dead, and that none has grown too long to be read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every crate of the workspace by its directory, and the crates of ours that it may depend on.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("broker/codec", &[]),
    ("broker/core", &["nervewire-codec"]),
    ("broker/store", &["nervewire-codec", "nervewire-core"]),
    ("broker/plugin-host", &["nervewire-codec", "nervewire-core"]),
    (
        "broker/server",
        &[
            "nervewire-codec",
            "nervewire-core",
            "nervewire-plugin-host",
            "nervewire-store",
        ],
    ),
    ("plugin-sdk", &[]),
    ("plugins/acl", &["nervewire-plugin-sdk"]),
    ("plugins/ahash", &[]),
    ("plugins/anomaly-guard", &["nervewire-plugin-sdk"]),
    (
        "plugins/bridge-names",
        &["nervewire-plugin-parts", "nervewire-plugin-sdk"],
    ),
    ("plugins/fluent-uri", &[]),
    ("plugins/jwt", &["nervewire-plugin-sdk", "nervewire-rights"]),
    ("plugins/parts", &["nervewire-plugin-sdk"]),
    ("plugins/noop", &["nervewire-plugin-sdk"]),
    ("plugins/password", &["nervewire-plugin-sdk"]),
    ("plugins/redact", &["nervewire-plugin-parts", "nervewire-plugin-sdk"]),
    ("plugins/rewrite", &["nervewire-plugin-parts", "nervewire-plugin-sdk"]),
    ("plugins/rights", &["nervewire-plugin-sdk"]),
    ("plugins/schema", &["nervewire-plugin-parts", "nervewire-plugin-sdk"]),
    (
        "plugins/throttle-telemetry",
        &["nervewire-plugin-parts", "nervewire-plugin-sdk"],
    ),
    ("plugins/webhook", &["nervewire-plugin-sdk", "nervewire-rights"]),
];

/// The crates without socket, clock, file, lock and await, and everything they may be made of.
const PURE: &[(&str, &[&str])] = &[
    ("broker/codec", &["bytes", "thiserror"]),
    (
        "broker/core",
        &["nervewire-codec", "bytes", "hashbrown", "slab", "smallvec", "thiserror"],
    ),
];

/// What a pure crate has no use for.
const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::fs",
    "std::time",
    "std::thread",
    "std::env",
    "std::process",
    "Mutex",
    "RwLock",
    "Condvar",
    "Atomic",
    "async ",
    ".await",
    "println!",
];

const MAX_FILE_LINES: usize = 600;

#[test]
fn dependencies_point_one_way() {
    for (dir, allowed) in MAY_DEPEND_ON {
        let manifest = manifest(dir);
        for name in dependencies(&manifest, &["dependencies", "dev-dependencies", "build-dependencies"]) {
            let ours = name.starts_with("nervewire");
            assert!(
                !ours || allowed.contains(&name.as_str()),
                "{dir} must not depend on {name}"
            );
        }
    }
}

#[test]
fn every_crate_has_its_place_in_the_order_of_dependencies() {
    let root = manifest("");
    let members = root["workspace"]["members"].as_array().expect("members").iter();
    let members: BTreeSet<&str> = members.map(|member| member.as_str().expect("a path")).collect();
    let known: BTreeSet<&str> = MAY_DEPEND_ON.iter().map(|(dir, _)| *dir).collect();
    assert_eq!(members, known);
    for entry in fs::read_dir(root_dir().join("plugins")).expect("plugins/") {
        let dir = format!("plugins/{}", entry.expect("an entry").file_name().to_string_lossy());
        if dir == "plugins/worlds" {
            continue; // Configurations only.
        }
        assert!(known.contains(dir.as_str()), "{dir} is no member of the workspace");
    }
}

#[test]
fn pure_crates_are_made_of_pure_crates() {
    for (dir, allowed) in PURE {
        for name in dependencies(&manifest(dir), &["dependencies", "build-dependencies"]) {
            assert!(allowed.contains(&name.as_str()), "{dir} must not depend on {name}");
        }
    }
}

#[test]
fn pure_crates_know_no_socket_clock_file_lock_or_await() {
    for (dir, _) in PURE {
        for file in sources(&root_dir().join(dir).join("src")) {
            for (line, number) in read(&file).lines().zip(1..) {
                let code = line.split("//").next().unwrap_or_default();
                for word in IMPURE {
                    assert!(!code.contains(word), "{}:{number} has {word}", file.display());
                }
            }
        }
    }
}

#[test]
fn no_file_is_too_long() {
    for file in all_sources() {
        let lines = read(&file).lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines", file.display());
    }
}

#[test]
fn nothing_is_left_to_be_done() {
    // Put together here, so that this file does not hold them.
    let unfinished =
        [["to", "do!("], ["unimple", "mented!("], ["FIX", "ME"], ["#[ig", "nore"]].map(|halves| halves.concat());
    // What CI runs in a step of its own, because it needs what a fresh machine does not have.
    let elsewhere = ["#[ig", "nore = \"needs "].concat();
    for file in all_sources() {
        let text = read(&file).replace(&elsewhere, "");
        for word in &unfinished {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

/// A file that no `mod` names is compiled by nobody.
#[test]
fn no_module_is_dead() {
    for (dir, _) in MAY_DEPEND_ON {
        for file in sources(&root_dir().join(dir).join("src")) {
            assert!(is_declared(&file), "no mod declares {}", file.display());
        }
    }
}

/// Tests outside their package's directory run only where its manifest names them.
#[test]
fn every_black_box_test_is_a_target() {
    let manifests = ["broker/server", "broker/store"].map(manifest);
    let targets = manifests
        .iter()
        .flat_map(|manifest| manifest["test"].as_array().expect("[[test]]"));
    let targets: BTreeSet<&str> = targets.filter_map(|target| target["path"].as_str()).collect();
    for entry in fs::read_dir(root_dir().join("tests")).expect("tests/") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = match path.is_dir() {
            true if path.join("main.rs").is_file() => format!("../../tests/{name}/main.rs"),
            false if name.ends_with(".rs") => format!("../../tests/{name}"),
            _ => continue,
        };
        assert!(
            targets.contains(target.as_str()),
            "{target} is no [[test]] of broker/server or broker/store"
        );
    }
}

/// Whether the module file beside or above it has a `mod` for a source file, by name or by path.
fn is_declared(file: &Path) -> bool {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let dir = file.parent().expect("a directory");
    let (name, home) = match &*stem {
        "lib" | "main" => return true,
        "mod" => (
            dir.file_name().unwrap_or_default().to_string_lossy(),
            dir.parent().expect("src"),
        ),
        _ => (stem, dir),
    };
    let by_name = format!("mod {name};");
    let by_path = format!(
        "#[path = \"{}\"]",
        file.file_name().unwrap_or_default().to_string_lossy()
    );
    let declares = |text: &str| {
        let lines = text.lines().map(str::trim);
        lines
            .map(|line| {
                line.trim_start_matches("pub(crate) ")
                    .trim_start_matches("pub(super) ")
                    .trim_start_matches("pub ")
            })
            .any(|line| line == by_name || line == by_path)
    };
    let mut homes = vec![
        home.join("mod.rs"),
        home.join("lib.rs"),
        home.join("main.rs"),
        home.with_extension("rs"),
    ];
    // `#[path]` counts from the file that has it, which may be any sibling.
    homes.extend(
        sources(home)
            .into_iter()
            .filter(|sibling| sibling.parent() == Some(home)),
    );
    homes
        .iter()
        .any(|home| fs::read_to_string(home).is_ok_and(|text| declares(&text)))
}

/// The names under these tables, of every target.
fn dependencies(manifest: &toml::Table, tables: &[&str]) -> Vec<String> {
    let empty = toml::Table::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table).unwrap_or(&empty);
    let places = targets.values().filter_map(toml::Value::as_table).chain([manifest]);
    let named = places.flat_map(|place| tables.iter().filter_map(|table| place.get(*table)?.as_table()));
    let names: BTreeMap<String, ()> = named
        .flat_map(|table| table.keys().map(|name| (name.clone(), ())))
        .collect();
    names.into_keys().collect()
}

fn manifest(dir: &str) -> toml::Table {
    let file = root_dir().join(dir).join("Cargo.toml");
    read(&file)
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn all_sources() -> Vec<PathBuf> {
    ["broker", "plugin-sdk", "plugins", "tests"]
        .iter()
        .flat_map(|dir| sources(&root_dir().join(dir)))
        .collect()
}

/// Every `.rs` file under a directory, without what is built or installed there.
fn sources(dir: &Path) -> Vec<PathBuf> {
    const NOT_OURS: [&str; 3] = ["target", "node_modules", "venv"];
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && !NOT_OURS.iter().any(|other| name == *other) {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn root_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
