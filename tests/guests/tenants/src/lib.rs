//! Places clients by their user name, `TENANT/NAME` or `NAME` for the common name space, and gives them the quotas that their
//! password lists, as in `rate=5,messages=3,bytes=1000,subscriptions=2`.

use nervewire_plugin_sdk::{Quotas, export, prelude::*};

struct Tenants;

impl Plugin for Tenants {
    type Config = ();

    fn init(_: (), _: Files) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Authenticate for Tenants {
    fn authenticate(&mut self, _: &Client, credentials: &Credentials) -> Authentication {
        let Some(claimed) = &credentials.username else {
            return Authentication::Abstain;
        };
        let identity = match claimed.split_once('/') {
            Some((tenant, name)) => Identity::named(name).tenant(tenant),
            None => Identity::named(claimed),
        };
        let list = credentials.password.as_deref().unwrap_or_default();
        match std::str::from_utf8(list).ok().and_then(quotas) {
            Some(quotas) => identity.quotas(quotas).into(),
            None => Authentication::Deny(Refusal::BadUserNameOrPassword),
        }
    }
}

fn quotas(list: &str) -> Option<Quotas> {
    let mut quotas = Quotas::default();
    for entry in list.split(',').filter(|entry| !entry.is_empty()) {
        let (name, number) = entry.split_once('=')?;
        match name {
            "rate" => quotas.publish_rate_per_second = Some(number.parse().ok()?),
            "messages" => quotas.queue_messages = Some(number.parse().ok()?),
            "bytes" => quotas.queue_bytes = Some(number.parse().ok()?),
            "subscriptions" => quotas.subscriptions = Some(number.parse().ok()?),
            _ => return None,
        }
    }
    Some(quotas)
}

export!(Tenants: authenticate);
