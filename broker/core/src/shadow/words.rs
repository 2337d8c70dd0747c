//! Rulings in words: who decided, and by which rule.

use super::Words;
use crate::fold::DefaultDecision;
use crate::hook::{Action, Decision, OnFailure};
use crate::policy::{Authorizer, AuthorizerRules, ClientRules, Member, Policy, RequestRef, Ruling, Shadow, Supposed};

/// What the enforced chain has ruled, and what it would have with a plugin in shadow mode.
pub(super) fn of_ruling(
    policy: &Policy,
    shadow: &Shadow,
    rules: &AuthorizerRules,
    enforced: &ClientRules,
    request: &RequestRef<'_>,
    supposed: Ruling,
    answered: impl Fn(Member) -> Option<Decision>,
) -> Words {
    let say = |ruling: Ruling| {
        let verb = if ruling.allowed { "allowed" } else { "denied" };
        let member = match ruling.by {
            Some(Member::Shadow) => shadow.authorizes.as_ref().map(|(a, _)| (&*shadow.name, a, Some(rules))),
            Some(Member::Enforced(at)) => {
                let authorizer = policy.authorizers.get(at);
                authorizer.map(|authorizer| (&*authorizer.name, authorizer, enforced.of(at)))
            }
            None => None,
        };
        match member {
            Some((name, authorizer, rules)) => format!("{verb} by {name}, {}", why(authorizer, rules, request)),
            None => format!("{verb}, {}", default(policy.default, request.action)),
        }
    };
    let ruling = enforced.suppose(policy, None, request, answered);
    Words {
        enforced: match ruling {
            Supposed::Ruled(ruling) => say(ruling),
            Supposed::Ask(_) if supposed.allowed => "denied".to_owned(),
            Supposed::Ask(_) => "allowed".to_owned(),
        },
        shadow: say(supposed),
    }
}

/// Why an authorizer decides as it does.
pub(crate) fn why(authorizer: &Authorizer, rules: Option<&AuthorizerRules>, request: &RequestRef<'_>) -> String {
    let on_failure = match authorizer.on_failure {
        OnFailure::Deny => "deny",
        OnFailure::Skip => "skip",
    };
    match rules {
        Some(AuthorizerRules::Rules(rules)) => match rules.deciding(request) {
            Some(rule) => match rules.describe(rule) {
                Some(text) if text.starts_with("ask ") => format!("asked by rule {}: {text}", rule + 1),
                Some(text) => format!("rule {}: {text}", rule + 1),
                None => "a rule".to_owned(),
            },
            None => "no rule applies".to_owned(),
        },
        Some(AuthorizerRules::Ask) => "asked".to_owned(),
        Some(AuthorizerRules::Failed) | None => format!("it failed to give its rules, on_failure = \"{on_failure}\""),
    }
}

/// Why it is as it is where no authorizer decides.
pub(crate) fn default(default: DefaultDecision, action: Action) -> String {
    match (action, default) {
        (Action::Deliver, _) => "nobody denies the delivery".to_owned(),
        (_, DefaultDecision::Allow) => "nobody decides: [auth] default = \"allow\"".to_owned(),
        (_, DefaultDecision::Deny) => "nobody decides: [auth] default = \"deny\"".to_owned(),
    }
}
