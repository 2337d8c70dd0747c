//! Topics made of what the wildcards of a filter stand for.

use nervewire_plugin_sdk::{
    prelude::*,
    topic::{Capture, Template, captures, client_value, is_valid_name},
};

/// A topic as a template: `${1}`, `${2}`, ... for the levels that the `+` of a filter stand for, `${#}` for what its `#`
/// stands for, and the names of a client.
#[derive(Clone, Debug)]
pub struct CapturedTopic {
    filter: String,
    template: Template,
    /// What its variables stand for, in their order.
    variables: Vec<Variable>,
}

#[derive(Clone, Copy, Debug)]
enum Variable {
    /// A `+`, counted from 0; in a template from 1.
    Level(usize),
    Rest,
    OfClient,
}

impl Variable {
    fn of(name: &str) -> Self {
        match (name, name.parse()) {
            ("#", _) => Self::Rest,
            (_, Ok(number @ 1_usize..)) => Self::Level(number - 1),
            _ => Self::OfClient,
        }
    }
}

impl CapturedTopic {
    /// `key` is what the template is called in the configuration.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(key: &str, text: &str, filter: &str) -> Result<Self, String> {
        let template = Template::parse(text)?;
        let wildcards = filter.split('/').filter(|level| *level == "+").count();
        let known = |name: &str| match Variable::of(name) {
            Variable::Rest => filter.ends_with('#') && text.ends_with("${#}") && text.matches("${#}").count() == 1,
            Variable::Level(number) => number < wildcards,
            Variable::OfClient => Template::is_client_variable(name),
        };
        if let Some(name) = template.variables().find(|name| !known(name)) {
            return Err(format!(
                "`${{{name}}}` in {key} = `{text}` stands for nothing: match = `{filter}` has {wildcards} times `+`, `${{#}}` \
                 must end the topic and needs `#` in match, and a sender has ${{client_id}}, ${{username}} and ${{attr.NAME}}"
            ));
        }
        let sample = template.render(|_| Some("name")).unwrap_or_default();
        if !is_valid_name(&sample) {
            return Err(format!("{key} = `{text}` is no topic name"));
        }
        Ok(Self {
            variables: template.variables().map(Variable::of).collect(),
            template,
            filter: filter.to_owned(),
        })
    }

    /// For a message of this sender on a topic that matches the filter. `None`: it would be no topic name.
    pub fn render(&self, client: &Client, topic: &str) -> Option<String> {
        let (mut levels, mut rest) = (Vec::new(), None);
        captures(&self.filter, topic, |capture| match capture {
            Capture::Level(level) => levels.push(level),
            Capture::Rest(levels) => rest = levels,
        });
        let mut variables = self.variables.iter();
        let rendered = self.template.render(|name| match variables.next()? {
            Variable::Rest => Some(rest.unwrap_or_default()),
            Variable::Level(number) => levels.get(*number).copied(),
            Variable::OfClient => client_value(client, name),
        });
        let mut rendered = rendered?.into_owned();
        if rest.is_none() && matches!(self.variables.last(), Some(Variable::Rest)) {
            rendered.truncate(rendered.strip_suffix('/').map_or(rendered.len(), str::len));
        }
        is_valid_name(&rendered).then_some(rendered)
    }
}
