//! Ten thousand clients at a time.

mod support;

use support::*;

const CLIENTS: u64 = 10_000;

/// Each has a subscription and gets its message.
#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn ten_thousand_clients_are_served() {
    let broker = Setup::new().shards(2).start();
    let (port, pid) = (broker.port.to_string(), broker.pid().to_string());
    let clients = CLIENTS.to_string();
    let args = [
        "bench",
        "idle",
        "--clients",
        &clients,
        "--publish-all",
        "--qos",
        "1",
        "--port",
        &port,
        "--pid",
        &pid,
        "--json",
    ];
    let output = nervewire().args(args).output().expect("run nervewire bench");
    assert!(output.status.success(), "{output:?}");
    let received = metric(&broker, "nervewire_messages_sent_total", &[]);
    assert!(
        received >= CLIENTS as f64,
        "{received} messages to {CLIENTS} clients: {output:?}"
    );
    assert_eq!(
        metric(
            &broker,
            "nervewire_messages_dropped_total",
            &[("reason", "queue_messages")]
        ),
        0.0
    );
}
