//! What a backend says in a 200, as EMQX reads it.

use crate::{PREFIX, SUPERUSER};
use nervewire_plugin_sdk::{Decision, Identity, topic};
use nervewire_rights::Granted;
use serde_json::{Map, Value};

/// Attributes of a client, less those of this plugin: with them the broker takes 64.
const MAX_ATTRIBUTES: usize = 60;
/// Bytes of them; the access list has 12 KiB, all together 16 KiB.
const MAX_ATTRIBUTES_BYTES: usize = 3 * 1024;

/// The answer to an authentication.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) decision: Decision,
    is_superuser: bool,
    attributes: Vec<(String, String)>,
    granted: Granted,
}

impl Default for Said {
    /// 204: let in, and nothing more.
    fn default() -> Self {
        Self {
            decision: Decision::Allow,
            is_superuser: false,
            attributes: Vec::new(),
            granted: Granted::default(),
        }
    }
}

impl Said {
    /// `result`: what is missing or none of the words is `ignore`.
    pub(crate) fn decision(members: &Map<String, Value>) -> Decision {
        match members.get("result").and_then(Value::as_str) {
            Some("allow") => Decision::Allow,
            Some("deny") => Decision::Deny,
            _ => Decision::Abstain,
        }
    }

    /// # Errors
    /// Something that goes with an allow and is not understood.
    pub(crate) fn read(members: Map<String, Value>) -> Result<Self, String> {
        let decision = Self::decision(&members);
        if decision != Decision::Allow {
            return Ok(Self {
                decision,
                ..Self::default()
            });
        }
        if members.contains_key("clientid_override") {
            return Err("clientid_override is not supported".to_owned());
        }
        Ok(Self {
            decision,
            is_superuser: is_true(members.get("is_superuser")),
            attributes: attributes(members.get("client_attrs"))?,
            granted: Granted {
                expires_at_s: expire_at(members.get("expire_at"))?,
                list: members
                    .get("acl")
                    .filter(|list| !list.is_null())
                    .map(ToString::to_string),
            },
        })
    }

    /// # Errors
    /// What is not acceptable in it.
    pub(crate) fn identity(self, tenant_attribute: Option<&str>, now_s: u64) -> Result<Identity, String> {
        if self.granted.expires_at_s.is_some_and(|end_s| end_s <= now_s) {
            return Err("expire_at is over".to_owned());
        }
        let mut identity = Identity::default();
        if let Some(name) = tenant_attribute {
            let tenant = self.attributes.iter().find(|(known, _)| known == name);
            let tenant = tenant.map(|(_, tenant)| tenant).filter(|tenant| is_tenant(tenant));
            identity.tenant = Some(
                tenant
                    .ok_or_else(|| format!("client_attrs.{name} is no tenant"))?
                    .clone(),
            );
        }
        for (name, value) in self.attributes {
            identity = identity.attribute(name, value);
        }
        if self.is_superuser {
            identity = identity.attribute(SUPERUSER, "true");
        }
        self.granted.attach(PREFIX, identity)
    }
}

fn is_true(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text == "true" || text == "1",
        Some(Value::Number(number)) => number.as_u64() == Some(1),
        _ => false,
    }
}

/// Whole seconds of Unix time. Milliseconds would be a year far from now, and a token that never ends.
fn expire_at(value: Option<&Value>) -> Result<Option<u64>, String> {
    const YEAR_2500_S: u64 = 16_725_225_600;
    let value = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    match value.as_u64() {
        Some(seconds) if seconds < YEAR_2500_S => Ok(Some(seconds)),
        _ => Err(format!("expire_at {value} is not in seconds of Unix time")),
    }
}

/// Names and values that are texts; others are left out, as EMQX does, and so are those of this plugin.
fn attributes(value: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    let Some(Value::Object(members)) = value else {
        return Ok(Vec::new());
    };
    let own = format!("{PREFIX}.");
    let attributes: Vec<_> = members
        .iter()
        .filter(|(name, _)| !name.is_empty() && !name.starts_with(&own) && !name.contains(char::is_control))
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .filter(|(_, value)| !value.contains('\0'))
        .collect();
    let bytes: usize = attributes.iter().map(|(name, value)| name.len() + value.len()).sum();
    if attributes.len() > MAX_ATTRIBUTES || bytes > MAX_ATTRIBUTES_BYTES {
        return Err(format!(
            "client_attrs: {} of {bytes} bytes, at most {MAX_ATTRIBUTES} of {MAX_ATTRIBUTES_BYTES} are taken",
            attributes.len()
        ));
    }
    Ok(attributes)
}

/// A tenant is one level of a topic and no wildcard.
fn is_tenant(name: &str) -> bool {
    topic::substitutable(name) && name.len() <= 256 && !name.starts_with('$')
}
