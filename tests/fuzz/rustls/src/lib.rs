//! Names and the like by the path that rustls has for them.

pub use rustls_pki_types as pki_types;
