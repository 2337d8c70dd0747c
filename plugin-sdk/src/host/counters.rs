//! Counters in the broker's metrics: `nervewire_plugin_counter_total{plugin,counter}`.

/// Adds to a counter. Names are lower-case ASCII letters, digits and `_`, at most 64 bytes; at most 64 names per plugin.
/// Others are dropped and counted.
pub fn add(name: &str, delta: u64) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::host::counters::add(name, delta);
    #[cfg(not(target_arch = "wasm32"))]
    crate::native::with(|host| host.add(name, delta));
}
