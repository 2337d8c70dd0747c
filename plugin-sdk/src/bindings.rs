//! Generated from wit/, which lies beside this package in the repository and in the crates of `nervewire plugin new`.
//!
//! One module per world: the macros they make put only those worlds into a component whose hooks it implements.

#![allow(unsafe_code, missing_docs, unreachable_pub, rust_2018_idioms, clippy::all)]

pub mod base {
    wit_bindgen::generate!({
        path: "../wit",
        world: "base",
        pub_export_macro: true,
        export_macro_name: "export_base",
        generate_unused_types: true,
    });
}

pub mod authenticator {
    wit_bindgen::generate!({
        path: "../wit",
        world: "authenticator",
        pub_export_macro: true,
        export_macro_name: "export_authenticator",
        with: { "nervewire:plugin/types@0.1.1": crate::bindings::base::nervewire::plugin::types },
    });
}

pub mod authorizer {
    wit_bindgen::generate!({
        path: "../wit",
        world: "batch-authorizer",
        pub_export_macro: true,
        export_macro_name: "export_authorizer",
        with: { "nervewire:plugin/types@0.1.1": crate::bindings::base::nervewire::plugin::types },
    });
}

pub mod transformer {
    wit_bindgen::generate!({
        path: "../wit",
        world: "batch-transformer",
        pub_export_macro: true,
        export_macro_name: "export_transformer",
        with: { "nervewire:plugin/types@0.1.1": crate::bindings::base::nervewire::plugin::types },
    });
}

pub mod detector {
    wit_bindgen::generate!({
        path: "../wit",
        world: "detector",
        pub_export_macro: true,
        export_macro_name: "export_detector",
    });
}

pub use authenticator::exports::nervewire::plugin::authentication;
pub use authorizer::exports::nervewire::plugin::{authorization, authorization_batch};
pub use base::exports::nervewire::plugin::lifecycle;
pub use base::nervewire::plugin as host;
pub use base::nervewire::plugin::types;
pub use detector::exports::nervewire::plugin::detection;
pub use transformer::exports::nervewire::plugin::{transformation, transformation_batch};
