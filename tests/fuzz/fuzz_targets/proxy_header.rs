//! Arbitrary bytes where a PROXY header is expected: what is a header stays one whatever follows, is waited for until then, and what is none
//! never becomes one.
#![no_main]
#![allow(dead_code)]

#[path = "../../../broker/server/src/transport/proxy.rs"]
mod proxy;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let whole = proxy::parse(data);
    match whole {
        Ok(Some(header)) => {
            assert!(header.len <= data.len() && header.len <= proxy::HEADER_BYTES);
            assert_eq!(
                proxy::parse(&data[..header.len]),
                whole,
                "what follows is somebody else's"
            );
            for cut in 0..header.len {
                assert_eq!(proxy::parse(&data[..cut]), Ok(None), "it is whole after {cut} bytes");
            }
        }
        Ok(None) => {
            assert!(data.len() < proxy::HEADER_BYTES, "it is waited for without end");
            for cut in 0..data.len() {
                assert_eq!(proxy::parse(&data[..cut]), Ok(None));
            }
        }
        Err(_) => {
            let more = [data, b"\r\n\0PROXY"].concat();
            assert!(proxy::parse(&more).is_err(), "more bytes make it a header");
        }
    }
});
