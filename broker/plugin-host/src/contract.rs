//! What a component imports and exports, by name: which hooks it has, which grants it needs, what is refused.

use crate::error::LoadError;
use crate::spec::{Grant, Hook};
use crate::wanted::Wanted;
use nervewire_codec::topic;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex};

/// The version of the package `nervewire:plugin` that the broker speaks; components built for any 0.1 fit.
pub const WIT_VERSION: &str = "0.1.1";
const COMPATIBLE: &str = "0.1.";
const PACKAGE: &str = "nervewire:plugin";

/// An import or export name, taken apart: `package/interface@version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InterfaceName<'a> {
    package: &'a str,
    interface: &'a str,
    version: Option<&'a str>,
}

impl<'a> InterfaceName<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let (package, rest) = name.split_once('/')?;
        let (interface, version) = match rest.split_once('@') {
            Some((interface, version)) => (interface, Some(version)),
            None => (rest, None),
        };
        Some(Self {
            package,
            interface,
            version,
        })
    }

    fn is_ours(&self) -> bool {
        self.package == PACKAGE
    }

    fn check_version(&self, name: &str) -> Result<(), LoadError> {
        if self.version.is_some_and(|version| version.starts_with(COMPATIBLE)) {
            return Ok(());
        }
        Err(LoadError::Version {
            name: name.to_owned(),
            speaks: WIT_VERSION,
        })
    }
}

/// What an import is provided by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Import<'a> {
    /// `nervewire:plugin/types`: nothing but types.
    Types,
    /// A function interface of `nervewire:plugin`.
    Host(&'a str),
    /// A WASI interface, as `package/interface`.
    Wasi(&'a str),
    /// `wasi:http`, likewise: there for everybody, with nobody to reach where no origin is granted.
    Http(&'a str),
}

/// Which import this is, and the grant it needs.
pub(crate) fn import(name: &str) -> Result<(Import<'_>, Option<Grant>), LoadError> {
    let forbidden = |why| LoadError::Forbidden {
        import: name.to_owned(),
        why,
    };
    let parsed = InterfaceName::parse(name).ok_or_else(|| forbidden("there is no such interface"))?;
    if parsed.is_ours() {
        parsed.check_version(name)?;
        return host_import(parsed.interface).ok_or_else(|| forbidden("there is no such interface"));
    }
    let wasi = name
        .strip_prefix("wasi:")
        .map(|rest| rest.split('@').next().unwrap_or(rest));
    match (wasi, parsed.version) {
        (Some(path @ ("http/types" | "http/outgoing-handler")), Some(version)) if version.starts_with("0.2.") => {
            Ok((Import::Http(path), None))
        }
        (Some(path), Some(version)) if version.starts_with("0.2.") => wasi_import(path)
            .map(|grant| (Import::Wasi(path), grant))
            .map_err(forbidden),
        (Some(_), _) => Err(forbidden("only WASI 0.2 is provided")),
        (None, _) => Err(forbidden("there is no such interface")),
    }
}

fn host_import(interface: &str) -> Option<(Import<'_>, Option<Grant>)> {
    match interface {
        "types" => Some((Import::Types, None)),
        "log" | "clock" | "counters" => Some((Import::Host(interface), None)),
        "kv" => Some((Import::Host(interface), Some(Grant::Kv))),
        "random" => Some((Import::Host(interface), Some(Grant::Random))),
        _ => None,
    }
}

fn wasi_import(path: &str) -> Result<Option<Grant>, &'static str> {
    let (package, interface) = path.split_once('/').unwrap_or((path, ""));
    match (package, interface) {
        ("cli" | "io" | "clocks" | "filesystem", _) | ("random", "insecure" | "insecure-seed") => Ok(None),
        ("random", "random") => Ok(Some(Grant::Random)),
        ("sockets", _) => Err("plugins have no network but HTTP"),
        _ => Err("there is no such interface"),
    }
}

/// The names of a component's imports.
pub(crate) fn import_names(component: &Component, engine: &Engine) -> Vec<String> {
    component
        .component_type()
        .imports(engine)
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The grants that these imports need and that `wanted` names.
pub(crate) fn needed_grants(imports: &[String], wanted: &Wanted) -> Vec<Grant> {
    let by_import = imports.iter().filter_map(|name| import(name).ok()?.1);
    let mut needed = Vec::new();
    for grant in by_import.chain(wanted.grants.iter().cloned()) {
        if !needed.contains(&grant) {
            needed.push(grant);
        }
    }
    needed
}

/// Refuses the first import that nothing allows, and then whatever needs grants that are not there, all of them at once.
pub(crate) fn check_grants(
    component: &Component,
    engine: &Engine,
    wanted: &Wanted,
    granted: &[Grant],
) -> Result<(), LoadError> {
    let imports = import_names(component, engine);
    for name in &imports {
        import(name)?;
    }
    let needed = needed_grants(&imports, wanted);
    let missing: Vec<&Grant> = needed.iter().filter(|grant| !is_granted(grant, granted)).collect();
    let origin_missing = needs_http(&imports)
        && !wanted.http_is_optional
        && !granted.iter().any(|grant| matches!(grant, Grant::Http(_)));
    if missing.is_empty() && !origin_missing {
        return Ok(());
    }
    let needs_a_missing_one = |name: &&String| match import(name) {
        Ok((Import::Http(_), _)) => origin_missing,
        Ok((_, Some(grant))) => missing.contains(&&grant),
        _ => false,
    };
    Err(LoadError::NotGranted {
        imports: imports.iter().filter(needs_a_missing_one).cloned().collect(),
        write: grants_line(granted.iter().chain(missing.iter().copied()), origin_missing),
    })
}

/// Whether a component with these imports makes HTTP requests.
pub(crate) fn needs_http(imports: &[String]) -> bool {
    imports
        .iter()
        .any(|name| matches!(import(name), Ok((Import::Http("http/outgoing-handler"), _))))
}

fn is_granted(wanted: &Grant, granted: &[Grant]) -> bool {
    let always_there = matches!(wanted, Grant::Log | Grant::Config);
    let includes = |grant: &Grant| match (grant, wanted) {
        (Grant::Publish(filter), Grant::Publish(wanted)) => topic::covers(filter, wanted),
        _ => grant == wanted,
    };
    always_there || granted.iter().any(includes)
}

/// As it stands in a configuration. `origin`: one more, which only the reader knows.
fn grants_line<'a>(grants: impl Iterator<Item = &'a Grant>, origin: bool) -> String {
    let quoted = grants.map(|grant| format!("\"{grant}\""));
    let list: Vec<String> = quoted
        .chain(origin.then(|| "\"http://HOST:PORT\"".to_owned()))
        .collect();
    let comment = if origin { "  # the origin it may reach" } else { "" };
    format!("grants = [{}]{comment}", list.join(", "))
}

/// Where the functions of a component are.
pub(crate) struct Exports {
    pub(crate) hooks: Vec<Hook>,
    pub(crate) version: Option<String>,
    pub(crate) init: Option<ComponentExportIndex>,
    pub(crate) authenticate: Option<ComponentExportIndex>,
    pub(crate) rules: Option<ComponentExportIndex>,
    pub(crate) authorize: Option<ComponentExportIndex>,
    pub(crate) authorize_all: Option<ComponentExportIndex>,
    pub(crate) transform: Option<ComponentExportIndex>,
    pub(crate) transform_all: Option<ComponentExportIndex>,
    pub(crate) tick: Option<ComponentExportIndex>,
    pub(crate) detect: Option<ComponentExportIndex>,
}

impl Exports {
    /// Finds what a component exports. An interface of ours in another version is refused, other exports are nobody's business.
    pub(crate) fn of(component: &Component, engine: &Engine) -> Result<Self, LoadError> {
        let mut ours = Vec::new();
        let names: Vec<String> = component
            .component_type()
            .exports(engine)
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in &names {
            if let Some(parsed) = InterfaceName::parse(name).filter(InterfaceName::is_ours) {
                parsed.check_version(name)?;
                ours.push((parsed, name.as_str()));
            }
        }
        let find = |interface: &str| {
            ours.iter()
                .find(|(parsed, _)| parsed.interface == interface)
                .map(|(_, name)| *name)
        };
        let function = |interface: &str, function: &str| {
            let instance = component.get_export_index(None, find(interface)?)?;
            component.get_export_index(Some(&instance), function)
        };
        Ok(Self {
            hooks: Hook::ALL
                .into_iter()
                .filter(|hook| find(hook.interface()).is_some())
                .collect(),
            version: ours.first().and_then(|(parsed, _)| parsed.version).map(str::to_owned),
            init: function("lifecycle", "init"),
            authenticate: function("authentication", "authenticate"),
            rules: function("authorization", "rules"),
            authorize: function("authorization", "authorize"),
            authorize_all: function("authorization-batch", "authorize-all"),
            transform: function("transformation", "transform"),
            transform_all: function("transformation-batch", "transform-all"),
            tick: function("lifecycle", "tick"),
            detect: function("detection", "detect"),
        })
    }

    /// The hooks to use: those asked for, else all that are exported.
    pub(crate) fn select(&self, wanted: Option<&[Hook]>) -> Result<Vec<Hook>, LoadError> {
        if self.hooks.is_empty() {
            return Err(LoadError::NoHook);
        }
        let selected = wanted.unwrap_or(&self.hooks);
        if let Some(&hook) = selected.iter().find(|hook| !self.hooks.contains(hook)) {
            let exported = self.hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>().join(", ");
            return Err(LoadError::HookMissing { hook, exported });
        }
        match selected {
            [] => Err(LoadError::NoHook),
            some => Ok(some.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wider_publish_grant_includes_what_is_wanted() {
        let wanted = Grant::Publish("alerts/#".to_owned());
        let check = |granted: &[&str], expected| {
            let granted: Vec<Grant> = granted.iter().map(|grant| grant.parse().unwrap()).collect();
            assert_eq!(is_granted(&wanted, &granted), expected, "{granted:?}");
        };
        check(&[], false);
        check(&["kv", "publish:other"], false);
        check(&["publish:alerts/#"], true);
        check(&["publish:alerts/fire"], false);
        check(&["publish:#"], true);
        assert!(is_granted(&Grant::Log, &[]));
    }

    fn check(name: &str, expected: Result<(Import<'_>, Option<Grant>), &str>) {
        match (import(name), expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{name}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
            (got, expected) => panic!("{name}: {got:?} is not {expected:?}"),
        }
    }

    #[test]
    fn imports_are_known_by_name_and_version() {
        check("nervewire:plugin/types@0.1.0", Ok((Import::Types, None)));
        check("nervewire:plugin/log@0.1.7", Ok((Import::Host("log"), None)));
        check("nervewire:plugin/kv@0.1.0", Ok((Import::Host("kv"), Some(Grant::Kv))));
        check(
            "nervewire:plugin/random@0.1.0",
            Ok((Import::Host("random"), Some(Grant::Random))),
        );
        check("nervewire:plugin/log@0.2.0", Err("another version"));
        check("nervewire:plugin/log@0.10.0", Err("another version"));
        check("nervewire:plugin/log", Err("another version"));
        check("nervewire:plugin/shell@0.1.0", Err("no such interface"));
    }

    #[test]
    fn wasi_is_inert_and_the_rest_is_refused() {
        check("wasi:cli/stderr@0.2.6", Ok((Import::Wasi("cli/stderr"), None)));
        check("wasi:io/streams@0.2.0", Ok((Import::Wasi("io/streams"), None)));
        check(
            "wasi:filesystem/preopens@0.2.6",
            Ok((Import::Wasi("filesystem/preopens"), None)),
        );
        check(
            "wasi:random/insecure-seed@0.2.6",
            Ok((Import::Wasi("random/insecure-seed"), None)),
        );
        check(
            "wasi:random/random@0.2.6",
            Ok((Import::Wasi("random/random"), Some(Grant::Random))),
        );
        check("wasi:sockets/tcp@0.2.6", Err("no network"));
        check("wasi:http/incoming-handler@0.2.6", Err("no such interface"));
        check("wasi:http/types@0.2.12", Ok((Import::Http("http/types"), None)));
        check(
            "wasi:http/outgoing-handler@0.2.0",
            Ok((Import::Http("http/outgoing-handler"), None)),
        );
        check("wasi:http/types@0.3.0", Err("only WASI 0.2"));
        check("wasi:cli/stderr@0.3.0", Err("only WASI 0.2"));
        check("wasi:keyvalue/store@0.2.0", Err("no such interface"));
        check("other:package/thing@0.2.0", Err("no such interface"));
        check("plain", Err("no such interface"));
    }
}
