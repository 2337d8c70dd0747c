//! What an authorizer decides in effect, by its rules or by its own word, without a broker.

use crate::{Action, Authorize, Client, Decision, Effect, Request, Rule, topic};

/// What a plugin decides in effect: its [`rules`](Authorize::rules) are evaluated as the broker does, and
/// [`authorize`](Authorize::authorize) is called where there are none or where they ask.
///
/// A subscription that is allowed here may still lose deliveries to a deny about a part of its topics: ask about those
/// with [`Action::Deliver`].
///
/// ```
/// use nervewire_plugin_sdk::{prelude::*, Decision, testing};
/// struct Guard;
/// impl Plugin for Guard {
///     type Config = ();
///     fn init(_: (), _: Files) -> Result<Self, String> { Ok(Guard) }
/// }
/// impl Authorize for Guard {
///     fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
///         Some(vec![
///             Rule::allow().publish().topic(format!("dev/{}/#", client.client_id)),
///             Rule::deny().publish().topic("dev/#"),
///         ])
///     }
/// }
///
/// let mut decide = |topic| {
///     testing::decide(&mut Guard, &testing::client("7"), &testing::request(Action::Publish, topic))
/// };
/// assert_eq!(decide("dev/7/state"), Decision::Allow);
/// assert_eq!(decide("dev/8/state"), Decision::Deny);
/// assert_eq!(decide("news"), Decision::Abstain);
/// ```
pub fn decide<P: Authorize>(plugin: &mut P, client: &Client, request: &Request) -> Decision {
    let Some(rules) = plugin.rules(client) else {
        return plugin.authorize(client, request).decision;
    };
    match rules.iter().find(|rule| decides(rule, request)) {
        Some(rule) if rule.effect == Effect::Allow => Decision::Allow,
        Some(rule) if rule.effect == Effect::Deny => Decision::Deny,
        // It was asked about the subscription; deliveries are only asked about by rules that name them.
        Some(rule) if request.action == Action::Deliver && !rule.actions.deliver => Decision::Abstain,
        Some(_) => plugin.authorize(client, request).decision,
        None => Decision::Abstain,
    }
}

fn decides(rule: &Rule, request: &Request) -> bool {
    let (actions, filter) = (rule.actions, &*rule.topic_filter);
    let about_the_message =
        || rule.retain.is_none_or(|retain| retain == request.retain) && topic::matches(filter, &request.topic);
    request.qos <= rule.max_qos
        && match request.action {
            Action::Publish => actions.publish && about_the_message(),
            Action::Deliver => (actions.subscribe || actions.deliver) && about_the_message(),
            Action::Subscribe if rule.effect == Effect::Ask => {
                actions.subscribe && topic::overlaps(filter, &request.topic)
            }
            Action::Subscribe => actions.subscribe && rule.retain.is_none() && topic::covers(filter, &request.topic),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Files, Plugin, Qos, Verdict, testing};

    struct Ruled(Option<Vec<Rule>>);

    impl Plugin for Ruled {
        type Config = ();

        fn init(_: (), _: Files) -> Result<Self, String> {
            Ok(Self(None))
        }
    }

    impl Authorize for Ruled {
        fn rules(&mut self, _: &Client) -> Option<Vec<Rule>> {
            self.0.clone()
        }

        fn authorize(&mut self, _: &Client, _: &Request) -> Verdict {
            Verdict::allow()
        }
    }

    fn check(rules: Option<&[Rule]>, action: Action, topic: &str, expected: Decision) {
        let mut plugin = Ruled(rules.map(<[Rule]>::to_vec));
        let decision = testing::decide(&mut plugin, &testing::client("7"), &testing::request(action, topic));
        assert_eq!(decision, expected, "{rules:?} {action:?} {topic}");
    }

    #[test]
    fn a_plugin_without_rules_is_asked() {
        check(None, Action::Publish, "a", Decision::Allow);
        check(Some(&[]), Action::Publish, "a", Decision::Abstain);
    }

    #[test]
    fn the_first_rule_that_applies_decides() {
        use Action::{Deliver, Publish, Subscribe};
        let rules = [
            Rule::deny().publish().topic("a/secret"),
            Rule::ask().subscribe().topic("a/asked/+"),
            Rule::allow().publish().subscribe().topic("a/#"),
            Rule::deny().topic("b/#").max_qos(Qos::AtMostOnce),
            Rule::deny().topic("c").retain(true),
        ];
        let check = |action, topic, expected| check(Some(&rules), action, topic, expected);
        check(Publish, "a/secret", Decision::Deny);
        check(Publish, "a/b", Decision::Allow);
        check(Subscribe, "a/+/x", Decision::Allow);
        check(Subscribe, "+/b", Decision::Abstain);
        check(Subscribe, "b/#", Decision::Deny);
        check(Deliver, "a/b", Decision::Allow);
        check(Deliver, "a/asked/1", Decision::Abstain);
        check(Subscribe, "a/asked/#", Decision::Allow);
        check(Publish, "c", Decision::Abstain);
        check(Subscribe, "c", Decision::Abstain);
    }

    #[test]
    fn qos_and_retain_narrow_a_rule() {
        let rules = vec![
            Rule::deny().publish().topic("b").max_qos(Qos::AtMostOnce),
            Rule::deny().publish().topic("c").retain(true),
        ];
        let mut plugin = Ruled(Some(rules));
        let mut check = |topic: &str, qos, retain, expected| {
            let request = Request {
                qos,
                retain,
                ..testing::request(Action::Publish, topic)
            };
            assert_eq!(
                decide(&mut plugin, &testing::client("7"), &request),
                expected,
                "{request:?}"
            );
        };
        check("b", Qos::AtMostOnce, false, Decision::Deny);
        check("b", Qos::AtLeastOnce, false, Decision::Abstain);
        check("c", Qos::AtMostOnce, true, Decision::Deny);
        check("c", Qos::AtMostOnce, false, Decision::Abstain);
    }
}
