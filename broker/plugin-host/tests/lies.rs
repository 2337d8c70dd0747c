//! Guests that break the canonical ABI itself: values that are none, texts that are none, memory that is not theirs, allocators that lie,
//! calls where none are allowed. Each is a failed call of its own and hurts nobody else; `tests/guests/liar` knows the lies.
#![allow(clippy::unwrap_used)]

mod support;

use nervewire_core::hook::{AppMessageRef, Decision, Transformation};
use nervewire_core::policy::RequestRef;
use nervewire_plugin_host::*;
use std::sync::{Arc, LazyLock};
use support::*;

/// Under a name of its own: statistics are kept by name.
fn liar(about: &str, lie: &str) -> PluginSpec {
    let mut component = guests::component("liar");
    if lie.contains("arena") {
        component.extend(custom_section(ARENA_SECTION, b"2"));
    }
    PluginSpec {
        name: format!("{about}: {lie}"),
        component: component.into(),
        config_json: format!("{lie:?}"),
        limits: Limits {
            call_ms: 200,
            ..spec("liar").limits
        },
        ..spec("liar")
    }
}

/// What says that the guest has a call arena.
const ARENA_SECTION: &str = "nervewire:call-arena";

fn custom_section(name: &str, contents: &[u8]) -> Vec<u8> {
    let body = [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), contents].concat();
    [&[0, body.len() as u8 | 0x80, (body.len() >> 7) as u8], &body[..]].concat()
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
    // Nothing is left of the instances that have gone.
    assert_eq!(
        (plugin.stats().instances(), plugin.stats().memory_bytes()),
        (0, 0),
        "{lie}"
    );
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

/// Three questions in one call: how many answers there were.
fn answers_of_a_batch(about: Call, lie: &str) -> Option<usize> {
    let plugin = host()
        .load(liar(&format!("batch {} {lie}", about.label()), lie))
        .unwrap();
    let mut instance = plugin.instance(Role::Shard).unwrap();
    let answers = match about {
        Call::Authorize => {
            let requests = ["a", "b", "c"].map(request);
            let verdicts = instance.authorize_all(&client("c"), &requests.each_ref().map(RequestRef::from));
            verdicts
                .inspect(|verdicts| assert_eq!(verdicts[2].decision, Decision::Deny))
                .map(|all| all.len())
        }
        _ => {
            let messages = ["a", "b", "c"].map(message);
            let answers = instance.transform_all(&client("c"), &messages.each_ref().map(AppMessageRef::from));
            answers
                .inspect(|all| assert!(matches!(all.at(2), Some(Transformation::Replace(_))), "{all:?}"))
                .map(|all| (0..4).filter(|position| all.at(*position).is_some()).count())
        }
    };
    let invalid = plugin.stats().calls(about, Outcome::Invalid);
    assert_eq!(
        invalid,
        u64::from(answers.is_none()),
        "{lie}: {:?}",
        outcomes(&plugin, about)
    );
    answers
}

#[test]
fn a_batch_with_a_lie_in_it_has_no_answers() {
    let both = [Call::Authorize, Call::Transform];
    for about in both {
        assert_eq!(answers_of_a_batch(about, ""), Some(3));
        for lie in [
            "answers outside",
            "answers far outside",
            "answers beside",
            "answers without end",
            "answers that wrap",
            "one answer more than is ever asked",
            "one answer less",
        ] {
            assert_eq!(answers_of_a_batch(about, lie), None, "{lie}");
        }
    }
    assert_eq!(answers_of_a_batch(Call::Authorize, "decision"), None);
    assert_eq!(answers_of_a_batch(Call::Authorize, "dependencies"), Some(3));
    for lie in [
        "transformation",
        "QoS",
        "topic is not UTF-8",
        "topic is outside",
        "payload without end",
        "payload outside",
    ] {
        assert_eq!(answers_of_a_batch(Call::Transform, lie), None, "{lie}");
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

const WITH_ARENA: [Call; 4] = [Call::Authenticate, Call::Rules, Call::Authorize, Call::Transform];

#[test]
fn a_call_arena_that_is_none_fails_the_call() {
    for about in WITH_ARENA {
        for lie in ["arena outside", "arena that ends", "arena beside"] {
            check(about, lie, Outcome::Invalid);
        }
        check(about, "traps for the arena", Outcome::Trap);
        check(about, "calls for the arena", Outcome::Trap);
        check(about, "arena over what it needs", Outcome::Trap);
    }
    check(Call::Authorize, "loops for the arena", Outcome::Timeout);
    check(Call::Transform, "loops for the arena", Outcome::Timeout);
    for about in [Call::Tick, Call::Detect] {
        check(about, "traps for the arena", Outcome::Ok); // Nobody asks.
    }
}

/// Wherever in its memory it is, and whatever is said there, it is the guest's own.
#[test]
fn a_call_arena_in_odd_places_is_the_guests_own() {
    let lies = [
        "arena at 0",
        "arena without a mark",
        "arena that is full",
        "arena in the stack",
        "arena that is handed out again",
        "arena that changes",
        "arena of new memory",
        "arena after too much memory",
        "arena for once",
    ];
    for about in WITH_ARENA {
        for lie in lies {
            check(about, lie, Outcome::Ok);
        }
    }
}

/// Whoever is believed to have an arena is asked for it, which the guest does not survive.
#[test]
fn a_section_that_is_not_the_call_arenas_is_not_believed() {
    let honest = || custom_section(ARENA_SECTION, b"2");
    let load = |about: &str, section: Vec<u8>| {
        let component = [guests::component("liar"), section].concat().into();
        host().load(PluginSpec {
            component,
            ..liar(about, "traps when asked")
        })
    };
    let is_believed = |about: &str, section| !answers(&load(about, section).unwrap(), Call::Rules);
    assert!(is_believed("once", honest()));
    assert!(is_believed("twice", [honest(), honest()].concat()));
    assert!(is_believed(
        "among others",
        [custom_section(ARENA_SECTION, b"2"), honest()].concat()
    ));
    for (about, contents) in [
        ("empty", &b""[..]),
        ("of the past", b"1"),
        ("of the future", b"3"),
        ("too long", b"22"),
        ("with more", b"2\0"),
    ] {
        assert!(!is_believed(about, custom_section(ARENA_SECTION, contents)), "{about}");
    }
    for name in [
        "",
        "nervewire:call-aren",
        "nervewire:call-arena2",
        "NERVEWIRE:call-arena",
    ] {
        assert!(!is_believed(name, custom_section(name, b"2")), "{name}");
    }
    let cut = honest()[..20].to_vec();
    let longer_name = [&honest()[..3], &[200][..], &honest()[4..]].concat();
    let endless_length = [&[0][..], &[0xff; 12], &honest()[3..]].concat();
    for (about, section) in [
        ("cut", cut),
        ("longer name", longer_name),
        ("endless length", endless_length),
    ] {
        let refused = load(about, section).unwrap_err().to_string();
        assert!(refused.contains("not a WebAssembly component"), "{about}: {refused}");
    }
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
