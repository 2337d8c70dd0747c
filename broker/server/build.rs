//! Compiles the bundled plugins and puts them, with the SDK for `plugin new`, into the binary: one file is the whole product.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Directories of `plugins/`, and the NAME of `builtin:NAME`.
const PLUGINS: [&str; 10] = [
    "acl",
    "anomaly-guard",
    "bridge-names",
    "jwt",
    "password",
    "redact",
    "rewrite",
    "schema",
    "throttle-telemetry",
    "webhook",
];
/// Directories of `plugins/` that several of them are made of.
const PARTS: [&str; 4] = ["ahash", "fluent-uri", "parts", "rights"];
/// Directory in `plugins/` of the plugin that `plugin bench` compares with.
const NOOP: &str = "noop";
const TARGET: &str = "wasm32-wasip2";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bundled plugins: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR")?)
        .join("../..")
        .canonicalize()?;
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    watch(&root);
    check_sdk_version(&root)?;
    ensure_target()?;
    let components = compile(&root, &guests_dir(&root, &out_dir))?;
    fs::write(
        out_dir.join("builtin.rs"),
        generated(&root, &components, &sdk_files(&root)?),
    )?;
    Ok(())
}

/// Never `plugins/` whole: a file an editor leaves beside the sources must not compile them again.
fn watch(root: &Path) {
    let shared = [
        "Cargo.toml",
        "Cargo.lock",
        "wit",
        "plugin-sdk/src",
        "plugin-sdk/Cargo.toml",
    ]
    .map(String::from);
    let plugins = PLUGINS
        .iter()
        .chain(&PARTS)
        .chain([&NOOP])
        .flat_map(|name| [format!("plugins/{name}/src"), format!("plugins/{name}/Cargo.toml")]);
    for path in shared.into_iter().chain(plugins) {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
}

/// The SDK does not inherit its version, because it is copied out of the workspace.
fn check_sdk_version(root: &Path) -> Result<()> {
    let version = env::var("CARGO_PKG_VERSION")?;
    let manifest = fs::read_to_string(root.join("plugin-sdk/Cargo.toml"))?;
    if manifest.lines().any(|line| line == format!("version = \"{version}\"")) {
        return Ok(());
    }
    Err(format!("plugin-sdk/Cargo.toml is not of the workspace's version, write version = \"{version}\"").into())
}

/// rust-toolchain.toml names the target, but rustup may be told not to install what is missing.
fn ensure_target() -> Result<()> {
    let output = Command::new(variable("RUSTC")?).args(["--print", "sysroot"]).output()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    if let Some(toolchain) = env::var_os("RUSTUP_TOOLCHAIN") {
        rustup.arg("--toolchain").arg(toolchain);
    }
    match rustup.status() {
        Ok(status) if status.success() => Ok(()),
        outcome => Err(format!(
            "they are compiled for {TARGET}, which this Rust lacks and which `{rustup:?}` could not add ({outcome:?}): \
             add it by hand"
        )
        .into()),
    }
}

/// One directory for all profiles of the binary, since the plugins are the same in each.
fn guests_dir(root: &Path, out_dir: &Path) -> PathBuf {
    let is_target_dir = |dir: &&Path| dir.join("CACHEDIR.TAG").exists() || dir.join(".rustc_info.json").exists();
    let target_dir = out_dir
        .ancestors()
        .find(is_target_dir)
        .map_or_else(|| root.join("target"), Path::to_owned);
    target_dir.join("guests")
}

/// The components, in the order of [`PLUGINS`], and [`NOOP`] at last.
fn compile(root: &Path, guests: &Path) -> Result<Vec<PathBuf>> {
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args([
            "build",
            "--locked",
            "--target",
            TARGET,
            "--profile",
            "wasm",
            "--target-dir",
        ])
        .arg(guests);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml"));
    cargo.args(
        PLUGINS
            .iter()
            .chain([&NOOP])
            .flat_map(|name| ["-p".to_owned(), format!("nervewire-plugin-{name}")]),
    );
    scrub(&mut cargo);
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("{cargo:?} failed: {status}").into());
    }
    let component = |name: &&str| {
        guests
            .join(TARGET)
            .join("wasm")
            .join(format!("nervewire_plugin_{}.wasm", name.replace('-', "_")))
    };
    Ok(PLUGINS.iter().chain([&NOOP]).map(component).collect())
}

/// What this build was told for the host (flags, wrappers such as clippy's, directories) is not meant for the plugins.
fn scrub(cargo: &mut Command) {
    for (name, _) in env::vars_os().filter(|(name, _)| is_for_the_host(name)) {
        cargo.env_remove(name);
    }
    // Set and empty, so that no configuration file sets them either.
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env(name, "");
    }
}

fn is_for_the_host(name: &OsStr) -> bool {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_MAKEFLAGS",
    ];
    let name = name.to_string_lossy();
    let is_build_setting = name.starts_with("CARGO_") || ["RUSTFLAGS", "TARGET", "PROFILE"].contains(&name.as_ref());
    is_build_setting && !KEPT.iter().any(|kept| name.starts_with(kept))
}

/// What a plugin's crate needs beside it, by its path in the repository.
fn sdk_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("plugin-sdk/Cargo.toml")];
    for dir in ["plugin-sdk/src", "wit"] {
        collect(root, Path::new(dir), &mut files)?;
    }
    files.sort();
    Ok(files)
}

fn collect(root: &Path, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(root.join(dir))? {
        let entry = entry?;
        let path = dir.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(root, &path, files)?;
        } else if path
            .extension()
            .is_some_and(|extension| extension == "rs" || extension == "wit")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn generated(root: &Path, components: &[PathBuf], sdk: &[PathBuf]) -> String {
    let builtins = PLUGINS
        .iter()
        .zip(components)
        .map(|(name, path)| (PathBuf::from(name), path.clone()));
    let sdk = sdk.iter().map(|path| (path.clone(), root.join(path)));
    let noop = components.last().cloned().unwrap_or_default();
    format!(
        "/// Bundled plugins: name and component.\n{}\n/// The plugin that does nothing.\npub(crate) static NOOP: &[u8] = include_bytes!({noop:?});\n\n/// The SDK and wit/: path in the repository and contents.\n{}",
        table("BUILTINS", builtins),
        table("EMBEDDED_SDK", sdk)
    )
}

fn table(name: &str, entries: impl Iterator<Item = (PathBuf, PathBuf)>) -> String {
    let rows: String = entries
        .map(|(name, path)| format!("    ({name:?}, include_bytes!({path:?})),\n"))
        .collect();
    format!("pub(crate) static {name}: &[(&str, &[u8])] = &[\n{rows}];\n")
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: cargo runs this").into())
}
