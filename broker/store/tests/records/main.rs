//! Every record is read back as it was written, and bytes that are none are refused.

mod arbitrary;

use nervewire_codec::Version;
use nervewire_core::hook::{Client, Quotas};
use nervewire_core::store::{Record, SessionState};
use nervewire_store::record::{decode, encode};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::sync::Arc;

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(record, &mut bytes);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_was_written_is_read_back(record in arbitrary::record()) {
        prop_assert_eq!(decode(&encoded(&record)), Ok(record));
    }

    #[test]
    fn a_part_of_a_record_is_refused(record in arbitrary::record(), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&record);
        prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn what_stands_behind_a_record_is_refused(record in arbitrary::record(), more in any::<u8>()) {
        let mut bytes = encoded(&record);
        bytes.push(more);
        prop_assert!(decode(&bytes).is_err());
    }

    /// Whatever decodes says the same when it is written again, though it may have been written in more bytes.
    #[test]
    fn a_damaged_record_is_refused_or_another_record(
        record in arbitrary::record(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encoded(&record);
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if let Ok(other) = decode(&bytes) {
            prop_assert_eq!(decode(&encoded(&other)), Ok(other));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }
}

/// The format is what was written before: a change of these bytes needs a new version.
#[test]
fn the_format_is_what_it_was() {
    let key = nervewire_core::store::ClientKey {
        tenant: None,
        client_id: "pump".into(),
    };
    let acknowledged = Record::Acknowledged {
        session: key.clone(),
        order: 300,
    };
    assert_eq!(encoded(&acknowledged), b"\x06\x00\x04pump\xAC\x02");
    assert_eq!(encoded(&Record::Gone(key)), b"\x02\x00\x04pump");
    let rest = b"\x04pump\x00\x04\x7F\x00\x00\x01\x87\x26\x01l\x05\x00\x00\x00\x3C\x00\x00";
    assert_eq!(encoded(&session(Quotas::default())), [b"\x01", &rest[..]].concat());
    let quotas = Quotas {
        queue_messages: Some(5),
        queue_bytes: Some(300),
        ..Quotas::default()
    };
    let bounded = b"\x0F\x00\x01\x05\x01\xAC\x02\x00";
    assert_eq!(encoded(&session(quotas)), [&bounded[..], &rest[..]].concat());
}

fn session(quotas: Quotas) -> Record {
    let client = Client {
        client_id: "pump".into(),
        username: None,
        address: Ipv4Addr::LOCALHOST.into(),
        port: 4871,
        listener: "l".into(),
        protocol: Version::V5,
        certificate: None,
        attributes: Vec::new(),
        tenant: None,
    };
    Record::Session(Box::new(SessionState {
        client: Arc::new(client),
        quotas,
        expiry_interval_s: 60,
        expires_at: None,
        will: None,
    }))
}
