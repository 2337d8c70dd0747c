//! Whom a ban concerns.

use nervewire_core::store::BannedSubject;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Whom a ban concerns. Names without a tenant concern that name in every tenant, and outside of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Subject {
    /// A client identifier.
    ClientId(Name),
    /// A user name: the one that an authenticator gave the client, or that its CONNECT claims.
    User(Name),
    /// One address, IPv4 or IPv6.
    Address(IpAddr),
    /// All addresses that begin with so many bits of this one.
    Network(IpAddr, u8),
}

/// A name, where it says so of one tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) tenant: Option<String>,
}

impl Name {
    pub(crate) fn new(name: &str, tenant: Option<&str>) -> Self {
        Self {
            name: name.to_owned(),
            tenant: tenant.map(str::to_owned),
        }
    }
}

impl Subject {
    pub(crate) fn client_id(client_id: &str, tenant: Option<&str>) -> Self {
        Self::ClientId(Name::new(client_id, tenant))
    }

    pub(crate) fn user(username: &str, tenant: Option<&str>) -> Self {
        Self::User(Name::new(username, tenant))
    }

    /// The one address, or of an IPv6 address the /64, which is what one customer has.
    pub(crate) fn whole_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self::Address(v4),
            v6 @ IpAddr::V6(_) => Self::Network(masked(v6, ADDRESS_BITS_V6), ADDRESS_BITS_V6),
        }
    }

    /// The same subject in the one form that is compared: IPv4 as IPv4, and a network without the bits of its hosts.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Address(address) => Self::Address(address.to_canonical()),
            // A network of one address is that address.
            Self::Network(address, bits) if bits >= width(address) => Self::Address(address.to_canonical()),
            Self::Network(address, bits) => match (address, address.to_canonical()) {
                // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
                (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if bits >= MAPPED_BITS => {
                    Self::Network(masked(v4, bits - MAPPED_BITS), bits - MAPPED_BITS)
                }
                (address, _) => Self::Network(masked(address, bits), bits),
            },
            named => named,
        }
    }

    /// As the store keeps it.
    pub(super) fn stored(&self) -> BannedSubject {
        let tenant = |name: &Name| name.tenant.as_deref().map(Arc::from);
        match self {
            Self::ClientId(name) => BannedSubject::ClientId {
                tenant: tenant(name),
                client_id: name.name.as_str().into(),
            },
            Self::User(name) => BannedSubject::User {
                tenant: tenant(name),
                username: name.name.as_str().into(),
            },
            Self::Address(address) => BannedSubject::Network {
                address: *address,
                bits: width(*address),
            },
            Self::Network(address, bits) => BannedSubject::Network {
                address: *address,
                bits: *bits,
            },
        }
    }

    /// As it was before it was stored.
    pub(super) fn restored(stored: &BannedSubject) -> Self {
        match stored {
            BannedSubject::ClientId { tenant, client_id } => Self::client_id(client_id, tenant.as_deref()),
            BannedSubject::User { tenant, username } => Self::user(username, tenant.as_deref()),
            BannedSubject::Network { address, bits } => Self::Network(*address, *bits).canonical(),
        }
    }

    /// What kind of subject it is, as the admin API calls it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::ClientId(_) => "client",
            Self::User(_) => "user",
            Self::Address(_) => "address",
            Self::Network(..) => "network",
        }
    }

    /// Its name or address alone.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::ClientId(name) | Self::User(name) => name.name.clone(),
            Self::Address(address) => address.to_string(),
            Self::Network(address, bits) => format!("{address}/{bits}"),
        }
    }

    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::ClientId(name) | Self::User(name) => name.tenant.as_deref(),
            Self::Address(_) | Self::Network(..) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.text())?;
        match self.tenant() {
            Some(tenant) => write!(f, " of tenant {tenant}"),
            None => Ok(()),
        }
    }
}

/// Bits of an IPv6 address that count as one address.
pub(crate) const ADDRESS_BITS_V6: u8 = 64;
const MAPPED_BITS: u8 = 96;

/// Bits of such an address.
pub(crate) fn width(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The first bits of an address, the others zero.
pub(crate) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_keeps_its_own_bits_alone() {
        assert_eq!(masked(address("10.1.2.3"), 8), address("10.0.0.0"));
        assert_eq!(masked(address("10.1.2.3"), 0), address("0.0.0.0"));
        assert_eq!(masked(address("10.1.2.3"), 32), address("10.1.2.3"));
        assert_eq!(masked(address("2001:db8::1"), 32), address("2001:db8::"));
        assert_eq!(masked(address("2001:db8::1"), 0), address("::"));
        assert_eq!(masked(address("2001:db8::1"), 200), address("2001:db8::1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_however_it_came() {
        let mapped = Subject::Address(address("::ffff:10.1.2.3")).canonical();
        assert_eq!(mapped, Subject::Address(address("10.1.2.3")));
        let mapped = Subject::Network(address("::ffff:10.1.2.3"), 104).canonical();
        assert_eq!(mapped, Subject::Network(address("10.0.0.0"), 8));
    }

    #[test]
    fn a_network_of_one_address_is_that_address() {
        let one = Subject::Address(address("10.1.2.3"));
        assert_eq!(Subject::Network(address("10.1.2.3"), 32).canonical(), one);
        assert_eq!(Subject::Network(address("::ffff:10.1.2.3"), 128).canonical(), one);
    }

    #[test]
    fn a_subject_comes_back_from_the_store_as_it_was() {
        for subject in [
            Subject::client_id("c", None),
            Subject::user("u", Some("acme")),
            Subject::Address(address("10.1.2.3")),
            Subject::Address(address("2001:db8::1")),
            Subject::Network(address("10.0.0.0"), 8),
            Subject::Network(address("2001:db8::"), 32),
        ] {
            assert_eq!(Subject::restored(&subject.stored()), subject);
        }
    }

    #[test]
    fn an_automatic_ban_takes_the_whole_customer_of_an_ipv6_address() {
        let subject = Subject::whole_address(address("2001:db8:1:2:3:4:5:6"));
        assert_eq!(subject, Subject::Network(address("2001:db8:1:2::"), 64));
        assert_eq!(
            Subject::whole_address(address("::ffff:1.2.3.4")),
            Subject::Address(address("1.2.3.4"))
        );
    }
}
