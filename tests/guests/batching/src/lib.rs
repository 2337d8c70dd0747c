//! A guest that takes several questions in one call (`wit/batch.wit`, since 0.1.1), without the SDK. Built on the day 0.1.1 was frozen it is
//! `tests/frozen/plugin-0.1.1.wasm`.
//!
//! Its configuration says what is wrong with the calls that bring several questions: `fault` is `fewer` answers, one `more`, or a
//! `trap`.

wit_bindgen::generate!({
    path: "../../../wit",
    inline: "
        package test:batching;
        world guest {
            include nervewire:plugin/base@0.1.1;
            include nervewire:plugin/batch-authorizer@0.1.1;
            include nervewire:plugin/batch-transformer@0.1.1;
        }
    ",
    generate_all,
});

use exports::nervewire::plugin::{authorization, authorization_batch, lifecycle, transformation, transformation_batch};
use nervewire::plugin::counters;
use nervewire::plugin::types::{Client, Message};
use std::cell::RefCell;

struct Guest;

thread_local! {
    static FAULT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The answers, as the configuration has them.
fn faulty<T>(mut answers: Vec<T>, one_more: T) -> Vec<T> {
    counters::add("batches", 1);
    counters::add("batched", answers.len() as u64);
    FAULT.with_borrow(|fault| match fault.as_str() {
        r#"{"fault":"fewer"}"# => drop(answers.pop()),
        r#"{"fault":"more"}"# => answers.push(one_more),
        r#"{"fault":"trap"}"# => panic!("several at once"),
        _ => {}
    });
    answers
}

impl lifecycle::Guest for Guest {
    fn init(config: String, _: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        FAULT.replace(config);
        Ok(lifecycle::Ready {
            tick_milliseconds: None,
        })
    }

    fn tick(_: u64) -> Vec<Message> {
        Vec::new()
    }
}

fn verdict(client: &Client, request: &authorization::Request) -> authorization::Verdict {
    use authorization::{Decision, Dependencies};
    let decision = match request.topic.split('/').next() {
        Some("mine") if request.topic.ends_with(&client.client_id) => Decision::Allow,
        Some("mine" | "no") => Decision::Deny,
        Some("yes") => Decision::Allow,
        _ => Decision::Abstain,
    };
    authorization::Verdict {
        decision,
        cache_milliseconds: 1_000 * request.qos as u32 + u32::from(request.retain),
        depends_on: Dependencies::USER | Dependencies::TOPIC,
    }
}

impl authorization::Guest for Guest {
    fn rules(_: Client) -> Option<Vec<authorization::Rule>> {
        None
    }

    fn authorize(client: Client, request: authorization::Request) -> authorization::Verdict {
        counters::add("single", 1);
        verdict(&client, &request)
    }
}

impl authorization_batch::Guest for Guest {
    fn authorize_all(client: Client, requests: Vec<authorization::Request>) -> Vec<authorization::Verdict> {
        let answers: Vec<_> = requests.iter().map(|request| verdict(&client, request)).collect();
        let one_more = verdict(&client, &requests[0]);
        faulty(answers, one_more)
    }
}

/// The first level of the topic says what is done.
fn outcome(client: &Client, message: Message) -> transformation::Outcome {
    use transformation::{Outcome, Rejection};
    match message.topic.split('/').next() {
        Some("replace") => Outcome::Replace(Message {
            topic: format!("{}/{}", client.client_id, message.topic),
            payload: message.payload.iter().rev().copied().collect(),
            ..message
        }),
        Some("emit") => Outcome::Emit(vec![message.clone(), message]),
        Some("drop") => Outcome::Drop,
        Some("reject") => Outcome::Reject(Rejection::QuotaExceeded),
        Some("invalid") => Outcome::Replace(Message {
            topic: "no/#/topic".into(),
            ..message
        }),
        _ => Outcome::Pass,
    }
}

impl transformation::Guest for Guest {
    fn transform(client: Client, message: Message) -> transformation::Outcome {
        counters::add("single", 1);
        outcome(&client, message)
    }
}

impl transformation_batch::Guest for Guest {
    fn transform_all(client: Client, messages: Vec<Message>) -> Vec<transformation::Outcome> {
        let answers = messages.into_iter().map(|message| outcome(&client, message)).collect();
        faulty(answers, transformation::Outcome::Pass)
    }
}

export!(Guest);
