//! A guest that tags each message with a number. It stands in the component as text, where tests replace it: one build makes
//! as many components that differ as a test of hot loading needs.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:generation;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/transformer@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{lifecycle, transformation};
use nervewire::plugin::types::{Client, Message, Property};

/// The number is what follows the colon.
static MARK: &str = "nervewire-test-generation:0000";

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
    fn transform(_client: Client, mut message: Message) -> transformation::Outcome {
        // Hidden from the compiler, which must not compute with the number that is there when it compiles.
        let mark = std::hint::black_box(MARK);
        let number = mark.rsplit(':').next().unwrap_or_default();
        message.user_properties.push(Property {
            name: "generation".into(),
            value: number.into(),
        });
        transformation::Outcome::Replace(message)
    }
}

export!(Guest);
