//! `[limits]`, the part about what one client, one address and one user may do.

use super::section::Section;
use crate::defence::DefenceLimits;
use nervewire_core::limits::ClientLimits;

/// What one client may do; 0, where it is allowed: no bound.
pub(super) const PER_CLIENT: ClientLimits = ClientLimits {
    publish_bytes_per_s: 0,
    subscribe_rate_per_s: 0,
    over_rate_s: 600,
    takeovers_per_minute: 30,
    topic_levels: 128,
    topic_bytes: 65_535,
    subscriptions_per_client: 10_000,
    user_properties: 1_024,
    receive_maximum: 1_024,
    in_flight_messages: 256,
};

pub(super) fn per_client(section: &mut Section<'_>) -> ClientLimits {
    let default = PER_CLIENT;
    ClientLimits {
        publish_bytes_per_s: section.number_or_zero("publish_bytes_per_s", RATES, default.publish_bytes_per_s),
        subscribe_rate_per_s: section.number_or_zero("subscribe_rate_per_s", RATES, default.subscribe_rate_per_s),
        over_rate_s: section.number_or_zero("over_rate_s", 1..=86_400, default.over_rate_s),
        takeovers_per_minute: section.number_or_zero("takeovers_per_minute", 1..=100_000, default.takeovers_per_minute),
        topic_levels: section.bounded("topic_levels", 1..=65_536, default.topic_levels),
        topic_bytes: section.bounded("topic_bytes", 1..=65_535, default.topic_bytes),
        subscriptions_per_client: section.bounded(
            "subscriptions_per_client",
            1..=100_000_000,
            default.subscriptions_per_client,
        ),
        user_properties: section.bounded("user_properties", 0..=1_000_000, default.user_properties),
        receive_maximum: section.bounded("receive_maximum", 1..=65_535, default.receive_maximum),
        in_flight_messages: section.bounded("in_flight_messages", 1..=65_535, default.in_flight_messages),
    }
}

impl DefenceLimits {
    pub(super) const DEFAULT: Self = Self {
        connections_per_address: 0,
        connect_rate_per_s: 0,
        connect_rate_per_s_per_address: 0,
        failed_logins_per_minute: 60,
        failed_logins_per_hour: 600,
        failed_login_ban_s: 600,
        user_publish_rate_per_s: 0,
        address_publish_rate_per_s: 0,
    };

    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::DEFAULT;
        let mut rate = |key, default| section.number_or_zero(key, RATES, default);
        Self {
            connections_per_address: rate("connections_per_address", default.connections_per_address),
            connect_rate_per_s: rate("connect_rate_per_s", default.connect_rate_per_s),
            connect_rate_per_s_per_address: rate(
                "connect_rate_per_s_per_address",
                default.connect_rate_per_s_per_address,
            ),
            failed_logins_per_minute: rate("failed_logins_per_minute", default.failed_logins_per_minute),
            failed_logins_per_hour: rate("failed_logins_per_hour", default.failed_logins_per_hour),
            user_publish_rate_per_s: rate("user_publish_rate_per_s", default.user_publish_rate_per_s),
            address_publish_rate_per_s: rate("address_publish_rate_per_s", default.address_publish_rate_per_s),
            failed_login_ban_s: section.bounded("failed_login_ban_s", 1..=31_536_000, default.failed_login_ban_s),
        }
    }
}

/// Of anything per second; a token bucket counts in nanoseconds.
const RATES: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;
