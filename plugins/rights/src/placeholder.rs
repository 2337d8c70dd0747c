//! Names in the topics of an access list: `${clientid}` and others, as EMQX spells them and as this broker does.

use nervewire_plugin_sdk::Client;
use nervewire_plugin_sdk::topic::{Template, substitutable};
use std::borrow::Cow;

/// Topics that one template may become where a name stands for several values.
const MAX_EXPANSIONS: usize = 256;

/// Whether a name means something in a topic.
pub fn is_placeholder(name: &str) -> bool {
    matches!(name, "clientid" | "client_id" | "username" | "cert_common_name") || attribute_name(name).is_some()
}

fn attribute_name(name: &str) -> Option<&str> {
    let attribute = name
        .strip_prefix("client_attrs.")
        .or_else(|| name.strip_prefix("attr."))
        .or_else(|| name.starts_with("claim.").then_some(name))?;
    (!attribute.is_empty() && attribute != "claim.").then_some(attribute)
}

/// The topics a template means for this client: none where a name in it has no value that is safe in a topic, several where
/// an attribute has several values.
pub(crate) fn expand<'a>(template: &'a Template, client: &'a Client) -> Vec<Cow<'a, str>> {
    let mut names: Vec<&str> = template.variables().collect();
    names.sort_unstable();
    names.dedup();
    let mut choices = vec![Vec::new()];
    for name in &names {
        let values = values(client, name);
        choices = choices
            .iter()
            .flat_map(|chosen: &Vec<&str>| values.iter().map(move |value| [chosen.as_slice(), &[*value]].concat()))
            .take(MAX_EXPANSIONS)
            .collect();
    }
    let render = |chosen: &Vec<&'a str>| template.render(|name| chosen.get(names.binary_search(&name).ok()?).copied());
    choices.iter().filter_map(render).collect()
}

fn values<'a>(client: &'a Client, name: &str) -> Vec<&'a str> {
    let values: Vec<&str> = match name {
        "clientid" | "client_id" => vec![client.client_id.as_str()],
        "username" => client.username.as_deref().into_iter().collect(),
        "cert_common_name" => client
            .certificate
            .as_ref()
            .and_then(|certificate| certificate.common_name.as_deref())
            .into_iter()
            .collect(),
        _ => match attribute_name(name) {
            None => Vec::new(),
            Some(wanted) => client
                .attributes
                .iter()
                .filter(|attribute| attribute.name == wanted)
                .map(|attribute| attribute.value.as_str())
                .collect(),
        },
    };
    values.into_iter().filter(|value| substitutable(value)).collect()
}
