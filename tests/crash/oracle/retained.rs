//! What the retained message of each topic may be: the last acknowledged one, or a later one that is on its way.

use super::{MessageId, Oracle};
use crate::support::Publish;
use std::collections::{BTreeMap, BTreeSet};

/// Every topic with retained messages.
pub(crate) type RetainedTopics = BTreeMap<String, RetainedTopic>;

/// What one publisher did to a topic, in order.
#[derive(Default)]
pub(crate) struct RetainedTopic {
    changes: Vec<Change>,
    /// That many changes are acknowledged, with all before.
    acknowledged: usize,
}

struct Change {
    message: MessageId,
    deletes: bool,
}

/// What a subscriber to all of these topics sees: what it may see counts from its SUBSCRIBE.
#[derive(Default)]
pub(crate) struct RetainedView {
    acknowledged: BTreeMap<String, usize>,
    seen: BTreeSet<String>,
}

impl RetainedTopic {
    /// Where, of this many acknowledged changes on, all left a message: one must be there.
    fn must_exist(&self, acknowledged: usize) -> bool {
        acknowledged > 0 && self.changes[acknowledged - 1..].iter().all(|change| !change.deletes)
    }

    fn place(&self, message: MessageId) -> Option<usize> {
        self.changes
            .iter()
            .rposition(|change| change.message == message && !change.deletes)
    }
}

impl RetainedView {
    /// A message came on its way through this topic, which need not be followed by the retained one.
    pub(crate) fn saw_live(&mut self, topic: &str) {
        self.seen.insert(topic.to_owned());
    }
}

impl Oracle {
    /// A retained message, or an empty one that deletes it, is sent for the first time.
    pub(crate) fn retaining(&mut self, topic: &str, message: MessageId, deletes: bool) {
        let topic = self.retained.entry(topic.to_owned()).or_default();
        topic.changes.push(Change { message, deletes });
    }

    /// And was acknowledged.
    pub(crate) fn retained(&mut self, topic: &str, message: MessageId) {
        let Some(topic) = self.retained.get_mut(topic) else {
            return;
        };
        let place = topic.changes.iter().rposition(|change| change.message == message);
        topic.acknowledged = topic.acknowledged.max(place.map_or(0, |place| place + 1));
    }

    /// For a client that subscribes now.
    pub(crate) fn retained_view(&self) -> RetainedView {
        let acknowledged = self
            .retained
            .iter()
            .map(|(name, topic)| (name.clone(), topic.acknowledged));
        RetainedView {
            acknowledged: acknowledged.collect(),
            seen: BTreeSet::new(),
        }
    }

    /// A retained message came to whoever has this view.
    pub(crate) fn saw_retained(&mut self, view: &mut RetainedView, publish: &Publish) {
        let name = &*publish.topic;
        let least = view.acknowledged.get(name).copied().unwrap_or(0);
        view.seen.insert(name.to_owned());
        let message = self.identify(name, &publish.payload);
        let place = message.and_then(|message| self.retained.get(name)?.place(message));
        // Changes count from one.
        if place.is_none_or(|place| place + 1 < least) {
            self.figures.retained_wrong += 1;
            self.violation(format!("retained: {message:?} on {name} is older than change {least}"));
        }
    }

    /// Topics whose retained message the view misses.
    pub(crate) fn retained_missing(&self, view: &RetainedView) -> Vec<String> {
        let misses = |(name, acknowledged): (&String, &usize)| {
            let missing = !view.seen.contains(name) && self.retained[name].must_exist(*acknowledged);
            missing.then(|| name.clone())
        };
        view.acknowledged.iter().filter_map(misses).collect()
    }

    /// What the view still misses is not coming.
    pub(crate) fn write_off_retained(&mut self, view: &RetainedView) {
        for name in self.retained_missing(view) {
            self.figures.retained_wrong += 1;
            self.violation(format!("retained: none on {name}"));
        }
    }
}
