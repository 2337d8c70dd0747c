//! A plugin that keeps what calls bring instead of freeing it: messages it was given whole, and parts of others. What it keeps must
//! stay what it was, whatever later calls bring.

use nervewire_plugin_sdk::{Property, export, prelude::*};

/// Each message's topic says what its payload is full of.
struct Keeping {
    messages: Vec<Message>,
    topics: Vec<String>,
}

impl Plugin for Keeping {
    type Config = ();

    fn init(_: (), _: Files) -> Result<Self, String> {
        let (messages, topics) = (Vec::new(), Vec::new());
        Ok(Self { messages, topics })
    }
}

impl Transform for Keeping {
    /// `keep/BYTE`: kept. `grow/BYTE`: kept, and made longer. `topic/...`: only the topic is. `check`: rejected where something is not as it was,
    /// else its answer is how much is kept. `forget`: nothing is kept any more. `echo`: given back as it came. `facts`: the client,
    /// as it prints. `trap`: the end.
    fn transform(&mut self, client: &Client, mut message: Message) -> Transformation {
        match message.topic.split('/').next() {
            Some("keep") => self.messages.push(message),
            Some("grow") => {
                let byte = expected(&message.topic);
                message.payload.extend(std::iter::repeat_n(byte, 700));
                message.user_properties.push(Property::new("grown", "grown"));
                self.messages.push(message);
            }
            Some("topic") => self.topics.push(message.topic),
            Some("forget") => {
                self.messages.clear();
                self.topics.clear();
            }
            Some("trap") => panic!("as it was asked to"),
            Some("echo") => return Transformation::Replace(message),
            Some("facts") => {
                message.payload = format!("{client:?}").into_bytes();
                return Transformation::Replace(message);
            }
            _ => return self.check(message),
        }
        Transformation::Drop
    }
}

impl Keeping {
    fn check(&self, mut message: Message) -> Transformation {
        let is_right = |kept: &Message| {
            kept.payload.iter().all(|byte| *byte == expected(&kept.topic))
                && kept
                    .user_properties
                    .iter()
                    .all(|property| property.name == property.value)
        };
        let topics_are_right = self.topics.iter().all(|topic| topic.starts_with("topic/"));
        if !topics_are_right || !self.messages.iter().all(is_right) {
            return Transformation::Reject(Rejection::PayloadFormatInvalid);
        }
        let bytes: usize = self.messages.iter().map(|kept| kept.payload.len()).sum();
        message.payload = format!("{} {} {bytes}", self.messages.len(), self.topics.len()).into_bytes();
        Transformation::Replace(message)
    }
}

fn expected(topic: &str) -> u8 {
    topic
        .split('/')
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

export!(Keeping: transform);
