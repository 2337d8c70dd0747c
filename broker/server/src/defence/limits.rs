//! What the configuration bounds of addresses and users; the fuzz target of the configuration has this file, too.

/// The part of `[limits]` that is about addresses and users; 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DefenceLimits {
    pub(crate) connections_per_address: u32,
    pub(crate) connect_rate_per_s: u32,
    pub(crate) connect_rate_per_s_per_address: u32,
    pub(crate) failed_logins_per_minute: u32,
    pub(crate) failed_logins_per_hour: u32,
    pub(crate) failed_login_ban_s: u32,
    pub(crate) user_publish_rate_per_s: u32,
    pub(crate) address_publish_rate_per_s: u32,
}
