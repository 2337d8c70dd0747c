//! What compiled rules cost per message: the configuration that is built in, and twenty rules of which the last one decides.
//!
//!     cargo bench -p nervewire-core --bench rules

use divan::{Bencher, black_box};
use nervewire_codec::QoS;
use nervewire_core::hook::{Action, Actions, Effect, Rule};
use nervewire_core::policy::{Authorizer, ClientRules, Native, Policy, RequestRef};

const TOPIC: &str = "site/7/line/12/sensor-0815/temperature";

fn main() {
    divan::main();
}

#[divan::bench]
fn publish_by_the_default(bencher: Bencher<'_, '_>) {
    judge(bencher, Action::Publish, &["#"]);
}

#[divan::bench]
fn publish_by_twenty_prefixes(bencher: Bencher<'_, '_>) {
    judge(bencher, Action::Publish, &twenty(|n| format!("area/{n}/#")));
}

/// All of them begin like the topic.
#[divan::bench]
fn publish_by_twenty_similar_prefixes(bencher: Bencher<'_, '_>) {
    judge(
        bencher,
        Action::Publish,
        &twenty(|n| format!("site/7/line/{}/#", 20 + n)),
    );
}

#[divan::bench]
fn publish_by_twenty_patterns(bencher: Bencher<'_, '_>) {
    judge(
        bencher,
        Action::Publish,
        &twenty(|n| format!("site/+/line/+/actor-{n}/#")),
    );
}

#[divan::bench]
fn deliver_by_twenty_prefixes(bencher: Bencher<'_, '_>) {
    judge(bencher, Action::Deliver, &twenty(|n| format!("area/{n}/#")));
}

fn twenty(filter: impl Fn(u32) -> String) -> Vec<String> {
    (1..20).map(filter).chain(["#".to_owned()]).collect()
}

/// Everything but the last filter is denied.
fn judge(bencher: Bencher<'_, '_>, action: Action, filters: &[impl AsRef<str>]) {
    let last = filters.len() - 1;
    let rules = filters.iter().enumerate().map(|(position, filter)| Rule {
        effect: if position == last { Effect::Allow } else { Effect::Deny },
        actions: Actions {
            publish: true,
            subscribe: true,
            deliver: true,
        },
        topic_filter: filter.as_ref().to_owned(),
        max_qos: QoS::ExactlyOnce,
        retain: None,
    });
    let (rules, errors) = ClientRules::new(1, vec![Ok(Some(rules.collect()))]);
    assert!(errors.is_empty());
    let policy = Policy {
        generation: 1,
        authorizers: vec![Authorizer::default()],
        ..Policy::default()
    };
    let request = RequestRef {
        action,
        topic: TOPIC,
        qos: QoS::AtMostOnce,
        retain: false,
    };
    assert_eq!(rules.judge(&policy, &request, |_| None), Native::Decided(true));
    bencher.bench_local(|| black_box(&rules).judge(black_box(&policy), black_box(&request), |_| None));
}
