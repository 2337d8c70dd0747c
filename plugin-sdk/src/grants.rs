//! What a plugin says about the grants it wants.

/// Says what the plugin must be granted beyond what its imports show, so that the broker refuses a configuration without it and
/// names the line to write; or that it imports HTTP and works without, too.
///
/// ```
/// # use nervewire_plugin_sdk::grants;
/// grants!(wanted "publish:alerts/#", "publish:log");
/// grants!(optional "http");
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! grants {
    (optional "http") => {
        $crate::__grants!("optional http\n");
    };
    (wanted $($grant:literal),+ $(,)?) => {
        $crate::__grants!(::std::concat!($("wanted ", $grant, "\n"),+));
    };
}

/// Lines of the custom section `nervewire:grants`; elsewhere than on wasm there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __grants {
    ($lines:expr) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)] // The section's name is one that nobody else gives a meaning to.
        const _: () = {
            const LINES: &str = $lines;
            #[used]
            #[unsafe(link_section = "nervewire:grants")]
            static SECTION: [u8; LINES.len()] = $crate::grants::bytes(LINES);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: &str = $lines;
    };
}

/// A text as an array.
///
/// # Panics
/// Where its length is another; in a constant that is a compile error.
#[doc(hidden)]
pub const fn bytes<const N: usize>(text: &str) -> [u8; N] {
    let text = text.as_bytes();
    assert!(text.len() == N, "the length of the text");
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        bytes[at] = text[at];
        at += 1;
    }
    bytes
}
