//! Hook `transform`: what does this message look like when it is delivered?

use crate::{Client, Message, Plugin};

/// Implemented by plugins that change, split, drop or refuse messages.
pub trait Transform: Plugin {
    /// Called for each accepted message before it is routed. The message is handed over: change it and return it in
    /// [`Transformation::Replace`], or return [`Transformation::Pass`] to have the broker go on with its own copy. Messages of one client
    /// come one after the other, several of them before the first is routed where the broker has them at hand.
    fn transform(&mut self, client: &Client, message: Message) -> Transformation;
}

/// A transformer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transformation {
    /// As it is.
    Pass,
    /// This in its place.
    Replace(Message),
    /// These in its place; at most 16.
    Emit(Vec<Message>),
    /// Acknowledged as a success, delivered to nobody.
    Drop,
    /// Refused.
    Reject(Rejection),
}

/// Why a message is refused: the reason code of its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The names are those of the reason codes.
pub enum Rejection {
    UnspecifiedError,
    ImplementationSpecificError,
    NotAuthorized,
    TopicNameInvalid,
    QuotaExceeded,
    PayloadFormatInvalid,
}
