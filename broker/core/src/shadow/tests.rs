use super::*;
use crate::hook::Transformation;
use nervewire_codec::{QoS, ReasonCode};

fn message(payload: &str) -> AppMessage {
    AppMessage {
        topic: "t".try_into().unwrap(),
        payload: bytes::Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: None,
    }
}

#[test]
fn a_difference_is_named_by_what_would_have_become_of_the_message() {
    let (x, y) = (message("x"), message("y"));
    let check = |enforced: Transformation, shadow: Transformation, expected: Option<Kind>| {
        let (a, b) = (Outcome::new(&x, &enforced), Outcome::new(&x, &shadow));
        assert_eq!(difference(&x, &a, &b), expected, "{enforced:?}, {shadow:?}");
    };
    use Transformation::{Drop, Emit, Pass, Reject, Replace};
    let reject = || Reject(ReasonCode::PayloadFormatInvalid);
    check(Pass, Pass, None);
    check(Pass, Replace(x.clone()), None);
    check(Replace(y.clone()), Emit(vec![y.clone()]), None);
    check(Drop, Emit(Vec::new()), None);
    check(reject(), reject(), None);
    check(Pass, Replace(y.clone()), Some(Kind::WouldChange));
    check(Replace(y.clone()), Pass, Some(Kind::WouldPass));
    check(Drop, Pass, Some(Kind::WouldPass));
    check(Pass, Drop, Some(Kind::WouldDrop));
    check(Pass, reject(), Some(Kind::WouldReject));
    check(Pass, Emit(vec![x.clone(), y.clone()]), Some(Kind::WouldEmit));
    check(reject(), Reject(ReasonCode::NotAuthorized), Some(Kind::WouldReject));
}
