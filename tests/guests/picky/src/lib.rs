//! A guest whose `init` does what its configuration says: `refuse`, `tick`, `hurry`, or nothing. It also exports
//! `detect`, and finds nothing.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:picky;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/authorizer@0.1.1;
            include nervewire:plugin/detector@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{authorization, detection, lifecycle};
use nervewire::plugin::types::{Client, Message};

struct Guest;

impl lifecycle::Guest for Guest {
    fn init(config: String, _files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        if config.contains("refuse") {
            return Err("line 3: there is no such user".into());
        }
        let tick_milliseconds = match config.as_str() {
            config if config.contains("hurry") => Some(9),
            config if config.contains("tick") => Some(250),
            _ => None,
        };
        Ok(lifecycle::Ready { tick_milliseconds })
    }

    fn tick(_now: u64) -> Vec<Message> {
        Vec::new()
    }
}

impl authorization::Guest for Guest {
    fn rules(_client: Client) -> Option<Vec<authorization::Rule>> {
        None
    }

    fn authorize(_client: Client, _request: authorization::Request) -> authorization::Verdict {
        authorization::Verdict {
            decision: authorization::Decision::Abstain,
            cache_milliseconds: 0,
            depends_on: authorization::Dependencies::empty(),
        }
    }
}

impl detection::Guest for Guest {
    fn detect(_windows: Vec<detection::Window>) -> Vec<detection::Finding> {
        Vec::new()
    }
}

export!(Guest);
