//! Publishes numbered messages at QoS 1 and 2, several at a time, and sends again what was not acknowledged.

use super::session::{Event, Session, is_success, pubrel};
use super::{Client, Turn};
use crate::oracle::{MessageId, Oracle, payload};
use crate::support::{Ack, Packet, PacketId, Publish, QoS, Version, message};
use std::collections::VecDeque;

pub(crate) struct Publisher {
    session: Session,
    topics: Vec<Topic>,
    /// In the order in which they were sent first.
    in_flight: VecDeque<Flight>,
    most_in_flight: usize,
}

/// Its QoS is the topic's, because order is promised within one QoS only.
struct Topic {
    name: String,
    qos: QoS,
    retained: bool,
}

struct Flight {
    id: PacketId,
    message: MessageId,
    topic: usize,
    /// The payload is empty: the retained message goes.
    deletes: bool,
    /// PUBREC has come.
    released: bool,
}

impl Publisher {
    /// Publishes to `t/NUMBER/K`, K = 0 to 3, and for K = 0 and 1 to `s/NUMBER/K` (for shared subscriptions) and `r/NUMBER/K`
    /// (retained). An even K is QoS 1, an odd one QoS 2.
    pub(crate) fn new(number: usize, version: Version, most_in_flight: usize) -> Self {
        let topics = ["t", "t", "s", "r"].iter().enumerate().flat_map(|(place, kind)| {
            let ks = if *kind == "t" { place * 2..place * 2 + 2 } else { 0..2 };
            ks.map(move |k| Topic {
                name: format!("{kind}/{number}/{k}"),
                qos: if k % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
                retained: *kind == "r",
            })
        });
        Self {
            session: Session::new(&format!("publisher-{number}"), version),
            topics: topics.collect(),
            in_flight: VecDeque::new(),
            most_in_flight,
        }
    }

    /// Sends again what was not acknowledged, in the original order [MQTT-4.4.0-1], [MQTT-4.6.0-1].
    fn resume(&mut self, present: bool, oracle: &mut Oracle) {
        if !present {
            self.in_flight.clear(); // State of a session that the broker does not have.
        }
        for flight in &self.in_flight {
            let packet = match flight.released {
                true => pubrel(flight.id),
                false => {
                    oracle.sent_again(flight.message);
                    Packet::Publish(Publish {
                        dup: true,
                        ..flight.publish(&self.topics[flight.topic])
                    })
                }
            };
            self.session.send(&packet);
        }
    }

    fn on_puback(&mut self, answer: &Ack, oracle: &mut Oracle) {
        if let Some(flight) = self.take(answer, oracle) {
            self.acknowledged(&flight, answer, oracle);
        }
    }

    fn on_pubrec(&mut self, answer: &Ack, oracle: &mut Oracle) {
        let Some(mut flight) = self.take(answer, oracle) else {
            return;
        };
        self.acknowledged(&flight, answer, oracle);
        if is_success(answer) {
            flight.released = true;
            self.session.send(&pubrel(flight.id));
            // PUBRELs go in the order of their PUBRECs [MQTT-4.6.0-4], behind which later PUBLISHes may be.
            self.in_flight.push_back(flight);
        }
    }

    fn take(&mut self, answer: &Ack, oracle: &mut Oracle) -> Option<Flight> {
        let place = self.in_flight.iter().position(|flight| flight.id == answer.packet_id);
        if place.is_none() {
            let what = format!("{} got {answer:?}, which answers nothing", self.session.client);
            oracle.violation(what);
        }
        self.in_flight.remove(place?)
    }

    fn acknowledged(&self, flight: &Flight, answer: &Ack, oracle: &mut Oracle) {
        let topic = &self.topics[flight.topic];
        if flight.released {
            return; // Its PUBREC came again.
        }
        if !is_success(answer) {
            return oracle.refused(&topic.name, answer.reason as u8);
        }
        oracle.acknowledged(flight.message);
        if topic.retained {
            oracle.retained(&topic.name, flight.message);
        }
    }

    fn publish(&mut self, turn: &mut Turn<'_>) {
        let index = turn.random.index(self.topics.len());
        let topic = &self.topics[index];
        let deletes = topic.retained && turn.random.per_thousand(250);
        let message = turn.oracle.first_sent(&topic.name, topic.qos);
        if topic.retained {
            turn.oracle.retaining(&topic.name, message, deletes);
        }
        let in_flight = &self.in_flight;
        let id = self
            .session
            .packet_id(|id| in_flight.iter().any(|flight| flight.id == id));
        let flight = Flight {
            id,
            message,
            topic: index,
            deletes,
            released: false,
        };
        self.session.send(&Packet::Publish(flight.publish(topic)));
        self.in_flight.push_back(flight);
    }
}

impl Flight {
    fn publish(&self, topic: &Topic) -> Publish {
        let payload = if self.deletes {
            Vec::new()
        } else {
            payload(self.message, &topic.name)
        };
        Publish {
            packet_id: Some(self.id),
            retain: topic.retained,
            ..message(&topic.name, payload, topic.qos)
        }
    }
}

impl Client for Publisher {
    fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    fn handle(&mut self, event: Event, turn: &mut Turn<'_>) {
        match event {
            Event::Connected { present } => self.resume(present, turn.oracle),
            Event::Packet(Packet::PubAck(answer)) => self.on_puback(&answer, turn.oracle),
            Event::Packet(Packet::PubRec(answer)) => self.on_pubrec(&answer, turn.oracle),
            Event::Packet(Packet::PubComp(answer)) => drop(self.take(&answer, turn.oracle)),
            Event::Packet(other) => {
                let what = format!("{} got {other:?}", self.session.client);
                turn.oracle.violation(what);
            }
        }
    }

    fn act(&mut self, turn: &mut Turn<'_>) {
        if self.session.is_away() {
            self.session.connect(turn);
        } else if self.session.is_connected() && !turn.draining {
            while self.in_flight.len() < self.most_in_flight {
                self.publish(turn);
            }
            if turn.random.per_thousand(6) {
                self.session.lose();
            }
        }
    }

    fn settled(&self, _: &Oracle) -> bool {
        self.session.is_connected() && self.in_flight.is_empty()
    }

    fn waits_for(&self) -> String {
        format!("{}: {} in flight", self.session.client, self.in_flight.len())
    }
}
