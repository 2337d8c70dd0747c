//! Where the broker is, and what the arguments may say.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{encode, opening, process};

/// MQTT version spoken by the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    /// MQTT 3.1.1
    #[value(name = "4")]
    V4,
    /// MQTT 5.0
    #[value(name = "5")]
    V5,
}

impl Version {
    /// The protocol level in CONNECT.
    pub(super) fn level(self) -> u8 {
        match self {
            Version::V4 => 4,
            Version::V5 => 5,
        }
    }
}

/// Where the broker is and how to get in.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TargetArgs {
    /// Host name or address of the broker
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// TCP port of the broker
    #[arg(long, default_value_t = 1883)]
    port: u16,
    /// MQTT version: 4 = 3.1.1, 5 = 5.0
    #[arg(long = "version", value_enum, default_value = "4")]
    pub(super) version: Version,
    /// User name
    #[arg(long, value_parser = short_text)]
    username: Option<String>,
    /// Password
    #[arg(long, requires = "username", value_parser = short_text)]
    password: Option<String>,
    /// Beginning of all client identifiers [default: bench-PID-]
    #[arg(long, value_parser = short_text)]
    client_prefix: Option<String>,
    /// Process id of a broker on this machine, whose processor time and memory are then measured
    #[arg(long)]
    pid: Option<u32>,
    /// Give up when nothing has moved for this many seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) stall_seconds: u64,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl TargetArgs {
    fn address(&self) -> anyhow::Result<SocketAddr> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut addresses = found.with_context(|| format!("cannot resolve {}", self.host))?;
        addresses
            .next()
            .with_context(|| format!("{} has no address", self.host))
    }

    /// How to connect, `rate` times a second at most (0: no bound).
    pub(super) fn terms(&self, rate: f64) -> anyhow::Result<opening::Terms> {
        let credentials = encode::Credentials {
            username: self.username.clone(),
            password: self.password.clone(),
        };
        let stall = self.stall();
        Ok(opening::Terms {
            target: self.address()?,
            version: self.version,
            credentials,
            rate,
            stall,
        })
    }

    pub(super) fn stall(&self) -> Duration {
        Duration::from_secs(self.stall_seconds)
    }

    pub(super) fn client_prefix(&self) -> String {
        self.client_prefix
            .clone()
            .unwrap_or_else(|| format!("bench-{}-", std::process::id()))
    }

    pub(super) fn process(&self) -> anyhow::Result<Option<process::Process>> {
        self.pid.map(process::Process::find).transpose()
    }
}

/// Text that fits into an MQTT string, also when a number follows it.
pub(super) fn short_text(text: &str) -> Result<String, String> {
    const MAX_BYTES: usize = 65_000;
    match text {
        _ if text.len() > MAX_BYTES => Err(format!("longer than {MAX_BYTES} bytes")),
        _ if text.contains('\0') => Err("MQTT text has no U+0000 [MQTT-1.5.4-2]".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// The same for a part of a topic name.
pub(super) fn topic_text(text: &str) -> Result<String, String> {
    if text.contains(['+', '#']) {
        return Err("a topic name has no wildcards [MQTT-3.3.2-2]".to_owned());
    }
    short_text(text)
}

/// A number of seconds to do something.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e6).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0 and 1,000,000".to_owned())
    }
}

/// A number per second.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let value = text.parse().map_err(|_| "not a number".to_owned())?;
    if (1e-3..=1e9).contains(&value) {
        Ok(value)
    } else {
        Err("not between 0.001 and 1,000,000,000".to_owned())
    }
}

/// Raises the limit on open files as far as it goes without privileges, and checks that `connections` fit.
pub(super) fn make_room_for(connections: usize) -> anyhow::Result<()> {
    /// Files besides the connections: standard streams, selector, timer, listener, `/proc`.
    const OTHER_FILES: u64 = 32;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + OTHER_FILES;
    if current.is_some_and(|current| current < wanted) {
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
        .context("cannot raise the file limit")?;
    }
    match maximum {
        Some(most) if most < wanted => {
            bail!("{connections} connections need {wanted} open files; `ulimit -Hn` is {most}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_into_mqtt_strings() {
        assert!(short_text("bench-").is_ok());
        assert!(short_text("a\0b").is_err());
        assert!(short_text(&"x".repeat(65_001)).is_err());
        assert!(topic_text("a/b").is_ok());
        assert!(topic_text("a/+").is_err());
        assert!(topic_text("a/#").is_err());
    }

    #[test]
    fn times_and_rates_are_positive_numbers() {
        for bad in ["", "x", "-1", "NaN", "inf", "1e10"] {
            assert!(seconds(bad).is_err(), "{bad}");
            assert!(positive(bad).is_err(), "{bad}");
        }
        assert_eq!(seconds("0"), Ok(0.0));
        assert!(positive("0").is_err());
        assert_eq!(positive("0.5"), Ok(0.5));
    }
}
