//! Lines in the broker's log, marked with the plugin's name.
//!
//! ```
//! use nervewire_plugin_sdk::log;
//! log::warn!("{} doors are open", 3);
//! ```

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Somebody should look.
    Warn,
    /// Worth knowing.
    Info,
    /// For the plugin's author.
    Debug,
    /// For the plugin's author, in detail.
    Trace,
}

/// Writes a line; the macros of this module read better.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::host::log::log(level.into(), message);
    #[cfg(not(target_arch = "wasm32"))]
    crate::native::with(|host| host.log(level, message));
}

/// Writes a line of level error, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($argument:tt)+) => { $crate::log::log($crate::log::Level::Error, &::std::format!($($argument)+)) };
}

/// Writes a line of level warn, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($argument:tt)+) => { $crate::log::log($crate::log::Level::Warn, &::std::format!($($argument)+)) };
}

/// Writes a line of level info, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($argument:tt)+) => { $crate::log::log($crate::log::Level::Info, &::std::format!($($argument)+)) };
}

/// Writes a line of level debug, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($argument:tt)+) => { $crate::log::log($crate::log::Level::Debug, &::std::format!($($argument)+)) };
}

/// Writes a line of level trace, formatted as by `format!`.
#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($argument:tt)+) => { $crate::log::log($crate::log::Level::Trace, &::std::format!($($argument)+)) };
}
