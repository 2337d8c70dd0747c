//! `nervewire plugin new`: a crate that builds and passes its own tests at once. The SDK and wit/ come along, so that it
//! needs nothing but the crate registry.

use crate::builtin::EMBEDDED_SDK;
use crate::cli::{Hook, PluginNewArgs};
use anyhow::{Context, bail};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// The crate's src/lib.rs with all hooks; the SDK compiles and tests it.
const LIB_RS: &str = include_str!("../../../plugin-sdk/tests/template.rs");
const CARGO_TOML: &str = include_str!("plugin_new/Cargo.toml.template");
const NERVEWIRE_TOML: &str = include_str!("plugin_new/nervewire.toml.template");
const README_MD: &str = include_str!("plugin_new/README.md.template");
/// The toolchain the broker and its plugins are built with.
const RUST_TOOLCHAIN: &str = include_str!("../../../rust-toolchain.toml");

const MAX_NAME_BYTES: usize = 64;
/// Names that cargo refuses, or that would hide a crate the plugin uses.
const RESERVED_NAMES: &[&str] = &[
    "alloc",
    "core",
    "nervewire-plugin-sdk",
    "proc-macro",
    "serde",
    "std",
    "test",
];
const KEYWORDS: &[&str] = &[
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "type", "use", "while",
];

/// Writes the crate into a directory of its name, here.
///
/// # Errors
/// Those of [`create`].
pub(crate) fn run(args: &PluginNewArgs) -> anyhow::Result<ExitCode> {
    create(Path::new(&args.name), &args.name, &args.hooks)?;
    println!("{}: a plugin to start from. Next, as its README.md says:\n", args.name);
    println!(
        "    cd {}\n    cargo test\n    cargo build --release --target wasm32-wasip2",
        args.name
    );
    println!("    nervewire run --config nervewire.toml");
    Ok(ExitCode::SUCCESS)
}

/// Makes the directory `dir` and writes into it a plugin called `name` that implements `hooks`.
///
/// # Errors
/// A name that is no name for a crate, no hooks, a directory that is there already, one that cannot be written.
pub(crate) fn create(dir: &Path, name: &str, hooks: &[Hook]) -> anyhow::Result<()> {
    check_name(name)?;
    if hooks.is_empty() {
        bail!("a plugin implements at least one hook");
    }
    fs::create_dir(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    write_crate(dir, name, hooks).inspect_err(|_| {
        // It was made just now. Where it cannot be removed either, the error above says what is wrong.
        let _ = fs::remove_dir_all(dir);
    })
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let well_formed = name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if !well_formed || name.len() > MAX_NAME_BYTES {
        bail!(
            "{name:?} is no name for a plugin: write a lower-case letter, then lower-case letters, digits, `-` or `_`, at \
             most {MAX_NAME_BYTES} of them"
        );
    }
    let spelled_otherwise = name.replace('_', "-");
    if KEYWORDS.contains(&name) || RESERVED_NAMES.contains(&spelled_otherwise.as_str()) {
        bail!("{name:?} means something else to Rust: choose another name");
    }
    Ok(())
}

fn write_crate(dir: &Path, name: &str, hooks: &[Hook]) -> anyhow::Result<()> {
    let fill = |template| {
        cut(template, hooks)
            .replace("{{name}}", name)
            .replace("{{crate}}", &name.replace('-', "_"))
    };
    write(dir, "Cargo.toml", fill(CARGO_TOML))?;
    write(dir, "README.md", fill(README_MD))?;
    write(dir, "nervewire.toml", fill(NERVEWIRE_TOML))?;
    write(dir, "rust-toolchain.toml", toolchain())?;
    write(dir, ".gitignore", "/target\n")?;
    write(dir, "src/lib.rs", lib_rs(hooks))?;
    // Side by side, as in the repository: the SDK looks for wit/ beside itself.
    EMBEDDED_SDK
        .iter()
        .try_for_each(|(path, contents)| write(&dir.join("vendor"), path, contents))
}

fn write(dir: &Path, path: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let file = dir.join(path);
    let parent = file.parent().unwrap_or(dir);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, contents))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn lib_rs(hooks: &[Hook]) -> String {
    let all = exported(&[Hook::Authenticate, Hook::Authorize, Hook::Transform]);
    cut(LIB_RS, hooks).replace(&all, &exported(hooks))
}

fn exported(hooks: &[Hook]) -> String {
    let mut names: Vec<_> = hooks.iter().map(|hook| hook_name(*hook)).collect();
    names.sort_unstable();
    names.dedup();
    format!("export!(Policy: {});", names.join(", "))
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Authenticate => "authenticate",
        Hook::Authorize => "authorize",
        Hook::Transform => "transform",
    }
}

fn toolchain() -> String {
    let channel = RUST_TOOLCHAIN
        .lines()
        .find(|line| line.starts_with("channel"))
        .unwrap_or("channel = \"stable\"");
    format!("[toolchain]\n{channel}\ntargets = [\"wasm32-wasip2\"]\n")
}

/// Leaves out what stands between a comment `HOOK {` and a comment `}` where that hook is not among `hooks`, and the
/// comments themselves.
fn cut(template: &str, hooks: &[Hook]) -> String {
    let mut kept = true;
    let mut text = String::new();
    for line in template.lines() {
        match marker(line) {
            Some("}") => kept = true,
            Some(hook) => {
                kept = hooks
                    .iter()
                    .any(|chosen| hook.strip_suffix(" {") == Some(hook_name(*chosen)))
            }
            None if kept => text.extend([line, "\n"]),
            None => {}
        }
    }
    text
}

fn marker(line: &str) -> Option<&str> {
    let line = line.trim();
    let comment = ["// ", "# ", "<!-- "]
        .iter()
        .find_map(|start| line.strip_prefix(start))?;
    let comment = comment.strip_suffix(" -->").unwrap_or(comment);
    ["authenticate {", "authorize {", "transform {", "template {", "}"]
        .into_iter()
        .find(|marker| *marker == comment)
}

#[cfg(test)]
mod tests;
