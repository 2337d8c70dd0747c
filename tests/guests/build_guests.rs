//! Builds the test guests once per test binary and hands out their bytes. Test targets include this file as a module.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The component of `tests/guests/<name>`.
///
/// # Panics
/// Where the guests cannot be built or read: the test cannot go on.
pub(crate) fn component(name: &str) -> Vec<u8> {
    let path = component_path(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Where the component of `tests/guests/<name>` is, built.
///
/// # Panics
/// Where the guests cannot be built.
pub(crate) fn component_path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(format!("guest_{name}.wasm"))
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = root.join("target/guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "build",
        "--locked",
        "--workspace",
        "--profile",
        "wasm",
        "--target",
        "wasm32-wasip2",
        "--manifest-path",
    ]);
    cargo
        .arg(root.join("tests/guests/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target);
    scrub(&mut cargo);
    let output = cargo.output().expect("cargo starts");
    assert!(
        output.status.success(),
        "building the guests failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("wasm32-wasip2/wasm")
}

/// Flags and wrappers meant for the host (coverage, sanitizers, linkers) must not reach the guests.
fn scrub(cargo: &mut Command) {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_MAKEFLAGS",
        "CARGO_BUILD_JOBS",
    ];
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let inherited = text.starts_with("CARGO_") || ["RUSTFLAGS", "TARGET", "PROFILE"].contains(&text);
        if inherited && !KEPT.iter().any(|kept| text.starts_with(kept)) {
            cargo.env_remove(name);
        }
    }
    for empty in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env(empty, "");
    }
}
