//! The least a plugin made with the SDK can do: what remains is the cost of a call. Benchmarks and `tests/load/hooks.sh` load it.

use nervewire_plugin_sdk::{export, prelude::*};

struct Measured;

impl Plugin for Measured {
    type Config = ();

    fn init(_: (), _: Files) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Authenticate for Measured {
    /// Knows nobody.
    fn authenticate(&mut self, _: &Client, _: &Credentials) -> Authentication {
        Authentication::Abstain
    }
}

impl Authorize for Measured {
    /// Wants to be asked by everybody but `ruled`.
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        (client.client_id == "ruled").then(|| vec![Rule::allow().topic("#")])
    }

    /// Everything, except what is said about `denied/`.
    fn authorize(&mut self, _: &Client, request: &Request) -> Verdict {
        if request.topic.starts_with("denied/") {
            Verdict::deny()
        } else {
            Verdict::allow()
        }
    }
}

impl Transform for Measured {
    /// Gives a message to `replace/` back in full, and lets others pass.
    fn transform(&mut self, _: &Client, message: Message) -> Transformation {
        if message.topic.starts_with("replace/") {
            Transformation::Replace(message)
        } else {
            Transformation::Pass
        }
    }
}

export!(Measured: authenticate, authorize, transform);
