//! A tap on the calls: while somebody listens, every call is shown with its question and its answer. While nobody does, a call
//! pays for one look at a flag.

use crate::plugin::Plugin;
use crate::pool::{Question, Reply};
use crate::stats::Outcome;
use crate::watch::{TappedExchange, Watched};
use nervewire_core::hook::{
    AppMessage, AppMessageRef, Authentication, Client, Credentials, Finding, Rule, Transformation, Verdict, Window,
};
use nervewire_core::policy::RequestRef;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Listens to calls, on the threads that make them: it must neither wait nor take long.
pub trait Tap: Send + Sync {
    /// A call has ended.
    fn call(&self, call: &TappedCall<'_>);
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct TappedCall<'a> {
    /// The plugin's name in the configuration.
    pub plugin: &'a str,
    /// The generation that loaded it; see [`Plugin::set_generation`](crate::Plugin::set_generation).
    pub generation: u64,
    /// SHA-256 of its component, lower-case hexadecimal.
    pub digest: &'a str,
    /// What it was asked. Credentials are secret: a listener must not keep them.
    pub question: TappedQuestion<'a>,
    /// What it answered, or how the call failed.
    pub answer: Result<TappedAnswer<'a>, Outcome>,
    /// How long it took, in nanoseconds.
    pub took_ns: u64,
    /// The requests it made, in their order, as far as they are kept.
    pub exchanges: &'a [TappedExchange],
    /// Requests, header fields and bodies that are not, or not wholly, among them.
    pub exchanges_over_bound: u64,
}

/// What a plugin was asked.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // The hooks.
pub enum TappedQuestion<'a> {
    Authenticate(&'a Client, &'a Credentials),
    Rules(&'a Client),
    Authorize(&'a Client, RequestRef<'a>),
    Transform(&'a Client, AppMessageRef<'a>),
    /// At this Unix time in milliseconds.
    Tick(u64),
    Detect(&'a [Window]),
}

/// What it answered.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub enum TappedAnswer<'a> {
    Authentication(&'a Authentication),
    Rules(Option<&'a [Rule]>),
    Verdict(&'a Verdict),
    Transformation(&'a Transformation),
    /// Those of its messages that it is granted.
    Tick(&'a [AppMessage]),
    Findings(&'a [Finding]),
}

impl<'a> TappedQuestion<'a> {
    /// The client it is about; `tick` and `detect` are about none, or many.
    pub fn client(self) -> Option<&'a Client> {
        match self {
            Self::Authenticate(client, _) | Self::Rules(client) => Some(client),
            Self::Authorize(client, _) | Self::Transform(client, _) => Some(client),
            Self::Tick(_) | Self::Detect(_) => None,
        }
    }
}

impl Plugin {
    /// Shows a call of the pool to whoever listens.
    pub(crate) fn show_pooled(
        &self,
        question: &Question,
        answer: Result<&Reply, Outcome>,
        took_ns: u64,
        watched: &Watched,
    ) {
        let Some(tap) = self.tap() else { return };
        let question = match question {
            Question::Authenticate { client, credentials } => TappedQuestion::Authenticate(client, credentials),
            Question::Rules { client } => TappedQuestion::Rules(client),
            Question::Authorize { client, request } => TappedQuestion::Authorize(client, request.into()),
            Question::Transform { client, message } => TappedQuestion::Transform(client, message.into()),
            Question::Tick { now_unix_ms } => TappedQuestion::Tick(*now_unix_ms),
            Question::Detect { windows } => TappedQuestion::Detect(windows),
        };
        let answer = answer.and_then(|reply| tapped(reply).ok_or(Outcome::Unavailable));
        tap.call(&TappedCall {
            exchanges: &watched.exchanges,
            exchanges_over_bound: watched.room.over_bound,
            ..self.tapped(question, answer, took_ns)
        });
    }

    /// One of its calls, which made no request.
    pub(crate) fn tapped<'a>(
        &'a self,
        question: TappedQuestion<'a>,
        answer: Result<TappedAnswer<'a>, Outcome>,
        took_ns: u64,
    ) -> TappedCall<'a> {
        TappedCall {
            plugin: self.name(),
            generation: self.generation(),
            digest: self.digest(),
            question,
            answer,
            took_ns,
            exchanges: &[],
            exchanges_over_bound: 0,
        }
    }
}

fn tapped(reply: &Reply) -> Option<TappedAnswer<'_>> {
    match reply {
        Reply::Authenticate(answer) => answer.as_ref().ok().map(TappedAnswer::Authentication),
        Reply::Rules(answer) => answer.as_ref().ok().map(|rules| TappedAnswer::Rules(rules.as_deref())),
        Reply::Authorize(answer) => answer.as_ref().ok().map(TappedAnswer::Verdict),
        Reply::Transform(answer) => answer.as_ref().ok().map(TappedAnswer::Transformation),
        Reply::Tick(answer) => answer.as_ref().ok().map(|messages| TappedAnswer::Tick(messages)),
        Reply::Detect(answer) => answer.as_ref().ok().map(|findings| TappedAnswer::Findings(findings)),
    }
}

/// Whether somebody listens, and who.
#[derive(Default)]
pub(crate) struct TapSwitch {
    on: AtomicBool,
    tap: RwLock<Option<Arc<dyn Tap>>>,
}

impl TapSwitch {
    pub(crate) fn set(&self, tap: Option<Arc<dyn Tap>>) {
        let on = tap.is_some();
        *self.tap.write().unwrap_or_else(PoisonError::into_inner) = tap;
        self.on.store(on, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Arc<dyn Tap>> {
        if self.on.load(Ordering::Relaxed) {
            self.listener()
        } else {
            None
        }
    }

    #[cold]
    fn listener(&self) -> Option<Arc<dyn Tap>> {
        self.tap.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for TapSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapSwitch")
            .field("on", &self.on)
            .finish_non_exhaustive()
    }
}
