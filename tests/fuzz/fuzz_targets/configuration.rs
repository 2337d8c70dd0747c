//! Arbitrary text as a configuration: it is taken, or refused with what is wrong and where, and nothing in between.
#![no_main]
#![allow(dead_code, unused_imports)]

#[path = "../../../broker/server/src/config/mod.rs"]
mod config;
#[path = "../../../broker/server/src/defence/limits.rs"]
mod defence_limits;
#[path = "../../../broker/server/src/transport/mod.rs"]
mod transport;

/// No file that a fuzzer names is there: what is done with those that are is not what is looked at.
mod tls {
    use crate::config::TlsSettings;
    use std::fmt;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Part {
        Cert,
        Key,
        ClientCa,
        Crl(usize),
        SniName(usize),
        SniCert(usize),
        SniKey(usize),
    }

    #[derive(Debug)]
    pub(crate) struct TlsError(Part, PathBuf);

    impl TlsError {
        pub(crate) fn part(&self) -> Part {
            self.0
        }

        pub(crate) fn file(&self) -> &Path {
            &self.1
        }
    }

    impl fmt::Display for TlsError {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} is not there", self.1.display())
        }
    }

    pub(crate) fn server_config(settings: &TlsSettings) -> Result<(), TlsError> {
        Err(TlsError(Part::Cert, settings.cert.clone()))
    }

    pub(crate) struct Secured;

    impl Secured {
        /// Complains about everything that there may be.
        pub(crate) fn load(settings: &TlsSettings, _: Option<&Arc<Self>>) -> Result<Arc<Self>, Vec<TlsError>> {
            let positions = || 0..3;
            let parts = [Part::Cert, Part::Key, Part::ClientCa].into_iter();
            let parts = parts
                .chain(positions().map(Part::Crl))
                .chain(positions().map(Part::SniName));
            let parts = parts
                .chain(positions().map(Part::SniCert))
                .chain(positions().map(Part::SniKey));
            Err(parts.map(|part| TlsError(part, settings.cert.clone())).collect())
        }
    }
}

mod defence {
    pub(crate) use crate::defence_limits::DefenceLimits;
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
