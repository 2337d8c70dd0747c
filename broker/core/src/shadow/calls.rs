//! What comparisons ask of plugins, and hear from them.

use crate::hook::{AppMessage, CallFailed, Client, Request, Rule, Transformation, Verdict};
use std::sync::Arc;

/// A question for a comparison. Nobody waits for its answer but the comparison.
#[derive(Clone, Debug)]
pub enum ShadowCall {
    /// The rules of a plugin in shadow mode.
    Rules {
        /// Position in [`Policy::shadows`].
        shadow: usize,
        /// About whom.
        client: Arc<Client>,
    },
    /// The verdict of a plugin in shadow mode, or of one that is obeyed and was not asked, because another had denied.
    Authorize {
        /// Position in [`Policy::shadows`]; `None`: the next number is one in [`Policy::authorizers`].
        shadow: Option<usize>,
        /// Position among those that are obeyed.
        authorizer: usize,
        /// Who.
        client: Arc<Client>,
        /// What.
        request: Request,
    },
    /// What a plugin in shadow mode makes of a message.
    Transform {
        /// Position in [`Policy::shadows`].
        shadow: usize,
        /// Who published.
        client: Arc<Client>,
        /// What.
        message: AppMessage,
    },
}

/// The answer to a [`ShadowCall`] of the same name.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum ShadowAnswer {
    Rules(Result<Option<Vec<Rule>>, CallFailed>),
    Authorize(Result<Verdict, CallFailed>),
    Transform(Result<Transformation, CallFailed>),
}

/// A question under the number that its answer comes back with.
#[derive(Clone, Debug)]
pub struct ShadowQuestion {
    /// Never used again.
    pub id: u64,
    /// Of the policy whose plugins are meant.
    pub generation: u64,
    /// The question.
    pub call: ShadowCall,
}
