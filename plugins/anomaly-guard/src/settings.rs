//! What the configuration says: which rules there are, when they apply, and what is to be done.

use nervewire_plugin_sdk::serde::Deserialize;

/// The `config` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(crate = "nervewire_plugin_sdk::serde", deny_unknown_fields, default)]
pub struct Config {
    /// Every finding is an alert, whatever its rule asks for; that is said in the evidence.
    pub alert_only: bool,
    /// Windows in which a client is learned before it is compared with itself.
    pub warm_up_windows: u32,
    /// Windows after which what a client did counts half.
    pub half_life_windows: u32,
    /// What a client does at this hour (UTC) every day is not odd.
    pub hour_of_day: bool,
    /// Clients that are known at a time. Those that were learned least, and seen longest ago, are forgotten for others.
    pub max_clients: usize,
    /// Windows in which a rule that has spoken about a client does not do so again.
    pub quiet_windows: u32,
    /// The rules.
    pub rules: Rules,
}

/// One table for each rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(crate = "nervewire_plugin_sdk::serde", deny_unknown_fields, default)]
pub struct Rules {
    /// Far more messages than ever, or more than usual for a long time.
    pub rate_spike: RateSpike,
    /// A client that always sends sends nothing.
    pub silence: Silence,
    /// More topics than ever.
    pub topic_scan: TopicScan,
    /// Denied more often than ever.
    pub denial_burst: DenialBurst,
    /// Many clients, or one client many times, failed to log in.
    pub credential_stuffing: CredentialStuffing,
    /// Payloads of another size than ever.
    pub payload_drift: PayloadDrift,
    /// Two in two places take turns, or a new place comes with a new behaviour.
    pub stolen_identity: StolenIdentity,
}

/// What is to be done about a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(crate = "nervewire_plugin_sdk::serde", rename_all = "snake_case")]
pub enum Response {
    /// The rule is off.
    Off,
    /// A person is told.
    #[default]
    Alert,
    /// So many messages per second from now on.
    Throttle(u32),
    /// Its connection ends.
    Disconnect,
    /// It stays outside for so many seconds.
    Ban(u32),
}

macro_rules! rule {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(crate = "nervewire_plugin_sdk::serde", deny_unknown_fields, default)]
        pub struct $name {
            /// What is to be done.
            pub response: Response,
            $($(#[$field_about])* pub $field: $kind,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { response: Response::default(), $($field: $default,)* }
            }
        }
    };
}

rule! {
    /// `rules.rate_spike`.
    RateSpike {
        /// Fewer messages per second than this are no spike.
        min_messages_per_second: f64 = 5.0,
        /// So many times the usual rate; eight times as many of a client that was first seen less than a day ago.
        factor: f64 = 4.0,
        /// Of a client that is not known yet.
        new_client_messages_per_second: f64 = 100.0,
    }
}

rule! {
    /// `rules.silence`.
    Silence {
        /// Windows without a message.
        windows: u32 = 5,
        /// Only of clients that were first seen so long ago, so that their nights are known.
        known_hours: u32 = 36,
    }
}

rule! {
    /// `rules.topic_scan`.
    TopicScan {
        /// Fewer topics in a window than this are no scan.
        min_topics: u32 = 40,
        /// So many times the usual number.
        factor: f64 = 3.0,
        /// Of a client that is not known yet.
        new_client_topics: u32 = 1_000,
    }
}

rule! {
    /// `rules.denial_burst`.
    DenialBurst {
        /// Fewer denials in a window than this are no burst.
        min_denials: u32 = 10,
        /// So many times the usual number.
        factor: f64 = 5.0,
        /// Of a client that is not known yet.
        new_client_denials: u32 = 30,
    }
}

rule! {
    /// `rules.credential_stuffing`.
    CredentialStuffing {
        /// Clients that fail from one address in a window.
        clients_per_address: u32 = 8,
        /// Failures of one client in a window.
        failures_per_client: u32 = 20,
        /// Clients that fail in a window, wherever they are, where that is also four times as many as usual.
        clients: u32 = 50,
    }
}

rule! {
    /// `rules.payload_drift`.
    PayloadDrift {
        /// So many times as large, or as small.
        factor: f64 = 4.0,
        /// Fewer messages in a window say nothing.
        min_messages: u32 = 5,
    }
}

rule! {
    /// `rules.stolen_identity`.
    StolenIdentity {
        /// How often the client must have come back to an address that it had left, within ten windows.
        returns: u32 = 2,
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            alert_only: true,
            warm_up_windows: 30,
            half_life_windows: 60,
            hour_of_day: false,
            max_clients: 20_000,
            quiet_windows: 30,
            rules: Rules::default(),
        }
    }
}

impl Config {
    /// # Errors
    /// What is wrong, for the person who wrote it.
    pub fn check(&self) -> Result<(), String> {
        within("warm_up_windows", u64::from(self.warm_up_windows), 2, 100_000)?;
        within("half_life_windows", u64::from(self.half_life_windows), 2, 100_000)?;
        within("max_clients", self.max_clients as u64, 1, 1_000_000)?;
        within("quiet_windows", u64::from(self.quiet_windows), 0, 100_000)?;
        self.rules.check()
    }
}

impl Rules {
    fn check(&self) -> Result<(), String> {
        for (name, response) in self.responses() {
            if matches!(response, Response::Throttle(0) | Response::Ban(0)) {
                return Err(format!(
                    "rules.{name}.response: 0 would do nothing; write 1 or more, or \"off\""
                ));
            }
        }
        let factors = [
            ("rate_spike.factor", self.rate_spike.factor, 1.1),
            ("topic_scan.factor", self.topic_scan.factor, 1.1),
            ("denial_burst.factor", self.denial_burst.factor, 1.1),
            ("payload_drift.factor", self.payload_drift.factor, 1.1),
            (
                "rate_spike.min_messages_per_second",
                self.rate_spike.min_messages_per_second,
                0.001,
            ),
            (
                "rate_spike.new_client_messages_per_second",
                self.rate_spike.new_client_messages_per_second,
                0.001,
            ),
        ];
        for (name, value, least) in factors {
            if !value.is_finite() || value < least {
                return Err(format!("rules.{name} = {value}; write a number of at least {least}"));
            }
        }
        let stuffing = &self.credential_stuffing;
        let counts = [
            ("silence.windows", self.silence.windows),
            ("silence.known_hours", self.silence.known_hours),
            ("topic_scan.min_topics", self.topic_scan.min_topics),
            ("topic_scan.new_client_topics", self.topic_scan.new_client_topics),
            ("denial_burst.min_denials", self.denial_burst.min_denials),
            ("denial_burst.new_client_denials", self.denial_burst.new_client_denials),
            ("credential_stuffing.clients_per_address", stuffing.clients_per_address),
            ("credential_stuffing.failures_per_client", stuffing.failures_per_client),
            ("credential_stuffing.clients", stuffing.clients),
            ("payload_drift.min_messages", self.payload_drift.min_messages),
            ("stolen_identity.returns", self.stolen_identity.returns),
        ];
        let zero = counts.into_iter().find(|(_, count)| *count == 0);
        zero.map_or(Ok(()), |(name, _)| {
            Err(format!(
                "rules.{name} = 0; write 1 or more, or response = \"off\" to end the rule"
            ))
        })
    }

    fn responses(&self) -> [(&'static str, Response); 7] {
        [
            ("rate_spike", self.rate_spike.response),
            ("silence", self.silence.response),
            ("topic_scan", self.topic_scan.response),
            ("denial_burst", self.denial_burst.response),
            ("credential_stuffing", self.credential_stuffing.response),
            ("payload_drift", self.payload_drift.response),
            ("stolen_identity", self.stolen_identity.response),
        ]
    }
}

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("{name} = {value}; write a number from {least} to {most}"))
}
