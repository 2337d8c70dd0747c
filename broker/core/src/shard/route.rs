//! From an accepted message to the sessions it is for.

use super::arriving::Arriving;
use super::deliver::Target;
use super::publish::Judged;
use super::{COMMON_SPACE, Shard};
use crate::hook::Client;
use crate::message::{Content, Message, Source, noted};
use crate::time::Millis;
use nervewire_codec::{Properties, PublishRef, QoS, Utf8String};
use std::sync::Arc;

impl Shard {
    /// Takes a judged message on: to the sessions of this shard, to the other shards, to the retained messages.
    pub(super) fn accept(&mut self, now: Millis, client: &Arc<Client>, judged: Judged, generation: u64) {
        let message = self.message(now, client, judged, generation);
        self.spread(now, &mut Arriving::kept(&message));
    }

    /// As [`Shard::accept`], for a message that is still where it was read.
    pub(super) fn accept_in_place(&mut self, now: Millis, client: &Arc<Client>, mut publish: PublishRef<'_>) {
        let properties = publish.properties.as_mut();
        let expiry_s = properties.and_then(|p| p.message_expiry_interval.take());
        let properties = message_properties(publish.properties);
        self.next_message += 1;
        let mut arriving = Arriving::in_place(Content {
            id: self.next_message,
            accepted_at: now,
            expires_at: expires_at(now, expiry_s),
            topic: publish.topic,
            payload: publish.payload,
            shared_payload: None,
            qos: publish.qos,
            retain: publish.retain,
            properties: properties.as_ref(),
            publisher: Some(&client.client_id),
            tenant: client.tenant.as_ref(),
            source: publish.retain.then(|| (client, noted(self.policy.generation))),
        });
        self.spread(now, &mut arriving);
    }

    /// To this shard and to all others that it may interest.
    pub(super) fn spread(&mut self, now: Millis, arriving: &mut Arriving<'_>) {
        for shard in self.concerned_shards(&arriving.content) {
            self.send_publish(shard, arriving);
        }
        self.route_here(now, arriving);
    }

    pub(super) fn message(
        &mut self,
        now: Millis,
        client: &Arc<Client>,
        judged: Judged,
        generation: u64,
    ) -> Arc<Message> {
        let Judged { mut app, own } = judged;
        let expiry_s = app.properties.as_deref().and_then(|p| p.message_expiry_interval);
        if expiry_s.is_some()
            && let Some(properties) = &mut app.properties
        {
            Arc::make_mut(properties).message_expiry_interval = None;
            app.properties.take_if(|p| **p == Properties::default());
        }
        self.next_message += 1;
        let is_source = own && app.retain;
        Arc::new(Message {
            id: self.next_message,
            accepted_at: now,
            source: is_source.then(|| Source::new(client.clone(), generation)),
            app,
            expires_at: expires_at(now, expiry_s),
            publisher: Some(client.client_id.clone()),
            tenant: client.tenant.clone(),
        })
    }

    /// To the sessions, groups and retained messages of this shard.
    pub(super) fn route_here(&mut self, now: Millis, arriving: &mut Arriving<'_>) {
        let space = match arriving.content.tenant {
            None => Some(COMMON_SPACE),
            tenant => self.by_tenant.get(&tenant.cloned()).copied(),
        };
        match space {
            Some(space) => self.route(now, space, arriving),
            // Nobody of this tenant is here; only a message to be kept is a reason to begin.
            None if self.keeps(&arriving.content) => {
                let space = self.space_of(arriving.content.tenant);
                self.route(now, space, arriving);
            }
            None => {}
        }
    }

    fn route(&mut self, now: Millis, space: u32, arriving: &mut Arriving<'_>) {
        if arriving.content.retain {
            self.retain(space, arriving);
        }
        // Taken, because what is sent may cause another message to be routed.
        let mut route = std::mem::take(&mut self.last_route);
        if self.find_targets(space, &arriving.content, &mut route) && arriving.content.qos != QoS::AtMostOnce {
            arriving.share_topic(route.shared_topic(&arriving.content));
        }
        self.record_targets(arriving, &mut route.targets);
        let is_shared = route.targets.len() > 1;
        arriving.share_payload(route.targets.len());
        for target in &route.targets {
            self.deliver_live(now, arriving, target, is_shared);
        }
        self.last_route = route;
        self.deliver_to_groups(now, space, arriving);
    }

    /// The sessions whose subscriptions match, each once, at the highest QoS and with all identifiers [MQTT-3.3.4-2]. Answers
    /// whether they are those of the last message.
    fn find_targets(&mut self, space: u32, message: &Content<'_>, last: &mut LastRoute) -> bool {
        let Some(space) = self.spaces.get(space as usize) else {
            *last = LastRoute::default();
            return false;
        };
        let state = (space.serial, space.index.changes());
        if last.is_of(state, message) {
            return true;
        }
        last.turn_to(state, message);
        self.route_number += 1;
        let (route, targets, sessions) = (self.route_number, &mut last.targets, &mut self.sessions);
        let counters = &mut self.counters;
        space.index.matches(&message.topic, &mut |session, subscription| {
            let entry = &subscription.entry;
            let Some(s) = sessions.get_mut(session as usize) else {
                return;
            };
            // [MQTT-3.8.3-3]
            if entry.options.no_local && message.publisher == Some(&s.client.client_id) {
                if message.retain {
                    counters.gather_topics_over_bound += s.note_live(message);
                }
                return;
            }
            if s.route_mark != route {
                (s.route_mark, s.route_position) = (route, targets.len() as u32);
                targets.push(Target::new(session));
            }
            if let Some(target) = targets.get_mut(s.route_position as usize) {
                target.add(message, entry);
            }
        });
        false
    }
}

/// Where the last message went. Publishers send one message after another to the same topic, and what is read of one of them
/// at a time is routed in a row: then the index is not asked again.
#[derive(Debug, Default)]
pub(super) struct LastRoute {
    /// Serial number of the name space and changes of its index; `None`: of no message.
    of: Option<(u64, u64)>,
    topic: String,
    /// The topic again, once a second message to it is likely to be kept.
    shared_topic: Option<Utf8String>,
    qos: QoS,
    publisher: Option<Arc<str>>,
    targets: Vec<Target>,
}

impl LastRoute {
    /// Whether this message goes to the same targets in the same way.
    fn is_of(&self, state: (u64, u64), message: &Content<'_>) -> bool {
        self.of == Some(state)
            && !message.retain
            && self.qos == message.qos
            && self.topic == message.topic.as_str()
            && match (&self.publisher, message.publisher) {
                (Some(last), Some(publisher)) => Arc::ptr_eq(last, publisher),
                (None, None) => true,
                _ => false,
            }
    }

    fn shared_topic(&mut self, message: &Content<'_>) -> Utf8String {
        let shared = self.shared_topic.get_or_insert_with(|| message.topic.to_utf8_string());
        shared.clone()
    }

    fn turn_to(&mut self, state: (u64, u64), message: &Content<'_>) {
        self.targets.clear();
        self.of = (!message.retain).then_some(state);
        self.topic.clear();
        self.shared_topic = None;
        self.topic.push_str(&message.topic);
        self.qos = message.qos;
        self.publisher = message.publisher.cloned();
    }
}

/// What of a PUBLISH's properties does not belong to the connection.
pub(super) fn message_properties(properties: Option<Box<Properties>>) -> Option<Arc<Properties>> {
    of_the_message(properties).map(|properties| Arc::new(*properties))
}

/// The same, where it lies.
pub(super) fn of_the_message(properties: Option<Box<Properties>>) -> Option<Box<Properties>> {
    let mut properties = properties?;
    properties.topic_alias = None;
    properties.subscription_identifiers.clear();
    (*properties != Properties::default()).then_some(properties)
}

fn expires_at(now: Millis, expiry_s: Option<u32>) -> Option<Millis> {
    expiry_s.map(|s| now + u64::from(s) * 1_000)
}
