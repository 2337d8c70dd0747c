//! User properties by which a plugin speaks to receivers.

use nervewire_plugin_sdk::{Message, Property};

/// Sets a user property; those of this name that the sender set go, so that nobody can pretend.
pub fn set_property(message: &mut Message, name: &str, value: &str) {
    remove_property(message, name);
    message.user_properties.push(Property::new(name, value));
}

/// Whether there was one.
pub fn remove_property(message: &mut Message, name: &str) -> bool {
    let before = message.user_properties.len();
    message.user_properties.retain(|property| property.name != name);
    message.user_properties.len() < before
}
