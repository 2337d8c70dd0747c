//! What devices are called, in both directions.

use nervewire_plugin_sdk::topic::is_valid_name;
use std::collections::{BTreeMap, HashMap};

/// The names of all devices.
#[derive(Debug)]
pub(crate) struct Devices {
    /// By vendor and own name.
    names: BTreeMap<String, BTreeMap<String, String>>,
    /// Vendor and own name by name.
    owners: HashMap<String, (String, String)>,
    default_vendor: Option<String>,
}

impl Devices {
    /// # Errors
    /// What to write instead.
    pub(crate) fn new(
        names: BTreeMap<String, BTreeMap<String, String>>,
        default_vendor: Option<String>,
        vendors: &[&str],
    ) -> Result<Self, String> {
        if let Some(unknown) = names
            .keys()
            .chain(&default_vendor)
            .find(|name| !vendors.contains(&name.as_str()))
        {
            return Err(format!(
                "config.devices and default_vendor: no preset or rule is about the vendor `{unknown}`"
            ));
        }
        let mut owners = HashMap::new();
        for (vendor, devices) in &names {
            for (device, name) in devices {
                if !is_valid_name(device) || !is_valid_name(name) {
                    return Err(format!(
                        "config.devices.{vendor}: `{device}` = `{name}` cannot be a part of a topic, write names without + and #"
                    ));
                }
                if let Some((other, twin)) = owners.insert(name.clone(), (vendor.clone(), device.clone())) {
                    return Err(format!(
                        "config.devices: `{name}` is the name of two devices, {other}'s `{twin}` and {vendor}'s `{device}`"
                    ));
                }
            }
        }
        Ok(Self {
            names,
            owners,
            default_vendor,
        })
    }

    /// What a device is called, which has its own name where nothing else was said.
    pub(crate) fn name<'a>(&'a self, vendor: &str, device: &'a str) -> &'a str {
        let names = self.names.get(vendor);
        names.and_then(|names| names.get(device)).map_or(device, String::as_str)
    }

    /// Whose device this is, and what it calls itself.
    pub(crate) fn device<'a>(&'a self, name: &'a str) -> Option<(&'a str, &'a str)> {
        match self.owners.get(name) {
            Some((vendor, device)) => Some((vendor, device)),
            None => self.default_vendor.as_deref().map(|vendor| (vendor, name)),
        }
    }
}
