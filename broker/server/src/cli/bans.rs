//! `nervewire bans`.

use super::{AdminArgs, ListArgs};
use crate::admin::bans::BanTarget;
use clap::{Args, Subcommand};

/// Arguments of `bans`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BansArgs {
    #[command(subcommand)]
    pub command: Option<BansCommand>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// What to do with bans.
#[derive(Debug, Subcommand)]
pub(crate) enum BansCommand {
    /// List the bans in force
    List(ListArgs),
    /// Ban a client, a user, an address or a network, and disconnect whom it concerns
    Add(BanAddArgs),
    /// End a ban
    Lift(BanLiftArgs),
}

/// Whom a ban concerns.
#[derive(Debug, Args)]
pub(crate) struct SubjectArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// Tenant of the client or user; without one it is banned in all of them
    #[arg(long, value_name = "TENANT", conflicts_with_all = ["address", "network"])]
    tenant: Option<String>,
}

/// One of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhomArgs {
    /// Client identifier
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// User name
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// IP address
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// IP network, such as 192.0.2.0/24
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
}

/// Arguments of `bans add`.
#[derive(Debug, Args)]
pub(crate) struct BanAddArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// For how long: 90s, 30m, 12h, 7d [default: until it is lifted]
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub seconds: Option<u64>,
    /// Why, for whoever looks at the list
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Arguments of `bans lift`.
#[derive(Debug, Args)]
pub(crate) struct BanLiftArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    #[command(flatten)]
    pub list: ListArgs,
}

impl BansArgs {
    pub(super) fn admin(&self) -> &AdminArgs {
        match &self.command {
            None => &self.list.admin,
            Some(BansCommand::List(list)) => &list.admin,
            Some(BansCommand::Add(args)) => &args.list.admin,
            Some(BansCommand::Lift(args)) => &args.list.admin,
        }
    }
}

impl BanAddArgs {
    /// The request that they say.
    pub(crate) fn target(&self) -> BanTarget {
        BanTarget {
            seconds: self.seconds,
            reason: self.reason.clone(),
            ..self.subject.target()
        }
    }
}

impl SubjectArgs {
    /// The request that they say.
    pub(crate) fn target(&self) -> BanTarget {
        BanTarget {
            client: self.whom.client.clone(),
            user: self.whom.user.clone(),
            address: self.whom.address.clone(),
            network: self.whom.network.clone(),
            tenant: self.tenant.clone(),
            ..BanTarget::default()
        }
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and s, m, h or d, for example 12h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    number
        .checked_mul(factor)
        .filter(|seconds| *seconds > 0)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, expected) in [("90s", 90), ("30m", 1_800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for text in ["", "5", "h", "0s", "-1h", "1.5h", "1w", "99999999999999999999d", "1ä"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
