//! SIGTERM.

use crate::support::*;

/// 0x8B: server shutting down; exit code 0; acknowledged messages have been delivered before.
#[test]
fn sigterm_tells_the_clients_and_ends_the_broker() {
    each_broker(|broker| {
        let mut subscriber = Client::new(broker, Version::V5, "s");
        subscriber.subscribe("t", QoS::AtLeastOnce);
        let mut old = Client::new(broker, Version::V311, "old");
        Client::new(broker, Version::V5, "p").publish("t", "x", QoS::AtLeastOnce);
        broker.signal("TERM");
        subscriber.expect_payload("x");
        subscriber.expect_disconnect(0x8B);
        old.expect_disconnect(0x8B);
        assert!(broker.ended().success());
    });
}
