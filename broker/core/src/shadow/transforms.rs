//! What transforms in shadow mode would have made of messages.

use super::{Kind, Noticed, Pending, ShadowCall, ShadowHook, Shadowing, Words};
use crate::fold::failed_transformation;
use crate::hook::{Action, AppMessage, CallFailed, Client, Transformation};
use crate::policy::{Place, Policy, Transform};
use crate::time::Millis;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What became of a message, whichever way a transform has said it.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// These messages; none: it was dropped.
    Messages(Vec<&'a AppMessage>),
    /// Refused.
    Rejected(nervewire_codec::ReasonCode),
}

impl<'a> Outcome<'a> {
    /// Of an answer about this message.
    pub fn new(message: &'a AppMessage, answer: &'a Transformation) -> Self {
        match answer {
            Transformation::Pass => Self::Messages(vec![message]),
            Transformation::Replace(other) => Self::Messages(vec![other]),
            Transformation::Emit(others) => Self::Messages(others.iter().collect()),
            Transformation::Drop => Self::Messages(Vec::new()),
            Transformation::Reject(reason) => Self::Rejected(*reason),
        }
    }

    fn words(&self, message: &AppMessage) -> String {
        let Self::Messages(messages) = self else {
            let Self::Rejected(reason) = self else {
                return String::new();
            };
            return format!("rejected: {reason:?}");
        };
        match &messages[..] {
            [] => "dropped".to_owned(),
            [one] if *one == message => "passed".to_owned(),
            [one] => format!("replaced by {}", in_words(one)),
            several => {
                let several: Vec<_> = several.iter().map(|one| in_words(one)).collect();
                format!("{} messages: {}", several.len(), several.join("; "))
            }
        }
    }
}

/// What would be otherwise with the second outcome than with the first.
pub fn difference(message: &AppMessage, enforced: &Outcome<'_>, shadow: &Outcome<'_>) -> Option<Kind> {
    if enforced == shadow {
        return None;
    }
    Some(match shadow {
        Outcome::Rejected(_) => Kind::WouldReject,
        Outcome::Messages(messages) => match &messages[..] {
            [] => Kind::WouldDrop,
            [one] if *one == message => Kind::WouldPass,
            [_] => Kind::WouldChange,
            _ => Kind::WouldEmit,
        },
    })
}

/// The topic and the beginning of the payload.
fn in_words(message: &AppMessage) -> String {
    const SHOWN_BYTES: usize = 64;
    let payload = &message.payload;
    let shown = payload.get(..SHOWN_BYTES).unwrap_or(payload);
    let more = if payload.len() > SHOWN_BYTES { "..." } else { "" };
    format!("{} {}{more}", &*message.topic, shown.escape_ascii())
}

impl Shadowing {
    /// A message goes on from one position in the chain of transforms to another, and nobody between was concerned. Who would
    /// have stood there is asked; `asked` is the transform that is asked now, whose answer is still to come.
    pub(crate) fn pass(
        &mut self,
        policy: &Arc<Policy>,
        client: &Arc<Client>,
        message: &AppMessage,
        positions: RangeInclusive<usize>,
        asked: Option<usize>,
    ) {
        self.each_transform(policy, |place, transform| {
            let passed = match place {
                Place::Before(at) => positions.contains(&at),
                Place::InsteadOf(at) => positions.contains(&at) && asked != Some(at),
            };
            passed && transform.concerns(&message.topic)
        })
        .into_iter()
        .for_each(|shadow| self.ask_transform(shadow, client, message, &Transformation::Pass, None));
    }

    /// A transform has answered, and others would have been asked in its place.
    pub(crate) fn transformed(
        &mut self,
        now: Millis,
        policy: &Arc<Policy>,
        client: &Arc<Client>,
        message: &AppMessage,
        (position, answer): (usize, &Transformation),
    ) {
        let name = policy.transforms.get(position).map(|transform| transform.name.clone());
        for shadow in self.each_transform(policy, |place, _| place == Place::InsteadOf(position)) {
            let is_concerned = self.transform(shadow).is_some_and(|t| t.concerns(&message.topic));
            if is_concerned {
                self.ask_transform(shadow, client, message, answer, name.as_ref());
            } else {
                let by = name.clone().unwrap_or_default();
                self.compare_outcomes(
                    now,
                    shadow,
                    client,
                    message,
                    (answer.clone(), &by),
                    Ok(Transformation::Pass),
                );
            }
        }
    }

    /// Whether some plugin in shadow mode may be interested in a message that no transform is concerned by.
    pub(crate) fn is_interested_in(&self, topic: &str) -> bool {
        let transforms = self
            .policy
            .shadows
            .iter()
            .filter_map(|shadow| shadow.transforms.as_ref());
        transforms.into_iter().any(|(transform, _)| transform.concerns(topic))
    }

    fn each_transform(&self, policy: &Policy, wanted: impl Fn(Place, &Transform) -> bool) -> Vec<usize> {
        if policy.generation != self.policy.generation {
            return Vec::new();
        }
        let shadows = self.policy.shadows.iter().enumerate();
        let wanted = shadows.filter(|(_, shadow)| {
            let transform = shadow.transforms.as_ref();
            transform.is_some_and(|(transform, place)| wanted(*place, transform))
        });
        wanted.map(|(at, _)| at).collect()
    }

    fn transform(&self, shadow: usize) -> Option<&Transform> {
        let shadow = self.policy.shadows.get(shadow)?;
        shadow.transforms.as_ref().map(|(transform, _)| transform)
    }

    fn ask_transform(
        &mut self,
        shadow: usize,
        client: &Arc<Client>,
        message: &AppMessage,
        enforced: &Transformation,
        by: Option<&Arc<str>>,
    ) {
        if !self.has_room() {
            return;
        }
        let by = by.cloned().unwrap_or_default();
        let call = ShadowCall::Transform {
            shadow,
            client: client.clone(),
            message: message.clone(),
        };
        self.ask(
            call,
            Pending::Transform(shadow, client.clone(), message.clone(), enforced.clone(), by),
        );
    }

    pub(super) fn compare_outcomes(
        &mut self,
        now: Millis,
        shadow: usize,
        client: &Client,
        message: &AppMessage,
        (enforced, by): (Transformation, &str),
        answer: Result<Transformation, CallFailed>,
    ) {
        let Some(on_failure) = self.transform(shadow).map(|transform| transform.on_failure) else {
            return;
        };
        let name = self.policy.shadows.get(shadow).map(|shadow| shadow.name.clone());
        let Some(differences) = self.differences.get_mut(shadow) else {
            return;
        };
        differences.compared(ShadowHook::Transform);
        let failed = answer.is_err();
        let answer = answer.unwrap_or_else(|_| failed_transformation(on_failure));
        let (enforced, supposed) = (Outcome::new(message, &enforced), Outcome::new(message, &answer));
        let Some(kind) = difference(message, &enforced, &supposed) else {
            return;
        };
        let noticed = Noticed {
            hook: ShadowHook::Transform,
            kind,
            client,
            action: Some(Action::Publish),
            topic: &message.topic,
            qos: message.qos,
            retain: message.retain,
            payload: Some(&message.payload),
        };
        let words = || Words {
            enforced: match by {
                "" => enforced.words(message),
                by => format!("{} by {by}", enforced.words(message)),
            },
            shadow: format!(
                "{} by {}{}",
                supposed.words(message),
                name.as_deref().unwrap_or_default(),
                if failed { ", it failed" } else { "" }
            ),
        };
        differences.note(now, &noticed, words);
    }
}
