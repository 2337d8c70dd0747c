//! Where plugins in shadow mode would have decided otherwise: counted, and sampled with what they were asked.

use crate::hook::{Action, Client};
use crate::limits::{MAX_SHADOW_SAMPLES, MAX_SHADOW_TEXT_BYTES};
use crate::time::Millis;
use hashbrown::{DefaultHashBuilder, HashTable};
use nervewire_codec::QoS;
use std::hash::BuildHasher;
use std::sync::Arc;

/// A hook whose answers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ShadowHook {
    Authenticate,
    Authorize,
    Transform,
}

impl ShadowHook {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Authenticate, Self::Authorize, Self::Transform];

    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Transform => "transform",
        }
    }
}

/// What would have been otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// What is refused would be allowed.
    WouldAllow,
    /// What is allowed would be refused.
    WouldDeny,
    /// The client would be challenged.
    WouldChallenge,
    /// The client would be let in as somebody else.
    WouldIdentify,
    /// The message would stay as it is.
    WouldPass,
    /// The message would become another.
    WouldChange,
    /// The message would become several.
    WouldEmit,
    /// The message would reach nobody.
    WouldDrop,
    /// The message would be refused.
    WouldReject,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::WouldAllow,
        Self::WouldDeny,
        Self::WouldChallenge,
        Self::WouldIdentify,
        Self::WouldPass,
        Self::WouldChange,
        Self::WouldEmit,
        Self::WouldDrop,
        Self::WouldReject,
    ];

    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::WouldAllow => "would_allow",
            Self::WouldDeny => "would_deny",
            Self::WouldChallenge => "would_challenge",
            Self::WouldIdentify => "would_identify",
            Self::WouldPass => "would_pass",
            Self::WouldChange => "would_change",
            Self::WouldEmit => "would_emit",
            Self::WouldDrop => "would_drop",
            Self::WouldReject => "would_reject",
        }
    }
}

/// One difference with its inputs, and how often it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Of which hook.
    pub hook: ShadowHook,
    /// What would have been otherwise.
    pub kind: Kind,
    /// What the client wanted to do; `None`: to connect.
    pub action: Option<Action>,
    /// Who.
    pub client_id: Arc<str>,
    /// Of which tenant.
    pub tenant: Option<Arc<str>>,
    /// As whom.
    pub username: Option<Arc<str>>,
    /// Topic or topic filter, the beginning of a long one.
    pub topic: String,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Size of the message that a transform was asked about.
    pub payload_bytes: Option<usize>,
    /// How its payload begins.
    pub payload: Vec<u8>,
    /// What happened, and who decided it.
    pub enforced: String,
    /// What would have happened, and why.
    pub shadow: String,
    /// How often.
    pub count: u64,
    /// For the first time.
    pub first: Millis,
    /// For the last time.
    pub last: Millis,
}

/// What a difference was noticed about.
#[derive(Clone, Copy, Debug)]
pub struct Noticed<'a> {
    /// Of which hook.
    pub hook: ShadowHook,
    /// What would have been otherwise.
    pub kind: Kind,
    /// Who.
    pub client: &'a Client,
    /// What; `None`: to connect.
    pub action: Option<Action>,
    /// Topic or topic filter; empty for a CONNECT.
    pub topic: &'a str,
    /// QoS.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// The message that a transform was asked about.
    pub payload: Option<&'a [u8]>,
}

/// What happened and what would have happened, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// What happened, and who decided it.
    pub enforced: String,
    /// What would have happened, and why.
    pub shadow: String,
}

/// Comparisons and differences, by hook and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    compared: [u64; ShadowHook::ALL.len()],
    differences: [[u64; Kind::ALL.len()]; ShadowHook::ALL.len()],
}

impl Tally {
    /// Comparisons of this hook.
    pub fn compared(&self, hook: ShadowHook) -> u64 {
        self.compared[hook as usize]
    }

    /// Differences of this hook and kind.
    pub fn differences(&self, hook: ShadowHook, kind: Kind) -> u64 {
        self.differences[hook as usize][kind as usize]
    }

    /// Another shard's.
    pub fn add(&mut self, other: &Tally) {
        let sums = self.compared.iter_mut().zip(other.compared);
        sums.for_each(|(sum, n)| *sum += n);
        let sums = self.differences.iter_mut().flatten();
        sums.zip(other.differences.iter().flatten())
            .for_each(|(sum, n)| *sum += n);
    }
}

/// What is known of one plugin in shadow mode.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The plugin.
    pub plugin: Arc<str>,
    /// The generation that loaded it.
    pub since: u64,
    /// Everything since the plugin's name was first in shadow mode.
    pub total: Tally,
    /// Since this generation of it was loaded, or since it was reset.
    pub recent: Tally,
    /// Differences whose inputs found no room.
    pub unsampled: u64,
    samples: Vec<Sample>,
    /// Positions of samples.
    index: HashTable<usize>,
    hasher: DefaultHashBuilder,
}

impl Differences {
    /// Of a plugin that nobody has asked yet.
    pub fn new(plugin: Arc<str>, since: u64) -> Self {
        Self {
            plugin,
            since,
            ..Self::default()
        }
    }

    /// The differences with their inputs.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// Forgets what was seen; totals stay.
    pub fn reset(&mut self) {
        self.recent = Tally::default();
        self.unsampled = 0;
        self.samples.clear();
        self.index.clear();
    }

    /// The plugin was asked, and the answer compared.
    pub fn compared(&mut self, hook: ShadowHook) {
        for tally in [&mut self.total, &mut self.recent] {
            tally.compared[hook as usize] += 1;
        }
    }

    /// It would have been otherwise. The words are asked for the first time only.
    pub fn note(&mut self, now: Millis, noticed: &Noticed<'_>, words: impl FnOnce() -> Words) {
        for tally in [&mut self.total, &mut self.recent] {
            tally.differences[noticed.hook as usize][noticed.kind as usize] += 1;
        }
        let topic = clip(noticed.topic);
        let client = noticed.client;
        let client_id = clip(&client.client_id);
        let key = (
            noticed.hook,
            noticed.kind,
            noticed.action,
            client_id,
            client.tenant.as_deref(),
            topic,
        );
        let hash = self.hasher.hash_one(key);
        let samples = &mut self.samples;
        let is_same = |at: &usize| samples.get(*at).is_some_and(|sample| sample.key() == key);
        if let Some(at) = self.index.find(hash, is_same).copied() {
            if let Some(sample) = samples.get_mut(at) {
                sample.count += 1;
                sample.last = now;
            }
            return;
        }
        if samples.len() >= MAX_SHADOW_SAMPLES {
            self.unsampled += 1;
            return;
        }
        let at = samples.len();
        samples.push(sample(now, noticed, words()));
        let hasher = &self.hasher;
        self.index.insert_unique(hash, at, |at| {
            samples.get(*at).map_or(0, |sample| hasher.hash_one(sample.key()))
        });
    }
}

type Key<'a> = (ShadowHook, Kind, Option<Action>, &'a str, Option<&'a str>, &'a str);

impl Sample {
    fn key(&self) -> Key<'_> {
        (
            self.hook,
            self.kind,
            self.action,
            &self.client_id,
            self.tenant.as_deref(),
            &self.topic,
        )
    }
}

fn sample(now: Millis, noticed: &Noticed<'_>, words: Words) -> Sample {
    let client = noticed.client;
    let payload = noticed.payload.unwrap_or_default();
    Sample {
        hook: noticed.hook,
        kind: noticed.kind,
        action: noticed.action,
        client_id: clip(&client.client_id).into(),
        tenant: client.tenant.clone(),
        username: client.username.as_deref().map(|name| clip(name).into()),
        topic: clip(noticed.topic).to_owned(),
        qos: noticed.qos,
        retain: noticed.retain,
        payload_bytes: noticed.payload.map(<[u8]>::len),
        payload: payload[..payload.len().min(MAX_SHADOW_TEXT_BYTES)].to_vec(),
        enforced: clip(&words.enforced).to_owned(),
        shadow: clip(&words.shadow).to_owned(),
        count: 1,
        first: now,
        last: now,
    }
}

/// The beginning of a long text.
pub(crate) fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SHADOW_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: &str) -> Client {
        Client {
            username: Some("ann".into()),
            ..Client::unknown(id.into(), None)
        }
    }

    fn denied<'a>(client: &'a Client, topic: &'a str) -> Noticed<'a> {
        Noticed {
            hook: ShadowHook::Authorize,
            kind: Kind::WouldDeny,
            client,
            action: Some(Action::Publish),
            topic,
            qos: QoS::AtMostOnce,
            retain: false,
            payload: None,
        }
    }

    #[test]
    fn equal_differences_are_one_sample_with_a_count() {
        let mut differences = Differences::new("p".into(), 1);
        let (a, b) = (client("a"), client("b"));
        for (now, client) in [(1, &a), (2, &b), (5, &a)] {
            differences.note(now, &denied(client, "t"), || Words {
                shadow: format!("at {now}"),
                ..Words::default()
            });
        }
        let seen = differences.samples().iter();
        let seen: Vec<_> = seen
            .map(|s| (&*s.client_id, s.count, s.first, s.last, &*s.shadow))
            .collect();
        assert_eq!(seen, [("a", 2, 1, 5, "at 1"), ("b", 1, 2, 2, "at 2")]);
        assert_eq!(
            differences.recent.differences(ShadowHook::Authorize, Kind::WouldDeny),
            3
        );
        differences.reset();
        assert!(differences.samples().is_empty());
        assert_eq!(differences.recent, Tally::default());
        assert_eq!(differences.total.differences(ShadowHook::Authorize, Kind::WouldDeny), 3);
        differences.note(9, &denied(&a, "t"), Words::default);
        assert_eq!(differences.samples().len(), 1);
    }

    #[test]
    fn samples_are_bounded_in_number_and_size() {
        let mut differences = Differences::new("p".into(), 1);
        let a = client("a");
        for n in 0..MAX_SHADOW_SAMPLES + 7 {
            differences.note(0, &denied(&a, &n.to_string()), Words::default);
        }
        assert_eq!(
            (differences.samples().len(), differences.unsampled),
            (MAX_SHADOW_SAMPLES, 7)
        );
        differences.reset();
        let long = "ü".repeat(MAX_SHADOW_TEXT_BYTES);
        let noticed = Noticed {
            payload: Some(long.as_bytes()),
            ..denied(&a, &long)
        };
        differences.note(0, &noticed, Words::default);
        differences.note(0, &noticed, Words::default);
        let [sample] = differences.samples() else {
            panic!("one sample")
        };
        assert_eq!((sample.count, sample.payload_bytes), (2, Some(long.len())));
        assert_eq!(
            (sample.topic.len(), sample.payload.len()),
            (MAX_SHADOW_TEXT_BYTES, MAX_SHADOW_TEXT_BYTES)
        );
    }

    #[test]
    fn labels_are_of_their_numbers() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        for (number, hook) in ShadowHook::ALL.into_iter().enumerate() {
            assert_eq!(hook as usize, number);
        }
    }
}
