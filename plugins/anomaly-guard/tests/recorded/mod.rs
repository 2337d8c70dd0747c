//! What a real broker counted of real clients (`windows_are_recorded_for_the_evaluation` in tests/detection.rs wrote these files): ten
//! sensors and two gateways, on a busy machine, in windows of a second; then a flood by one and a scan by another.

use crate::attacks::Shape;
use nervewire_plugin_sdk::Window;

/// Nothing happens.
pub(crate) fn quiet() -> Vec<Vec<Window>> {
    windows(include_str!("quiet.csv"))
}

/// Something does.
pub(crate) fn attack(shape: Shape) -> Vec<Vec<Window>> {
    windows(match shape {
        Shape::Flood => include_str!("flood.csv"),
        Shape::Scan => include_str!("scan.csv"),
    })
}

/// The windows of each call, which began at the same time.
fn windows(csv: &str) -> Vec<Vec<Window>> {
    let mut calls: Vec<Vec<Window>> = Vec::new();
    for window in csv.lines().skip(1).map(window) {
        match calls.last_mut().filter(|call| call[0].started == window.started) {
            Some(call) => call.push(window),
            None => calls.push(vec![window]),
        }
    }
    calls
}

fn window(line: &str) -> Window {
    let mut fields = line.split(',');
    let mut text = || fields.next().expect("a field");
    let (client_id, address) = (text().to_owned(), text().to_owned());
    let mut number = || -> f64 { text().parse().expect("a number") };
    Window {
        client_id,
        username: None,
        address,
        started: number() as u64,
        milliseconds: number() as u32,
        messages_in: number() as u64,
        messages_out: number() as u64,
        bytes_in: number() as u64,
        bytes_out: number() as u64,
        distinct_topics: number() as u32,
        denials: number() as u32,
        malformed_packets: number() as u32,
        failed_logins: number() as u32,
        connects: number() as u32,
        payload_bytes_min: number() as u32,
        payload_bytes_max: number() as u32,
        payload_bytes_mean: number(),
        payload_bytes_deviation: number(),
    }
}
