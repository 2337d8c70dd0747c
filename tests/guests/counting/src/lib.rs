//! A guest that counts messages in the key-value store, and needs the grants `kv` and `random` for it.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:counting;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/transformer@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{lifecycle, transformation};
use nervewire::plugin::types::{Client, Message};
use nervewire::plugin::{kv, random};

struct Guest;

impl lifecycle::Guest for Guest {
    fn init(_config: String, _files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        Ok(lifecycle::Ready {
            tick_milliseconds: None,
        })
    }

    fn tick(_now: u64) -> Vec<Message> {
        Vec::new()
    }
}

impl transformation::Guest for Guest {
    /// The payload becomes what the topic asks for.
    fn transform(_client: Client, message: Message) -> transformation::Outcome {
        let payload = match message.topic.as_str() {
            "count" => format!("{:?}", kv::increment("messages", 1, None)),
            "get" => format!("{:?}", kv::get("messages")),
            "set" => format!("{:?}", kv::set("messages", b"40", None)),
            "set-briefly" => format!("{:?}", kv::set("messages", b"brief", Some(50))),
            "delete" => format!("{:?}", kv::delete("messages")),
            "swap" => format!("{:?}", kv::compare_and_swap("messages", Some(b"40"), Some(b"41"), None)),
            "too-large" => format!("{:?}", kv::set(&"k".repeat(1025), b"", None)),
            "random" => random::bytes(16).iter().map(|byte| format!("{byte:02x}")).collect(),
            "much-random" => random::bytes(1 << 20).len().to_string(),
            _ => return transformation::Outcome::Pass,
        };
        transformation::Outcome::Replace(Message {
            payload: payload.into_bytes(),
            ..message
        })
    }
}

export!(Guest);
