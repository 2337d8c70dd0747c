//! From an accepted message to the sessions it is for.

use super::deliver::Target;
use super::{COMMON_SPACE, MeshMessage, Shard};
use crate::hook::{AppMessage, Client};
use crate::message::Message;
use crate::time::Millis;
use nervewire_codec::{Properties, QoS};
use std::sync::Arc;

impl Shard {
    /// Takes a judged message on: to the sessions of this shard, to the other shards, to the retained messages.
    pub(super) fn accept(&mut self, now: Millis, client: &Client, app: AppMessage) {
        let message = self.message(now, client, app);
        self.spread(now, &message);
    }

    /// To this shard and all others.
    pub(super) fn spread(&mut self, now: Millis, message: &Arc<Message>) {
        for shard in self.other_shards() {
            let (message, confirm) = (message.clone(), self.confirm());
            self.send_mesh(now, shard, MeshMessage::Publish { message, confirm });
        }
        self.route_here(now, message);
    }

    pub(super) fn message(&mut self, now: Millis, client: &Client, mut app: AppMessage) -> Arc<Message> {
        let expiry_s = app.properties.as_deref().and_then(|p| p.message_expiry_interval);
        if expiry_s.is_some() {
            app.properties = app.properties.as_deref().and_then(without_expiry);
        }
        // What may stay for long must not keep the whole read buffer alive that it is a slice of.
        if app.qos != QoS::AtMostOnce || app.retain {
            app.detach();
        }
        self.next_message += 1;
        Arc::new(Message {
            id: self.next_message,
            accepted_at: now,
            app,
            expires_at: expiry_s.map(|s| now + u64::from(s) * 1_000),
            publisher: Some(client.client_id.clone()),
            tenant: client.tenant.clone(),
        })
    }

    /// To the sessions, groups and retained messages of this shard.
    pub(super) fn route_here(&mut self, now: Millis, message: &Arc<Message>) {
        let space = match &message.tenant {
            None => Some(COMMON_SPACE),
            tenant => self.by_tenant.get(tenant).copied(),
        };
        match space {
            Some(space) => self.route(now, space, message),
            // Nobody of this tenant is here; only a message to be kept is a reason to begin.
            None if self.keeps(message) => {
                let space = self.space_of(message.tenant.as_ref());
                self.route(now, space, message);
            }
            None => {}
        }
    }

    fn route(&mut self, now: Millis, space: u32, message: &Arc<Message>) {
        if message.app.retain {
            self.retain(space, message);
        }
        self.find_targets(space, message);
        let targets = std::mem::take(&mut self.targets);
        self.record_targets(message, &targets);
        for target in &targets {
            self.deliver_live(now, message, target);
        }
        self.targets = targets;
        self.deliver_to_groups(now, space, message);
    }

    /// The sessions whose subscriptions match, each once, at the highest QoS and with all identifiers [MQTT-3.3.4-2].
    fn find_targets(&mut self, space: u32, message: &Message) {
        self.route_number += 1;
        self.targets.clear();
        let (route, targets, sessions) = (self.route_number, &mut self.targets, &mut self.sessions);
        let counters = &mut self.counters;
        let Some(space) = self.spaces.get(space as usize) else {
            return;
        };
        space.index.matches(&message.app.topic, &mut |session, entry| {
            let Some(s) = sessions.get_mut(session as usize) else {
                return;
            };
            // [MQTT-3.8.3-3]
            if entry.options.no_local && message.publisher.as_deref() == Some(&*s.client.client_id) {
                if message.app.retain {
                    counters.gather_topics_over_bound += s.note_live(message);
                }
                return;
            }
            if s.route_mark.0 != route {
                s.route_mark = (route, targets.len() as u32);
                targets.push(Target::new(session));
            }
            if let Some(target) = targets.get_mut(s.route_mark.1 as usize) {
                target.add(message, entry);
            }
        });
    }
}

fn without_expiry(properties: &Properties) -> Option<Arc<Properties>> {
    let rest = Properties {
        message_expiry_interval: None,
        ..properties.clone()
    };
    (rest != Properties::default()).then(|| Arc::new(rest))
}
