//! Why a component was not loaded, or an instance not started: in words for the person who changed the configuration.

use crate::spec::Hook;

/// The host could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine refused its settings, or the machine the address space.
    #[error("cannot set up the plugin engine: {0}")]
    Engine(String),
    /// The thread that counts epochs did not start.
    #[error("cannot start the thread that watches plugin deadlines: {0}")]
    Ticker(std::io::Error),
}

/// A component was refused; whatever ran before goes on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no component, or one that needs features which are switched off.
    #[error("not a WebAssembly component that this version can run: {0}")]
    Compile(String),
    /// Built for another version of the contract.
    #[error("`{name}`: the component is built for another version of nervewire:plugin; this broker speaks {speaks}")]
    Version {
        /// Import or export that names the other version.
        name: String,
        /// What the broker speaks.
        speaks: &'static str,
    },
    /// Something it imports or declares to want, which grants would allow.
    #[error(
        "the component {}, which it is not granted; to allow it, write `{write}`",
        needs(imports)
    )]
    NotGranted {
        /// The imports; empty: it declares what it wants.
        imports: Vec<String>,
        /// What to write, whole.
        write: String,
    },
    /// An import that nothing allows.
    #[error("the component imports `{import}`, which plugins cannot have: {why}")]
    Forbidden {
        /// The import.
        import: String,
        /// What stands against it.
        why: &'static str,
    },
    /// No export of `nervewire:plugin/lifecycle`.
    #[error("the component does not export `nervewire:plugin/lifecycle`: is it a Nervewire plugin?")]
    NoLifecycle,
    /// It exports none of the hooks.
    #[error("the component exports no hook")]
    NoHook,
    /// `hooks` names one that it does not export.
    #[error("the component does not implement the hook `{hook}`; it implements: {exported}")]
    HookMissing {
        /// The hook.
        hook: Hook,
        /// Those it exports.
        exported: String,
    },
    /// Nothing can be sent from here.
    #[error("the plugin cannot make HTTP requests: {0}")]
    Http(String),
    /// A limit out of its range.
    #[error("{0}")]
    Limits(String),
    /// An import or export has another type than in the contract.
    #[error("the component does not fit the contract nervewire:plugin: {0}")]
    Contract(String),
    /// A first instance could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// An instance could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// All slots of the instance pool are taken.
    #[error("no room for another plugin instance: {0}")]
    PoolExhausted(String),
    /// It could not be instantiated.
    #[error("the component cannot be instantiated: {0}")]
    Instantiate(String),
    /// `init` answered with an error.
    #[error("the plugin refuses its configuration: {0}")]
    Refused(String),
    /// `init` gave no answer.
    #[error("`init` failed ({outcome}): {detail}")]
    Init {
        /// As in metrics: trap, timeout, memory, invalid.
        outcome: &'static str,
        /// What happened.
        detail: String,
    },
    /// `init` asked for ticks too often.
    #[error("the component asks for a tick every {0} ms; the shortest interval is {min} ms", min = crate::MIN_TICK_MS)]
    Tick(u32),
}

fn needs(imports: &[String]) -> String {
    match imports {
        [] => "says it cannot do its work without more".to_owned(),
        some => format!("imports `{}`", some.join("`, `")),
    }
}
