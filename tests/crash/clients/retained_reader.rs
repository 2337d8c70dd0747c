//! Looks at all retained messages, anew with every connection.

use super::session::{Event, Session, puback, pubcomp, pubrec};
use super::{Client, Turn};
use crate::oracle::{Oracle, RetainedView};
use crate::support::{Packet, Publish, QoS, Subscribe, Version, filter};

pub(crate) struct RetainedReader {
    session: Session,
    view: RetainedView,
    subscribed: bool,
    /// It has looked at what there was when the drain began.
    looks_at_drain: bool,
}

impl RetainedReader {
    pub(crate) fn new(client: &str) -> Self {
        let mut session = Session::new(client, Version::V311);
        (session.durable, session.clean_start) = (false, true);
        Self {
            session,
            view: RetainedView::default(),
            subscribed: false,
            looks_at_drain: false,
        }
    }

    fn subscribe(&mut self, turn: &mut Turn<'_>) {
        self.view = turn.oracle.retained_view();
        let packet_id = self.session.packet_id(|_| false);
        let filters = vec![filter("r/#", QoS::ExactlyOnce)];
        let packet = Subscribe {
            packet_id,
            properties: None,
            filters,
        };
        self.session.send(&Packet::Subscribe(packet));
    }

    fn on_publish(&mut self, publish: &Publish, oracle: &mut Oracle) {
        // What is published now comes with RETAIN 0 [MQTT-3.3.1-9], and instead of what was retained until then.
        match publish.retain {
            true => oracle.saw_retained(&mut self.view, publish),
            false => self.view.saw_live(&publish.topic),
        }
        if let Some(id) = publish.packet_id {
            let answer = if publish.qos == QoS::ExactlyOnce {
                pubrec(id)
            } else {
                puback(id)
            };
            self.session.send(&answer);
        }
    }
}

impl Client for RetainedReader {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected { .. } => self.subscribe(turn),
            Event::Packet(Packet::SubAck(_)) => self.subscribed = true,
            Event::Packet(Packet::Publish(publish)) => self.on_publish(&publish, turn.oracle),
            Event::Packet(Packet::PubRel(release)) => self.session.send(&pubcomp(release.packet_id)),
            Event::Packet(other) => turn.oracle.violation(format!("the retained reader got {other:?}")),
        }
    }

    /// Connects, once more where a drain has begun.
    fn act(&mut self, turn: &mut Turn<'_>) {
        let look_again = turn.draining && !self.looks_at_drain;
        self.looks_at_drain = turn.draining;
        if self.session.is_away() || look_again {
            self.subscribed = false;
            self.session.connect(turn);
        }
    }

    fn broker_died(&mut self, turn: &mut Turn<'_>) {
        self.read(turn);
        self.session.lose();
        self.looks_at_drain = false;
    }

    fn settled(&self, oracle: &Oracle) -> bool {
        self.subscribed && oracle.retained_missing(&self.view).is_empty()
    }

    fn give_up(&mut self, oracle: &mut Oracle) {
        oracle.write_off_retained(&self.view);
    }

    fn waits_for(&self) -> String {
        format!("{}: subscribed {}", self.session.client, self.subscribed)
    }
}
