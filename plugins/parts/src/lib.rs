//! What several bundled plugins are made of: JSON that is opened only where it is changed, paths into it, topics made of what
//! a filter's wildcards stand for, and tables of rules with errors for the person who wrote them.

mod captured;
pub mod json;
mod number;
mod path;
mod property;
mod rules;

pub use captured::CapturedTopic;
pub use number::{Scale, round_to_digits};
pub use path::{Path, parse_names};
pub use property::{remove_property, set_property};
pub use rules::{OnInvalid, check_filter, compile_each};

#[cfg(test)]
mod tests;
