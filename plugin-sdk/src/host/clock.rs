//! The time.

/// Unix time in milliseconds.
pub fn now_ms() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::host::clock::now();
    #[cfg(not(target_arch = "wasm32"))]
    return crate::native::with(|host| host.now_ms);
}
