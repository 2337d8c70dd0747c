//! What the build script put into the binary: the bundled plugins, and the SDK for `plugin new`.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// The component of `builtin:NAME`.
pub(crate) fn component(name: &str) -> Option<&'static [u8]> {
    BUILTINS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, component)| *component)
}

/// The names that `builtin:` knows.
pub(crate) fn names() -> Vec<&'static str> {
    BUILTINS.iter().map(|(name, _)| *name).collect()
}
