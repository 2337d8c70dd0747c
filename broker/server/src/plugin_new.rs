//! `nervewire plugin new`: a plugin that builds and passes its own tests at once. What it needs of this repository comes along,
//! so that it needs nothing else but the registry of its language.

use crate::builtin::EMBEDDED_SDK;
use crate::cli::{Hook, Language, PluginNewArgs};
use anyhow::{Context, bail};
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// A Rust plugin's src/lib.rs with all hooks; the SDK compiles and tests it.
const LIB_RS: &str = include_str!("../../../plugin-sdk/tests/template.rs");
/// The toolchain the broker and its plugins are built with.
const RUST_TOOLCHAIN: &str = include_str!("../../../rust-toolchain.toml");
/// By file, what is written for every language.
const FOR_ALL: &[(&str, &str)] = &[
    ("nervewire.toml", include_str!("plugin_new/nervewire.toml.template")),
    ("CASES.toml", include_str!("plugin_new/CASES.toml.template")),
];
const FOR_RUST: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("plugin_new/rust/Cargo.toml.template")),
    ("README.md", include_str!("plugin_new/rust/README.md.template")),
    ("src/lib.rs", LIB_RS),
    (".gitignore", "/target\n"),
];
const FOR_JAVASCRIPT: &[(&str, &str)] = &[
    ("plugin.js", include_str!("plugin_new/javascript/plugin.js.template")),
    (
        "package.json",
        include_str!("plugin_new/javascript/package.json.template"),
    ),
    ("README.md", include_str!("plugin_new/javascript/README.md.template")),
    ("wit/world.wit", WORLD_WIT),
    (".gitignore", "/data\n/node_modules\n*.wasm\n"),
];
const FOR_PYTHON: &[(&str, &str)] = &[
    ("plugin.py", include_str!("plugin_new/python/plugin.py.template")),
    ("build.sh", include_str!("plugin_new/python/build.sh.template")),
    ("requirements.txt", "componentize-py==0.25.1\n"),
    ("README.md", include_str!("plugin_new/python/README.md.template")),
    ("wit/world.wit", WORLD_WIT),
    (".gitignore", "/data\n/venv\n__pycache__\n*.wasm\n"),
];
/// What a plugin in another language than Rust imports and exports.
const WORLD_WIT: &str = include_str!("plugin_new/world.wit.template");
/// The part of README.md that shows it decide.
const TRY_MD: &str = include_str!("plugin_new/try.md.template");
/// An engine with garbage collection needs more of both than Rust.
const SCRIPT_LIMITS: &str = "limits = { call_ms = 20, memory_mib = 64 }\n";

const HOOKS: [Hook; 4] = [Hook::Authenticate, Hook::Authorize, Hook::Transform, Hook::Detect];

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

/// Writes the plugin into a directory of its name, here.
///
/// # Errors
/// Those of [`create`].
pub(crate) fn run(args: &PluginNewArgs) -> anyhow::Result<ExitCode> {
    create(Path::new(&args.name), &args.name, &args.hooks, args.language)?;
    println!("{}: a plugin to start from. Next, as its README.md says:\n", args.name);
    println!("    cd {}", args.name);
    let build: &[&str] = match args.language {
        Language::Rust => &["cargo test", "cargo build --release --target wasm32-wasip2"],
        Language::Javascript => &["npm install", "npm run build"],
        Language::Python => &["sh build.sh"],
    };
    build.iter().for_each(|command| println!("    {command}"));
    println!("    nervewire run --config nervewire.toml");
    Ok(ExitCode::SUCCESS)
}

/// Makes the directory `dir` and writes into it a plugin called `name` that implements `hooks`.
///
/// # Errors
/// A name that is no name for a crate, no hooks, a directory that is there already, one that cannot be written.
pub(crate) fn create(dir: &Path, name: &str, hooks: &[Hook], language: Language) -> anyhow::Result<()> {
    check_name(name)?;
    if hooks.is_empty() {
        bail!("a plugin implements at least one hook");
    }
    fs::create_dir(dir).with_context(|| format!("cannot make the directory {}", dir.display()))?;
    write_plugin(dir, name, hooks, language).inspect_err(|_| {
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

fn write_plugin(dir: &Path, name: &str, hooks: &[Hook], language: Language) -> anyhow::Result<()> {
    let files = match language {
        Language::Rust => FOR_RUST,
        Language::Javascript => FOR_JAVASCRIPT,
        Language::Python => FOR_PYTHON,
    };
    for (path, template) in files.iter().chain(FOR_ALL) {
        write(dir, path, fill(template, name, hooks, language))?;
    }
    if language == Language::Rust {
        write(dir, "rust-toolchain.toml", toolchain())?;
    }
    EMBEDDED_SDK
        .iter()
        .try_for_each(|(path, contents)| match vendored(path, language) {
            Some(path) => write(dir, &path, contents),
            None => Ok(()),
        })
}

/// Where a file of the SDK or of wit/ goes: side by side as in the repository for Rust, since the SDK looks for wit/ beside
/// itself; where componentize-js and componentize-py look for a package that is depended on for the others.
fn vendored(path: &str, language: Language) -> Option<String> {
    if language == Language::Rust {
        return Some(format!("vendor/{path}"));
    }
    let file = path.strip_prefix("wit/")?;
    Some(format!("wit/deps/nervewire-plugin/{file}"))
}

/// The text of a file, for this plugin.
fn fill(template: &str, name: &str, hooks: &[Hook], language: Language) -> String {
    let (component, data_dir, limits) = match language {
        Language::Rust => (
            format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_")),
            "data_dir = \"\"                     # memory only",
            "",
        ),
        Language::Javascript | Language::Python => (
            format!("{name}.wasm"),
            "data_dir = \"data\"                 # compiled components, sessions, retained messages",
            SCRIPT_LIMITS,
        ),
    };
    cut(&template.replace("{{try}}", TRY_MD), hooks)
        .replace(&exported(&HOOKS), &exported(hooks))
        .replace("{{name}}", name)
        .replace("{{component}}", &component)
        .replace("{{data_dir}}", data_dir)
        .replace("{{limits}}\n", limits)
}

fn write(dir: &Path, path: &str, contents: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let file = dir.join(path);
    let parent = file.parent().unwrap_or(dir);
    fs::create_dir_all(parent)
        .and_then(|()| fs::write(&file, contents))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn exported(hooks: &[Hook]) -> String {
    let named = HOOKS.into_iter().filter(|hook| hooks.contains(hook));
    let names: Vec<_> = named.map(hook_name).collect();
    format!("export!(Policy: {});", names.join(", "))
}

fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Authenticate => "authenticate",
        Hook::Authorize => "authorize",
        Hook::Transform => "transform",
        Hook::Detect => "detect",
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
    [
        "authenticate {",
        "authorize {",
        "transform {",
        "detect {",
        "template {",
        "}",
    ]
    .into_iter()
    .find(|marker| *marker == comment)
}

#[cfg(test)]
mod tests;
