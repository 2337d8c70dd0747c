//! Guests that break the canonical ABI itself: values that are none, texts that are none, memory that is not theirs, allocators that lie,
//! calls where none are allowed. Each is a failed call of its own and hurts nobody else; `tests/guests/liar` knows the lies.
#![allow(clippy::unwrap_used)]

mod support;

use nervewire_plugin_host::*;
use std::sync::{Arc, LazyLock};
use support::*;

/// Under a name of its own: statistics are kept by name.
fn liar(about: &str, lie: &str) -> PluginSpec {
    PluginSpec {
        name: format!("{about}: {lie}"),
        config_json: format!("{lie:?}"),
        limits: Limits {
            call_ms: 200,
            ..spec("liar").limits
        },
        ..spec("liar")
    }
}

/// Calls a function twice, so that a second instance is seen as well; whether both were answered.
fn answers(plugin: &Arc<Plugin>, call: Call) -> bool {
    let mut instance = plugin.instance(role(call)).unwrap();
    let first = is_answered(&mut instance, call);
    let second = is_answered(&mut instance, call);
    assert_eq!(
        first,
        second,
        "{}: a new instance ends as the one before it",
        plugin.name()
    );
    first
}

fn check(about: Call, lie: &str, expected: Outcome) {
    let hooks = instance_hook(about).map(|hook| vec![hook]);
    let plugin = host()
        .load(PluginSpec {
            hooks,
            ..liar(about.label(), lie)
        })
        .unwrap();
    let answered = answers(&plugin, about);
    let counted = plugin.stats().calls(about, expected);
    assert_eq!(counted, 2, "{lie}: {:?}", outcomes(&plugin, about));
    assert_eq!(answered, expected == Outcome::Ok, "{lie}");
    let replaced = if answered { 0 } else { 2 };
    assert_eq!(plugin.stats().instances_replaced(), replaced, "{lie}");
    // The host is whole.
    static HONEST: LazyLock<Arc<Plugin>> = LazyLock::new(|| host().load(liar("honest", "")).unwrap());
    assert!(answers(&HONEST, about), "{lie}");
}

/// One hook is enough, except for what belongs to all.
fn instance_hook(call: Call) -> Option<Hook> {
    match call {
        Call::Authenticate => Some(Hook::Authenticate),
        Call::Rules | Call::Authorize => Some(Hook::Authorize),
        Call::Transform => Some(Hook::Transform),
        Call::Detect => Some(Hook::Detect),
        Call::Tick => None,
    }
}

#[test]
fn honest_answers_of_the_liar_are_taken() {
    for about in Call::ALL {
        check(about, "", Outcome::Ok);
    }
}

#[test]
fn texts_that_are_no_utf_8_or_not_in_memory_fail_the_call() {
    let texts = [
        (Call::Authenticate, "user name"),
        (Call::Rules, "topic filter"),
        (Call::Transform, "topic"),
        (Call::Tick, "topic"),
        (Call::Detect, "client"),
        (Call::Detect, "evidence"),
    ];
    let lies = [
        "is not UTF-8",
        "is half a surrogate",
        "is overlong",
        "is cut",
        "is outside",
        "goes too far",
        "is as long as it gets",
    ];
    for (about, text) in texts {
        for lie in lies {
            check(about, &format!("{text} {lie}"), Outcome::Invalid);
        }
    }
}

#[test]
fn numbers_of_no_value_fail_the_call() {
    let rows = [
        (Call::Authenticate, "outcome"),
        (Call::Authenticate, "refusal"),
        (Call::Rules, "option"),
        (Call::Rules, "effect"),
        (Call::Rules, "rule's QoS"),
        (Call::Rules, "rule's retain"),
        (Call::Authorize, "decision"),
        (Call::Transform, "transformation"),
        (Call::Transform, "rejection"),
        (Call::Transform, "QoS"),
        (Call::Transform, "content type"),
        (Call::Transform, "expiry"),
        (Call::Tick, "QoS"),
        (Call::Detect, "response"),
    ];
    for (about, lie) in rows {
        check(about, lie, Outcome::Invalid);
    }
}

/// The contract says what a byte over 1 is: true; and what unknown flags are: nothing.
#[test]
fn a_bool_or_flags_of_many_bits_are_no_lie() {
    check(Call::Transform, "retain", Outcome::Ok);
    check(Call::Rules, "actions", Outcome::Ok);
    check(Call::Authorize, "dependencies", Outcome::Ok);
}

#[test]
fn lists_and_answers_that_are_not_in_memory_fail_the_call() {
    let rows = [
        (Call::Authorize, "answer outside"),
        (Call::Authorize, "answer beside"),
        (Call::Rules, "rules outside"),
        (Call::Rules, "rules beside"),
        (Call::Rules, "rules without end"),
        (Call::Rules, "rules that wrap"),
        (Call::Transform, "payload without end"),
        (Call::Transform, "payload outside"),
        (Call::Tick, "payload outside"),
    ];
    for (about, lie) in rows {
        check(about, lie, Outcome::Invalid);
    }
}

/// Ten thousand messages over the same mebibyte would be ten gibibytes of the broker's: the call has fuel for two messages.
#[test]
fn what_a_guest_shows_many_times_is_not_copied_many_times() {
    for about in [Call::Transform, Call::Tick] {
        check(about, "messages in one", Outcome::Invalid);
    }
}

#[test]
fn an_allocator_that_lies_fails_the_call() {
    for about in [Call::Authenticate, Call::Rules, Call::Authorize, Call::Transform] {
        check(about, "memory outside", Outcome::Invalid);
        check(about, "memory that ends", Outcome::Invalid);
        check(about, "memory beside", Outcome::Invalid);
        check(about, "traps for memory", Outcome::Trap);
        // It is the guest's own, as any other.
        check(about, "memory at 0", Outcome::Ok);
    }
    check(Call::Authorize, "loops for memory", Outcome::Timeout);
    check(Call::Transform, "loops for memory", Outcome::Timeout);
}

/// Nothing calls the broker from inside of a call that is being made or cleaned up.
#[test]
fn a_guest_does_not_call_from_where_it_may_not() {
    check(Call::Authorize, "calls for memory", Outcome::Trap);
    check(Call::Transform, "calls for memory", Outcome::Trap);
    check(Call::Authorize, "calls afterwards", Outcome::Trap);
}

#[test]
fn cleaning_up_is_part_of_the_call() {
    check(Call::Authorize, "loops afterwards", Outcome::Timeout);
    check(Call::Authorize, "traps afterwards", Outcome::Trap);
}

#[test]
fn an_init_that_lies_is_refused() {
    for lie in [
        "ready",
        "refusal in words is not UTF-8",
        "refusal in words is outside",
        "refusal in words is as long as it gets",
    ] {
        let refused = host().load(liar("init", lie)).unwrap_err().to_string();
        assert!(refused.contains("`init` failed (invalid)"), "{lie}: {refused}");
    }
}
