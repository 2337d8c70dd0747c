//! Arbitrary text as a configuration: it is taken, or refused with what is wrong and where, and nothing in between.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../broker/server/src/config/mod.rs"]
mod config;
#[path = "../../../broker/server/src/transport/mod.rs"]
mod transport;

/// No file that a fuzzer names is there: what is done with those that are is not what is looked at.
mod tls {
    use std::path::{Path, PathBuf};

    #[derive(Debug)]
    pub(crate) struct TlsError(PathBuf);

    impl TlsError {
        pub(crate) fn file(&self) -> &Path {
            &self.0
        }
    }

    impl std::fmt::Display for TlsError {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} is not there", self.0.display())
        }
    }

    pub(crate) fn server_config(settings: &crate::config::TlsSettings) -> Result<(), TlsError> {
        Err(TlsError(settings.cert.clone()))
    }
}

use config::Config;
use libfuzzer_sys::fuzz_target;
use std::path::Path;

const BUILTINS: [&str; 3] = ["acl", "password", "jwt"];

fuzz_target!(|text: &str| {
    let nowhere = Path::new("/nonexistent");
    match Config::parse(text, "fuzzed.toml", nowhere, &BUILTINS) {
        Ok(config) => {
            assert!(!config.summary().is_empty());
            assert!(config::restart_only_changes(&config, &config).is_empty());
            config.watched_files();
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused for nothing");
            let lines = text.matches('\n').count() + 1;
            for error in &errors.0 {
                let position = error.position.expect("a text was read");
                assert!(
                    (1..=lines).contains(&position.line) && position.column >= 1,
                    "{error:?}"
                );
                assert!(!error.message.is_empty() && error.to_string().starts_with("fuzzed.toml:"));
            }
        }
    }
});
