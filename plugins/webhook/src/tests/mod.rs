mod authentication;
mod authorization;
mod requests;

use crate::Webhook;
use nervewire_plugin_sdk::{prelude::*, testing};
use serde_json::Value;
use std::cell::RefCell;
use std::rc::Rc;

/// 2023-11-14.
const NOW_S: u64 = 1_700_000_000;

fn load(config: Value) -> Webhook {
    testing::set_clock_ms(NOW_S * 1000);
    testing::load(&config.to_string()).unwrap()
}

#[track_caller]
fn refused(config: Value, words: &str) {
    let error = testing::load::<Webhook>(&config.to_string()).unwrap_err();
    assert!(error.contains(words), "{config}: {error}");
}

/// A backend that always answers this; what it was asked is kept.
fn backend(answer: Result<http::Response, http::Error>) -> Rc<RefCell<Vec<http::Request>>> {
    let asked = Rc::new(RefCell::new(Vec::new()));
    let kept = asked.clone();
    testing::http(move |request| {
        kept.borrow_mut().push(request.clone());
        answer.clone()
    });
    asked
}

fn says(body: Value) -> Result<http::Response, http::Error> {
    Ok(http::Response::new(200).with_json(&body))
}
