use super::*;
use crate::windows::tally::Topics;

fn client(id: &str, tenant: Option<&str>, address: &str) -> Arc<Client> {
    Arc::new(Client {
        address: address.parse().unwrap(),
        username: Some("u".into()),
        ..Client::unknown(id.into(), tenant.map(Arc::from))
    })
}

const SPAN: Span = Span {
    started_unix_ms: 60_000,
    length_ms: 60_000,
};

#[test]
fn messages_are_counted_with_their_topics_and_sizes() {
    let mut windows = Windows::new(10);
    let (mut place, a) = (Place::default(), client("a", None, "10.0.0.1"));
    for (topic, bytes) in [("t/1", 10), ("t/2", 20), ("t/1", 30)] {
        windows.message_in(&mut place, &a, topic, bytes);
    }
    let tally = windows.tally(&mut place, &a).unwrap();
    tally.message_out();
    tally.bytes_in(100);
    tally.bytes_out(50);
    tally.denial();
    let closed = merge(windows.close(), SPAN);
    let [ClientWindow { window, .. }] = &closed[..] else {
        panic!("{closed:?}")
    };
    assert_eq!((window.messages_in, window.messages_out), (3, 1));
    assert_eq!((window.bytes_in, window.bytes_out), (100, 50));
    assert_eq!((window.distinct_topics, window.denials), (2, 1));
    assert_eq!((window.payload_bytes_min, window.payload_bytes_max), (10, 30));
    assert_eq!(window.payload_bytes_mean, 20.0);
    assert!((window.payload_bytes_deviation - (200.0f64 / 3.0).sqrt()).abs() < 1e-9);
    assert_eq!(window.username.as_deref(), Some("u"));
    assert_eq!((window.started_unix_ms, window.length_ms), (60_000, 60_000));
}

#[test]
fn a_closed_window_is_gone_and_the_next_counts_from_nothing() {
    let mut windows = Windows::new(10);
    let (mut place, a) = (Place::default(), client("a", None, "10.0.0.1"));
    windows.message_in(&mut place, &a, "t", 1);
    assert_eq!(windows.close().len(), 1);
    assert!(windows.close().is_empty(), "who does nothing has no window");
    windows.message_in(&mut place, &a, "t", 1);
    assert_eq!(merge(windows.close(), SPAN)[0].window.messages_in, 1);
}

#[test]
fn a_place_of_long_ago_is_nobody_elses() {
    let mut windows = Windows::new(10);
    let (a, b) = (client("a", None, "10.0.0.1"), client("b", None, "10.0.0.1"));
    let mut place = Place::default();
    windows.message_in(&mut place, &a, "t", 1);
    // The numbers of windows come again.
    for _ in 0..255 {
        windows.close();
    }
    windows.message_in(&mut Place::default(), &b, "t", 1);
    windows.message_in(&mut place, &a, "t", 1);
    let closed = merge(windows.close(), SPAN);
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|client| client.window.messages_in == 1));
}

#[test]
fn a_client_that_comes_back_with_a_new_session_is_the_same() {
    let mut windows = Windows::new(10);
    let a = client("a", None, "10.0.0.1");
    for _ in 0..3 {
        windows.message_in(&mut Place::default(), &a, "t", 1);
    }
    let elsewhere = client("a", None, "10.0.0.9");
    windows
        .tally(&mut Place::default(), &elsewhere)
        .unwrap()
        .connect(&elsewhere);
    let closed = merge(windows.close(), SPAN);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].window.messages_in, 3);
    assert_eq!(closed[0].window.address, elsewhere.address, "where it is now");
}

#[test]
fn clients_over_the_bound_are_not_counted_but_that_is() {
    let mut windows = Windows::new(2);
    let mut places = [Place::default(); 4];
    for (number, place) in places.iter_mut().enumerate() {
        let client = client(&format!("c{number}"), None, "10.0.0.1");
        windows.message_in(place, &client, "t", 1);
        windows.message_in(place, &client, "t", 1);
        windows.stranger(&client);
    }
    assert_eq!(windows.over_bound(), 4, "each once in a window");
    assert_eq!(windows.close().len(), 2 + 2);
}

#[test]
fn shards_add_up_by_tenant_and_client() {
    let (mut one, mut two) = (Windows::new(10), Windows::new(10));
    let (a, of_tenant) = (client("a", None, "10.0.0.1"), client("a", Some("t"), "10.0.0.2"));
    one.message_in(&mut Place::default(), &a, "t/1", 10);
    one.message_in(&mut Place::default(), &of_tenant, "t/1", 1);
    // Seen where it was accepted, and at home elsewhere.
    two.stranger(&a).unwrap().failed_login();
    let elsewhere = client("a", None, "10.6.6.6");
    for windows in [&mut one, &mut two] {
        windows.stranger(&elsewhere).unwrap().failed_login();
    }
    let closed = merge(one.close().into_iter().chain(two.close()), SPAN);
    let seen: Vec<_> = closed
        .iter()
        .map(|c| {
            (
                c.tenant.as_deref(),
                c.is_stranger,
                c.window.messages_in,
                c.window.failed_logins,
            )
        })
        .collect();
    assert_eq!(
        seen,
        [(None, false, 1, 1), (Some("t"), false, 1, 0), (None, true, 0, 2)]
    );
    assert_eq!(closed[2].window.username, None, "nobody has proved to be that user");
}

#[test]
fn a_call_names_no_client_twice() {
    let mut windows = Windows::new(10);
    for (id, tenant) in [
        ("a", None),
        ("a", Some("t")),
        ("a", Some("u")),
        ("b", None),
        ("c", None),
    ] {
        windows.message_in(&mut Place::default(), &client(id, tenant, "10.0.0.1"), "t", 1);
    }
    let batches = batches(merge(windows.close(), SPAN), 2);
    let names: Vec<Vec<&str>> = batches
        .iter()
        .map(|batch| batch.iter().map(|c| &*c.window.client_id).collect())
        .collect();
    assert_eq!(names, [vec!["a", "b"], vec!["c"], vec!["a"], vec!["a"]]);
}

#[test]
fn topics_are_estimated_within_a_tenth() {
    for real in [1u32, 5, 30, 100, 400, 1_000] {
        let mut windows = Windows::new(1);
        // The same hashes in every run of this test.
        let hash = |n: u32| {
            let mixed = u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        let a = client("a", None, "10.0.0.1");
        let mut place = Place::default();
        let tally = windows.tally(&mut place, &a).unwrap();
        for n in 0..real * 2 {
            tally.message_in(hash(n % real), 1);
        }
        let estimate = merge(windows.close(), SPAN)[0].window.distinct_topics;
        let off = f64::from(estimate.abs_diff(real)) / f64::from(real);
        assert!(off <= 0.1, "{estimate} for {real}");
    }
    let mut windows = Windows::new(1);
    let mut place = Place::default();
    for n in 0..100_000 {
        windows.message_in(&mut place, &client("a", None, "10.0.0.1"), &n.to_string(), 1);
    }
    assert_eq!(merge(windows.close(), SPAN)[0].window.distinct_topics, Topics::MOST);
}
