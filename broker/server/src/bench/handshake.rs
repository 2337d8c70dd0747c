//! The acknowledgements of QoS 1 and 2, in both directions.

use anyhow::ensure;

use super::decode::{self, Frame, kind_name};
use super::encode::{self, acknowledge};
use super::outbox::Outbox;
use super::window::{Owed, Window};

/// What an acknowledgement did to the message it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The handshake goes on.
    Released,
    /// The broker has taken the message.
    Accepted,
    /// The broker has refused the message, with this reason code.
    Refused(u8),
}

/// Applies PUBACK, PUBREC or PUBCOMP to the window of the publisher on connection `link`, and answers a PUBREC.
/// `None`: the frame is none of these. An error: nothing of the kind was waited for.
#[inline]
pub(super) fn settle(
    link: usize,
    frame: &Frame<'_>,
    window: &mut Window,
    outbox: &mut Outbox,
) -> anyhow::Result<Option<Step>> {
    let (owed, then) = match frame.first {
        encode::PUBACK => (Owed::Puback, Owed::Nothing),
        encode::PUBREC => (Owed::Pubrec, Owed::Pubcomp),
        encode::PUBCOMP => (Owed::Pubcomp, Owed::Nothing),
        _ => return Ok(None),
    };
    let (packet_id, reason) = decode::acknowledgement(frame)?;
    // A refusal in PUBREC ends the exchange [MQTT5 4.3.3]: there is no PUBREL to send and no PUBCOMP to wait for.
    let then = if reason >= 0x80 { Owed::Nothing } else { then };
    let awaited = window.answered(packet_id, owed, then);
    ensure!(
        awaited,
        "connection {link} got a {} for no such packet: {packet_id}",
        kind_name(frame.first)
    );
    if then == Owed::Pubcomp {
        acknowledge(outbox.buffer(link), encode::PUBREL, packet_id);
        return Ok(Some(Step::Released));
    }
    Ok(Some(if reason >= 0x80 {
        Step::Refused(reason)
    } else {
        Step::Accepted
    }))
}

/// Answers a PUBLISH as its QoS asks; true when a PUBREL has to follow.
#[inline]
pub(super) fn answer_publish(link: usize, qos: u8, packet_id: u16, outbox: &mut Outbox) -> bool {
    match qos {
        0 => {}
        1 => acknowledge(outbox.buffer(link), encode::PUBACK, packet_id),
        _ => acknowledge(outbox.buffer(link), encode::PUBREC, packet_id),
    }
    qos == 2
}

/// Answers a PUBREL.
#[inline]
pub(super) fn answer_pubrel(link: usize, frame: &Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()> {
    let (packet_id, _) = decode::acknowledgement(frame)?;
    acknowledge(outbox.buffer(link), encode::PUBCOMP, packet_id);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox() -> Outbox {
        let mut outbox = Outbox::default();
        outbox.open(0);
        outbox
    }

    /// A publisher with one message at `qos` under way gets each of `frames` in turn.
    fn check(qos: u8, frames: &[&[u8]], expected: &[Step], written: &[u8]) {
        let (mut window, mut outbox) = (Window::new(1), outbox());
        window.send(0, Owed::for_qos(qos));
        let step = |bytes: &&[u8]| {
            let frame = decode::frame(bytes).unwrap().unwrap();
            settle(0, &frame, &mut window, &mut outbox).unwrap().unwrap()
        };
        let steps: Vec<Step> = frames.iter().map(step).collect();
        assert_eq!(steps, expected, "QoS {qos} {frames:?}");
        assert_eq!(outbox.buffer(0), written);
        assert_eq!(window.in_flight(), 0);
    }

    #[test]
    fn publishes_are_settled_by_their_handshakes() {
        check(1, &[b"\x40\x02\x00\x01"], &[Step::Accepted], b"");
        check(1, &[b"\x40\x03\x00\x01\x87"], &[Step::Refused(0x87)], b"");
        let released = [Step::Released, Step::Accepted];
        check(
            2,
            &[b"\x50\x02\x00\x01", b"\x70\x02\x00\x01"],
            &released,
            b"\x62\x02\x00\x01",
        );
        check(2, &[b"\x50\x03\x00\x01\x97"], &[Step::Refused(0x97)], b"");
    }

    #[test]
    fn an_acknowledgement_out_of_order_is_an_error() {
        let (mut window, mut outbox) = (Window::new(1), outbox());
        window.send(0, Owed::for_qos(2));
        for bytes in [&b"\x70\x02\x00\x01"[..], b"\x40\x02\x00\x01", b"\x50\x02\x00\x02"] {
            let frame = decode::frame(bytes).unwrap().unwrap();
            assert!(settle(0, &frame, &mut window, &mut outbox).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn deliveries_are_answered_as_their_qos_asks() {
        let check = |qos, expected: &[u8], released| {
            let mut outbox = outbox();
            assert_eq!(answer_publish(0, qos, 0x0102, &mut outbox), released);
            assert_eq!(outbox.buffer(0), expected, "QoS {qos}");
        };
        check(0, b"", false);
        check(1, b"\x40\x02\x01\x02", false);
        check(2, b"\x50\x02\x01\x02", true);
    }
}
