//! The records that guests answer with, without wasmtime: `wire.rs` of the plugin host less what derives the crossing of the boundary. What
//! remains is what its `answer.rs` parses, so that this can be fuzzed where a whole runtime would take minutes to build.

use std::path::Path;

const WIRE: &str = "../../broker/plugin-host/src/wire.rs";
/// What only wasmtime knows.
const DERIVED: [&str; 3] = ["ComponentType", "Lower", "Lift"];

fn main() {
    println!("cargo::rerun-if-changed={WIRE}");
    let source = std::fs::read_to_string(WIRE).expect("wire.rs of the plugin host");
    let plain: String = source.lines().filter_map(plain).map(|line| line + "\n").collect();
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("wire.rs"), plain).expect("written");
}

/// A line as it is without wasmtime; `None`: it has nothing to say.
fn plain(line: &str) -> Option<String> {
    let code = line.trim();
    let is_wasmtimes = ["//!", "use wasmtime", "#[component("]
        .iter()
        .any(|start| code.starts_with(start));
    if is_wasmtimes {
        return None;
    }
    let Some(derived) = code.strip_prefix("#[derive(").and_then(|rest| rest.strip_suffix(")]")) else {
        return Some(line.to_owned());
    };
    let kept: Vec<_> = derived.split(", ").filter(|name| !DERIVED.contains(name)).collect();
    (!kept.is_empty()).then(|| format!("#[derive({})]", kept.join(", ")))
}
