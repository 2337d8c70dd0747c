use super::*;
use nervewire_codec::topic;
use proptest::prelude::*;

fn prefix(filter: &str) -> Prefix {
    Prefix::of_filter(None, filter)
}

/// What another shard knows after everything that was announced.
fn announced(own: &mut OwnInterest) -> OtherInterest {
    let mut other = OtherInterest::default();
    own.take_fresh().for_each(|announcement| other.apply(&announcement));
    other
}

fn interested_in(filters: &[&str]) -> OtherInterest {
    let mut own = OwnInterest::default();
    assert!(filters.iter().all(|filter| own.enter(prefix(filter))));
    announced(&mut own)
}

#[test]
fn a_topic_concerns_those_with_a_prefix_of_it() {
    let check = |filters: &[&str], topic: &str, expected: bool| {
        let concerned = Interesting::new(None, topic).to(&interested_in(filters));
        assert_eq!(concerned, expected, "{topic} with {filters:?}");
    };
    check(&[], "a", false);
    check(&["a/b"], "a/b", true);
    check(&["a/b"], "a/c", false);
    check(&["a/b"], "a", false);
    check(&["b/a"], "a/b", false);
    check(&["x", "a/b/+/c"], "a/b/d/e", true);
    check(&["a/b/#"], "a/b", true);
    check(&["a/b/#"], "a/bb", false);
    check(&["+/b"], "c", true);
    check(&["#"], "c/d/e", true);
    check(&["/+"], "a/b", false);
    check(
        &["a-level-of-more-than-sixteen-bytes/x"],
        "a-level-of-more-than-sixteen-bytes/x",
        true,
    );
    check(
        &["a-level-of-more-than-sixteen-bytes/x"],
        "a-level-of-more-than-sixteen-bytez/x",
        false,
    );
    let deep = vec!["a"; topic::MAX_TOPIC_LEVELS].join("/");
    check(&[&deep], &deep, true);
}

#[test]
fn tenants_have_interests_of_their_own() {
    let mut own = OwnInterest::default();
    own.enter(Prefix::of_filter(Some("acme"), "#"));
    let other = announced(&mut own);
    assert!(Interesting::new(Some("acme"), "a").to(&other));
    assert!(!Interesting::new(Some("ajax"), "a").to(&other));
    assert!(!Interesting::new(None, "a").to(&other));
}

#[test]
fn a_prefix_is_announced_once_and_taken_back_when_its_last_filter_has_gone() {
    let mut own = OwnInterest::default();
    own.enter(prefix("a/+"));
    assert_eq!(own.take_fresh().count(), 1);
    own.enter(prefix("a/+/b"));
    assert_eq!(own.take_fresh().count(), 0);
    own.leave(prefix("a/+"));
    assert_eq!(own.take_stale().count(), 0);
    own.leave(prefix("a/+/b"));
    own.enter(prefix("a/#"));
    assert_eq!(own.take_stale().count(), 0, "one came back");
    own.leave(prefix("a/#"));
    let stale: Vec<_> = own.take_stale().collect();
    assert_eq!(stale, [Announcement::Removed(vec![prefix("a/#")])]);
    assert!(own.filters.is_empty() && own.idle.is_empty());
}

#[test]
fn beyond_the_bound_everything_is_of_interest_until_all_of_that_has_gone() {
    let mut own = OwnInterest::default();
    let filter = |n: usize| format!("{n}/+");
    let most = MAX_ANNOUNCED_PREFIXES * 2;
    let entered = (0..most).filter(|n| own.enter(prefix(&filter(*n)))).count();
    assert!(entered < most && own.filters.len() <= MAX_ANNOUNCED_PREFIXES);
    let mut other = announced(&mut own);
    assert!(Interesting::new(None, "never/heard/of").to(&other));
    (0..most).for_each(|n| own.leave(prefix(&filter(n))));
    own.take_stale().for_each(|announcement| other.apply(&announcement));
    assert!((0..most).all(|n| !Interesting::new(None, &filter(n).replace('+', "x")).to(&other)));
    assert!(own.filters.is_empty() && !own.everything && own.beyond == 0);
    assert!(other.bits.is_empty() && other.shared_bits.is_empty() && other.depths.is_empty());
}

fn levels(alphabet: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(alphabet), 1..5).prop_map(|levels| levels.join("/"))
}

fn filters() -> impl Strategy<Value = String> {
    let filters = (levels(&["a", "b", "", "+", "$s"]), any::<bool>());
    let filters = filters.prop_map(|(filter, open)| if open { filter + "/#" } else { filter });
    filters.prop_filter("an empty filter", |filter| !filter.is_empty())
}

proptest! {
    /// Filters come and go, and are announced and taken back, in any order.
    #[test]
    fn whoever_has_a_matching_filter_is_concerned(
        steps in prop::collection::vec((filters(), any::<bool>(), any::<bool>()), 1..60),
        topic in levels(&["a", "b", "", "$s"]),
    ) {
        let (mut own, mut other, mut live) = (OwnInterest::default(), OtherInterest::default(), Vec::new());
        for (filter, comes, take_back) in steps {
            if comes || !live.contains(&filter) {
                own.enter(prefix(&filter));
                live.push(filter);
            } else {
                own.leave(prefix(&filter));
                let at = live.iter().position(|other| *other == filter);
                at.into_iter().for_each(|at| _ = live.remove(at));
            }
            own.take_fresh().for_each(|announcement| other.apply(&announcement));
            if take_back {
                own.take_stale().for_each(|announcement| other.apply(&announcement));
            }
            let wanted = live.iter().any(|filter| topic::matches(filter, &topic));
            prop_assert!(!wanted || Interesting::new(None, &topic).to(&other), "{topic} with {live:?}");
        }
    }
}
