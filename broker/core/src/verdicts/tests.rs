use super::*;

const USER: (bool, bool, bool) = (false, true, false);
const TOPIC: (bool, bool, bool) = (false, false, true);

fn client(client_id: &str, username: Option<&str>, tenant: Option<&str>) -> Client {
    Client {
        username: username.map(Arc::from),
        ..Client::unknown(client_id.into(), tenant.map(Arc::from))
    }
}

fn request(topic: &str) -> Request {
    Request {
        action: Action::Publish,
        topic: topic.try_into().unwrap(),
        qos: QoS::AtMostOnce,
        retain: false,
    }
}

fn by_reference(request: &Request) -> RequestRef<'_> {
    RequestRef {
        action: request.action,
        topic: &request.topic,
        qos: request.qos,
        retain: request.retain,
    }
}

/// For 100 ms; `depends`: on client, user, topic.
fn verdict(depends: (bool, bool, bool)) -> Verdict {
    Verdict {
        decision: Decision::Allow,
        cache_ms: 100,
        depends_on_client: depends.0,
        depends_on_user: depends.1,
        depends_on_topic: depends.2,
    }
}

/// Whether what Ann's client `c` was told about topic `a` at 0 holds for this request.
#[track_caller]
fn check(depends: (bool, bool, bool), asked: (&Client, &Request), at: (u64, Millis), expected: bool) {
    let mut cache = SharedVerdicts::default();
    let ann = client("c", Some("ann"), Some("t"));
    assert_eq!(cache.put(1, 0, &ann, &request("a"), &verdict(depends), 0), Put::Kept);
    let (client, request) = asked;
    let got = cache.get(at.0, 0, client, &by_reference(request), at.1);
    assert_eq!(got.is_some(), expected);
    assert_eq!(
        cache.get(at.0, 1, client, &by_reference(request), at.1),
        None,
        "another authorizer"
    );
}

#[test]
fn a_verdict_serves_whoever_it_does_not_depend_on() {
    let at = (1, 99);
    let ann = client("other", Some("ann"), Some("t"));
    let (bob, elsewhere) = (client("c", Some("bob"), Some("t")), client("c", Some("ann"), None));
    check(USER, (&ann, &request("b")), at, true);
    check(USER, (&bob, &request("a")), at, false);
    check(USER, (&elsewhere, &request("a")), at, false);
    check(TOPIC, (&bob, &request("a")), at, true);
    check(TOPIC, (&ann, &request("b")), at, false);
    check((false, false, false), (&elsewhere, &request("b")), at, true);
    let retained = Request {
        retain: true,
        ..request("a")
    };
    check((false, false, false), (&ann, &retained), at, false);
}

#[test]
fn a_verdict_ends_with_its_time_and_with_its_generation() {
    let ann = client("c", Some("ann"), Some("t"));
    check(USER, (&ann, &request("a")), (1, 100), false);
    check(USER, (&ann, &request("a")), (2, 0), false);
}

#[test]
fn what_an_older_policy_said_never_drives_out_what_holds() {
    let ann = client("c", Some("ann"), None);
    let (a, b) = (request("a"), request("b"));
    let mut shared = SharedVerdicts::default();
    let mut own = SessionVerdicts::default();
    for (generation, request) in [(2, &a), (1, &b)] {
        shared.put(generation, 0, &ann, request, &verdict(TOPIC), 0);
        own.put(generation, 0, request, &verdict(TOPIC), 0);
    }
    assert!(shared.get(2, 0, &ann, &by_reference(&a), 1).is_some());
    assert!(own.get(2, 0, &by_reference(&a), 1).is_some());
    for generation in [1, 2] {
        assert_eq!(shared.get(generation, 0, &ann, &by_reference(&b), 1), None);
        assert_eq!(own.get(generation, 0, &by_reference(&b), 1), None);
    }
}

#[test]
fn a_session_reuses_its_verdict_until_it_expires_or_the_policy_changes() {
    let mut cache = SessionVerdicts::default();
    let depends = verdict((true, true, true));
    assert_eq!(cache.put(1, 0, &request("a"), &depends, 0), Put::Kept);
    let a = request("a");
    let asked = by_reference(&a);
    let kept = cache.get(1, 0, &asked, 99).unwrap();
    assert_eq!((kept.decision, kept.since, kept.until), (Decision::Allow, 0, 100));
    assert_eq!(cache.get(1, 0, &asked, 100), None);
    assert_eq!(cache.get(1, 1, &asked, 50), None);
    assert_eq!(cache.get(1, 0, &RequestRef { topic: "b", ..asked }, 50), None);
    assert_eq!(cache.get(2, 0, &asked, 50), None);
    cache.put(1, 0, &request("a"), &verdict((true, false, false)), 0);
    assert!(cache.get(1, 0, &RequestRef { topic: "b", ..asked }, 50).is_some());
    cache.clear();
    assert_eq!(cache.get(1, 0, &asked, 50), None);
}

#[test]
fn the_shared_cache_is_bounded_and_drops_what_has_expired_first() {
    let ann = client("c", Some("ann"), None);
    let mut cache = SharedVerdicts::default();
    let fill = |cache: &mut SharedVerdicts, from: usize, now| {
        let topics = from..from + MAX_SHARED_VERDICTS;
        topics.for_each(|n| {
            assert_eq!(
                cache.put(1, 0, &ann, &request(&n.to_string()), &verdict(TOPIC), now),
                Put::Kept
            )
        });
    };
    fill(&mut cache, 0, 0);
    assert_eq!(cache.put(1, 0, &ann, &request("x"), &verdict(TOPIC), 100), Put::Kept);
    assert_eq!(cache.verdicts.len(), 1, "the others had expired");
    let mut cache = SharedVerdicts::default();
    fill(&mut cache, 0, 0);
    assert_eq!(
        cache.put(1, 0, &ann, &request("x"), &verdict(TOPIC), 99),
        Put::OverBound
    );
    assert!(cache.verdicts.len() <= MAX_SHARED_VERDICTS);
    let x = request("x");
    assert!(cache.get(1, 0, &ann, &by_reference(&x), 99).is_some());
}

#[test]
fn a_verdict_under_a_long_key_is_not_kept() {
    let long = request(&"x".repeat(MAX_VERDICT_KEY_BYTES + 1));
    let ann = client("c", Some("ann"), None);
    let mut shared = SharedVerdicts::default();
    assert_eq!(shared.put(1, 0, &ann, &long, &verdict(TOPIC), 0), Put::OverBound);
    assert_eq!(
        SessionVerdicts::default().put(1, 0, &long, &verdict(TOPIC), 0),
        Put::OverBound
    );
    // Where the topic does not count its length does not either.
    assert_eq!(shared.put(1, 0, &ann, &long, &verdict(USER), 0), Put::Kept);
}
