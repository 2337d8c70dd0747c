use super::RuleDecision::{Abstain, Allow, Ask, Deny};
use super::*;
use nervewire_codec::topic;
use proptest::prelude::*;

fn qos(level: u8) -> QoS {
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(level)]
}

/// `effect actions filter [qN] [r|n]`: actions of p(ublish), s(ubscribe), d(eliver); at most QoS N; retained or not retained only.
fn rule(line: &str) -> Rule {
    let mut words = line.split(' ');
    let effect = match words.next() {
        Some("allow") => Effect::Allow,
        Some("deny") => Effect::Deny,
        _ => Effect::Ask,
    };
    let about = words.next().unwrap();
    let actions = Actions {
        publish: about.contains('p'),
        subscribe: about.contains('s'),
        deliver: about.contains('d'),
    };
    let topic_filter = words.next().unwrap().to_owned();
    let mut rule = Rule {
        effect,
        actions,
        topic_filter,
        max_qos: QoS::ExactlyOnce,
        retain: None,
    };
    for word in words {
        match word {
            "r" => rule.retain = Some(true),
            "n" => rule.retain = Some(false),
            _ => rule.max_qos = qos(word[1..].parse().unwrap()),
        }
    }
    rule
}

fn compile(lines: &[&str]) -> CompiledRules {
    CompiledRules::compile(&lines.iter().map(|line| rule(line)).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_first_rule_that_applies_decides_a_publish() {
    let check = |lines: &[&str], topic: &str, level: u8, retain: bool, expected| {
        assert_eq!(
            compile(lines).publish(topic, qos(level), retain),
            expected,
            "{topic} by {lines:?}"
        );
    };
    check(&[], "a", 0, false, Abstain);
    check(&["allow p #"], "a/b", 2, true, Allow);
    check(&["allow p #"], "$SYS/a", 0, false, Abstain);
    check(&["allow p $SYS/#"], "$SYS/a", 0, false, Allow);
    check(&["allow s #", "allow d #"], "a", 0, false, Abstain);
    check(&["allow ps #"], "a", 0, false, Allow);
    check(&["deny p cmd/#", "allow p #"], "cmd/x", 0, false, Deny);
    check(&["deny p cmd/#", "allow p #"], "cmd", 0, false, Deny);
    check(&["deny p cmd/#", "allow p #"], "cmdx", 0, false, Allow);
    check(&["deny p cmd/#", "allow p #"], "cm", 0, false, Allow);
    check(&["allow p #", "deny p cmd/#"], "cmd/x", 0, false, Allow);
    check(&["allow p /#"], "/x", 0, false, Allow);
    check(&["allow p /#"], "x", 0, false, Abstain);
    check(&["allow p a/b"], "a/b", 0, false, Allow);
    check(&["allow p a/b"], "a/b/c", 0, false, Abstain);
    check(&["allow p a/+/c"], "a/b/c", 0, false, Allow);
    check(&["allow p +/b/#"], "a/b", 0, false, Allow);
    check(&["allow p +"], "$a", 0, false, Abstain);
    check(&["ask p a", "allow p #"], "a", 0, false, Ask);
    check(&["allow p # q1", "ask p #"], "a", 1, false, Allow);
    check(&["allow p # q1", "ask p #"], "a", 2, false, Ask);
    check(&["deny p # r", "allow p #"], "a", 0, true, Deny);
    check(&["deny p # r", "allow p #"], "a", 0, false, Allow);
    check(&["deny p # n", "allow p #"], "a", 0, false, Deny);
}

#[test]
fn the_first_rule_that_covers_the_filter_decides_a_subscribe() {
    let check = |lines: &[&str], filter: &str, level: u8, decision, check_deliveries| {
        let expected = SubscribeDecision {
            decision,
            check_deliveries,
        };
        assert_eq!(
            compile(lines).subscribe(filter, qos(level)),
            expected,
            "{filter} by {lines:?}"
        );
    };
    check(&[], "#", 0, Abstain, false);
    check(&["allow s #"], "a/+", 0, Allow, false);
    check(&["allow p #"], "a/+", 0, Abstain, false);
    check(&["allow s #"], "$SYS/#", 0, Abstain, false);
    check(&["allow s +/#"], "$SYS/#", 0, Abstain, false);
    check(&["allow s a/#"], "a", 0, Allow, false);
    check(&["allow s a/+"], "a/#", 0, Abstain, false);
    // An allow that only overlaps is skipped, whatever comes later decides.
    check(&["allow s a/b", "deny s a/#"], "a/+", 0, Deny, false);
    check(&["allow s a/b", "allow s #"], "a/+", 0, Allow, false);
    // A deny that only overlaps marks.
    check(&["deny s a/secret", "allow s #"], "a/+", 0, Allow, true);
    check(&["deny s a/secret", "allow s #"], "#", 0, Allow, true);
    check(&["deny s a/secret", "allow s #"], "b/#", 0, Allow, false);
    check(&["deny s a/secret", "allow s #"], "a/secret", 0, Deny, false);
    check(&["allow s #", "deny s a/secret"], "a/+", 0, Allow, false);
    check(&["deny s +/secret"], "a/+", 0, Abstain, true);
    check(&["deny s $SYS/#", "allow s #"], "#", 0, Allow, false);
    check(&["deny p a/secret", "allow s #"], "a/+", 0, Allow, false);
    // A deny about deliveries alone does not refuse.
    check(&["deny d a/#", "allow s #"], "a/b", 0, Allow, true);
    check(&["allow d a/#", "deny s #"], "a/b", 0, Deny, false);
    // An ask that overlaps has the filter asked for.
    check(&["ask s a/b", "allow s #"], "a/+", 0, Ask, false);
    check(&["ask s a/b", "allow s #"], "b", 0, Allow, false);
    check(&["deny s a/b", "ask s #"], "a/+", 0, Ask, true);
    check(&["ask d a/b", "allow s #"], "a/+", 0, Allow, true);
    check(&["ask sd a/b", "allow s #"], "a/+", 0, Ask, false);
    // QoS and RETAIN.
    check(&["allow s # q1"], "a", 1, Allow, false);
    check(&["allow s # q1"], "a", 2, Abstain, false);
    check(&["deny s # q0", "allow s #"], "a", 0, Deny, false);
    check(&["deny s # q0", "allow s #"], "a", 1, Allow, true);
    check(&["deny s # r", "allow s #"], "a", 1, Allow, true);
    check(&["allow s # r"], "a", 1, Abstain, false);
    check(&["ask s # q0"], "a", 1, Abstain, false);
}

#[test]
fn only_a_deny_about_subscribe_or_deliver_stops_a_delivery() {
    let check = |lines: &[&str], topic: &str, level: u8, retain: bool, expected| {
        assert_eq!(
            compile(lines).deliver(topic, qos(level), retain),
            expected,
            "{topic} by {lines:?}"
        );
    };
    check(&[], "a", 0, false, Abstain);
    check(&["deny p #"], "a", 0, false, Abstain);
    check(&["deny s #"], "a", 0, false, Deny);
    check(&["deny d #"], "a", 0, false, Deny);
    check(&["deny d #"], "$a", 0, false, Abstain);
    check(&["allow s a", "deny d #"], "a", 0, false, Allow);
    check(&["allow d a", "deny s #"], "b", 0, false, Deny);
    check(&["ask s a", "deny d #"], "a", 0, false, Abstain);
    check(&["ask d a", "deny d #"], "a", 0, false, Ask);
    check(&["ask sd a"], "a", 0, false, Ask);
    check(&["deny s a q0"], "a", 0, false, Deny);
    check(&["deny s a q0"], "a", 1, false, Abstain);
    check(&["deny d a r"], "a", 0, true, Deny);
    check(&["deny d a r"], "a", 0, false, Abstain);
}

#[test]
fn deliveries_need_no_check_where_nothing_can_stop_them() {
    let check = |line, expected| {
        assert_eq!(
            compile(&["allow psd #", line]).may_deny_deliveries(),
            expected,
            "{line}"
        )
    };
    check("allow psd a", false);
    check("deny p a", false);
    check("deny s a", true);
    check("deny d a", true);
    check("ask ps a", false);
    check("ask d a", true);
}

#[test]
fn what_a_guest_returned_is_checked() {
    let compile = |rules: &[Rule]| CompiledRules::compile(rules).map(|rules| rules.len());
    for invalid in ["", "a/#/b", "a+", "#b", "a\0"] {
        let rules = [
            rule("allow p a"),
            Rule {
                topic_filter: invalid.into(),
                ..rule("deny p a")
            },
        ];
        assert!(
            matches!(compile(&rules), Err(RuleError::InvalidFilter { index: 1, .. })),
            "{invalid:?}"
        );
    }
    let many = vec![rule("allow p a"); MAX_RULES_PER_CLIENT + 1];
    assert_eq!(compile(&many), Err(RuleError::TooMany(MAX_RULES_PER_CLIENT + 1)));
    assert_eq!(compile(&many[1..]), Ok(MAX_RULES_PER_CLIENT));
    let long = Rule {
        topic_filter: "a".repeat(MAX_RULE_BYTES_PER_CLIENT / 2),
        ..rule("allow p a")
    };
    assert_eq!(compile(&[long.clone(), long.clone()]), Ok(2));
    assert_eq!(
        compile(&[long.clone(), long, rule("allow p a")]),
        Err(RuleError::TooLarge(MAX_RULE_BYTES_PER_CLIENT + 1))
    );
}

/// Neither topic names nor filters are empty.
fn not_empty(topic: String) -> String {
    if topic.is_empty() { "a".to_owned() } else { topic }
}

fn filters() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "", "$s", "+", "level-80", "level-801"]);
    (prop::collection::vec(level, 0..4), any::<bool>()).prop_map(|(mut levels, open)| {
        levels.extend(open.then_some("#"));
        not_empty(levels.join("/"))
    })
}

fn topics() -> impl Strategy<Value = String> {
    let level = prop::sample::select(vec!["a", "b", "", "$s", "level-80", "level-801"]);
    prop::collection::vec(level, 1..5).prop_map(|levels| not_empty(levels.join("/")))
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let effect = prop::sample::select(vec![Effect::Allow, Effect::Allow, Effect::Deny, Effect::Ask]);
    let actions = (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(publish, subscribe, deliver)| Actions {
        publish,
        subscribe,
        deliver,
    });
    let retain = prop::sample::select(vec![None, None, Some(true), Some(false)]);
    let rule =
        (effect, actions, filters(), 0..3u8, retain).prop_map(|(effect, actions, topic_filter, level, retain)| Rule {
            effect,
            actions,
            topic_filter,
            max_qos: qos(level),
            retain,
        });
    prop::collection::vec(rule, 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_subscription_that_is_not_marked_has_no_delivery_stopped(
        mut rules in rules(),
        filter in filters(),
        topics in prop::collection::vec(topics(), 1..20),
        requested in 0..3u8,
    ) {
        rules.push(rule(&format!("allow s {filter}")));
        let compiled = CompiledRules::compile(&rules).unwrap();
        if compiled.subscribe(&filter, qos(requested)) != (SubscribeDecision { decision: Allow, check_deliveries: false }) {
            return Ok(());
        }
        for topic in topics.iter().filter(|topic| topic::matches(&filter, topic)) {
            for (level, retain) in (0..=requested).flat_map(|level| [(level, false), (level, true)]) {
                let delivered = compiled.deliver(topic, qos(level), retain);
                prop_assert!(!matches!(delivered, Deny | Ask), "{topic} by {rules:?}: {delivered:?}");
            }
        }
    }

    #[test]
    fn who_may_deny_no_delivery_denies_none(rules in rules(), topic in topics(), level in 0..3u8, retain: bool) {
        let compiled = CompiledRules::compile(&rules).unwrap();
        let stopped = matches!(compiled.deliver(&topic, qos(level), retain), Deny | Ask);
        prop_assert!(compiled.may_deny_deliveries() || !stopped);
    }

    #[test]
    fn patterns_match_as_topic_filters_do(filter in filters(), topic in topics()) {
        let pattern = Pattern::compile(&filter).unwrap();
        let matched = pattern.may_match(Name::new(&topic)) && pattern.matches(Name::new(&topic));
        prop_assert_eq!(matched, topic::matches(&filter, &topic), "{} {}", filter, topic);
    }
}
