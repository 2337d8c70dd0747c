//! Randomness fit for secrets. Needs the grant `random`.

/// So many random bytes.
///
/// The stand-in on other targets than wasm answers the same sequence in every test, so that tests can be repeated: it
/// is fit for nothing else.
pub fn bytes(length: u32) -> Vec<u8> {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::host::random::bytes(length);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::native::with(|host| host.random(length));
}
