//! Connections whose client certificate ends.

use super::scene::{client, v5, will};
use super::{Broker, C, each, each_version};
use crate::certificates::CertificateEnd;
use nervewire_codec::{ReasonCode, Version};

/// The second that it is.
fn second(b: &Broker) -> i64 {
    (b.now / 1_000) as i64
}

fn end(b: &mut Broker, c: C, end: CertificateEnd) {
    let (shard, id) = (b.links[c].shard, b.links[c].id);
    let now = b.now;
    b.shards[shard].end_certificate(now, id, end);
    b.settle();
}

#[test]
fn a_connection_ends_when_its_certificate_has_expired() {
    each_version(|b, version| {
        let now = second(b);
        let to_last_ms = 1_000 - b.now % 1_000;
        let c = b.connect(client(version, "a").certificate(now + 10));
        let other = b.connect(client(version, "b").certificate(now + 1_000));
        b.advance(10_000 + to_last_ms - 1);
        assert!(b.is_open(c), "it is good during its last second");
        b.advance(1);
        let told = (version == Version::V5).then_some(ReasonCode::NotAuthorized);
        assert_eq!(b.farewell(c), told);
        assert!(!b.is_open(c));
        assert!(b.is_open(other));
        assert_eq!(b.total(|c| c.disconnects_certificate[2]), 1);
        assert_eq!(b.total(|c| c.disconnects_server), 1);
    });
}

#[test]
fn the_end_of_an_earlier_connections_certificate_does_not_end_the_next_one() {
    each(|b| {
        let now = second(b);
        let first = b.connect(v5("a").certificate(now + 5));
        let renewed = b.connect(v5("a").certificate(now + 500));
        assert!(!b.is_open(first), "it was taken over");
        b.advance(10_000);
        assert!(b.is_open(renewed));
        assert_eq!(b.total(|c| c.disconnects_certificate[2]), 0);
    });
}

#[test]
fn who_loses_the_certificate_leaves_a_session_and_no_will() {
    each(|b| {
        let watcher = b.connect(v5("w"));
        b.subscribe(watcher, "gone", 1);
        let c = b.connect(v5("a").lasting().will(will("gone", 1, "a")));
        end(b, c, CertificateEnd::Revoked);
        assert_eq!(b.farewell(c), Some(ReasonCode::NotAuthorized));
        assert_eq!(b.payloads(watcher), [""; 0]);
        assert_eq!(b.sessions(), 2);
        assert_eq!(b.total(|c| c.disconnects_certificate[0]), 1);
    });
}

#[test]
fn a_connection_ends_once() {
    each(|b| {
        let c = b.connect(v5("a"));
        let (shard, id, now) = (b.links[c].shard, b.links[c].id, b.now);
        b.shards[shard].end_certificate(now, id, CertificateEnd::Untrusted);
        b.shards[shard].end_certificate(now, id, CertificateEnd::Revoked);
        b.settle();
        assert_eq!(b.total(|c| c.disconnects_certificate[1]), 1);
        assert_eq!(b.total(|c| c.disconnects_certificate[0]), 0);
    });
}
