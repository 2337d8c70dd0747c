//! The plugin as the broker sees it: the exports of a component, each led to the trait that answers it.

mod convert;
mod detect;
pub(crate) mod http;
pub(crate) mod kv;

pub use crate::bindings::{authenticator, authorizer, base, detector, transformer};

use crate::bindings::{
    authentication, authorization, authorization_batch, lifecycle, transformation, transformation_batch, types,
};
use crate::{Authenticate, Authorize, Files, Plugin, Transform, log};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::thread::LocalKey;

/// A plugin with a place for its instance; [`export!`](crate::export) implements it.
pub trait Hosted: Plugin {
    /// The instance, once `init` has made one.
    fn instance() -> &'static LocalKey<RefCell<Option<Self>>>;
}

/// What implements the generated traits for a plugin.
#[derive(Debug)]
pub struct Component<P>(PhantomData<P>);

impl<P: Hosted> lifecycle::Guest for Component<P> {
    fn init(config: String, files: Vec<lifecycle::File>) -> Result<lifecycle::Ready, String> {
        log_panics();
        let files: Files = files.into_iter().map(|file| (file.name, file.contents)).collect();
        let plugin = P::init(crate::config::parse(&config)?, files)?;
        let tick_milliseconds = plugin.tick_milliseconds();
        P::instance().set(Some(plugin));
        Ok(lifecycle::Ready { tick_milliseconds })
    }

    fn tick(now: u64) -> Vec<types::Message> {
        with(|plugin: &mut P| plugin.tick(now))
            .into_iter()
            .map(Into::into)
            .collect()
    }
}

impl<P: Hosted + Authenticate> authentication::Guest for Component<P> {
    fn authenticate(client: types::Client, credentials: authentication::Credentials) -> authentication::Outcome {
        with(|plugin: &mut P| plugin.authenticate(&client.into(), &credentials.into())).into()
    }
}

impl<P: Hosted + Authorize> authorization::Guest for Component<P> {
    fn rules(client: types::Client) -> Option<Vec<authorization::Rule>> {
        let rules = with(|plugin: &mut P| plugin.rules(&client.into()))?;
        Some(rules.into_iter().map(Into::into).collect())
    }

    fn authorize(client: types::Client, request: authorization::Request) -> authorization::Verdict {
        with(|plugin: &mut P| plugin.authorize(&client.into(), &request.into())).into()
    }
}

impl<P: Hosted + Authorize> authorization_batch::Guest for Component<P> {
    fn authorize_all(client: types::Client, requests: Vec<authorization::Request>) -> Vec<authorization::Verdict> {
        let client = client.into();
        let answer =
            |plugin: &mut P, request: authorization::Request| plugin.authorize(&client, &request.into()).into();
        with(|plugin: &mut P| requests.into_iter().map(|request| answer(plugin, request)).collect())
    }
}

impl<P: Hosted + Transform> transformation::Guest for Component<P> {
    fn transform(client: types::Client, message: types::Message) -> transformation::Outcome {
        with(|plugin: &mut P| plugin.transform(&client.into(), message.into())).into()
    }
}

impl<P: Hosted + Transform> transformation_batch::Guest for Component<P> {
    fn transform_all(client: types::Client, messages: Vec<types::Message>) -> Vec<transformation::Outcome> {
        let client = client.into();
        let answer = |plugin: &mut P, message: types::Message| plugin.transform(&client, message.into()).into();
        with(|plugin: &mut P| messages.into_iter().map(|message| answer(plugin, message)).collect())
    }
}

/// # Panics
/// Where the broker broke its promise to call `init` first: the trap then fails the call as `on_failure` says.
fn with<P: Hosted, R>(call: impl FnOnce(&mut P) -> R) -> R {
    P::instance().with_borrow_mut(|instance| match instance {
        Some(plugin) => call(plugin),
        None => panic!("called before a successful init"),
    })
}

/// A panic ends as a trap without a word: this puts its words and place into the broker's log.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| log::log(log::Level::Error, &panic.to_string())));
}
