//! All clients of the load, driven by one thread.

use crate::clients::{Client, Manner, Publisher, RetainedReader, Subscriber, Turn, WillOwner};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::support::{QoS, Version};
use mio::{Events, Poll};
use std::net::SocketAddr;
use std::time::Duration;

/// A turn is due at least that often.
const TURN: Duration = Duration::from_millis(1);
/// Sockets that one poll tells of: all are looked at anyway.
const EVENTS: usize = 64;

pub(crate) struct Fleet {
    pub(crate) oracle: Oracle,
    clients: Vec<Box<dyn Client>>,
    random: Random,
    poll: Poll,
    address: SocketAddr,
}

impl Fleet {
    pub(crate) fn new(mut random: Random) -> Self {
        let mut oracle = Oracle::default();
        let clients = clients(&mut oracle, &mut random);
        Self {
            oracle,
            clients,
            random,
            poll: Poll::new().expect("a poll"),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }

    /// The broker listens there now.
    pub(crate) fn broker_is_at(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Every client has had its turn; the number of packets that came.
    pub(crate) fn turn(&mut self, draining: bool) -> usize {
        let mut events = Events::with_capacity(EVENTS);
        // A signal may interrupt it: a turn is due anyway.
        let _ = self.poll.poll(&mut events, Some(TURN));
        self.each(draining, |client, turn| client.turn(turn))
    }

    /// The broker is gone. What it sent before is read.
    pub(crate) fn broker_died(&mut self) {
        self.each(false, |client, turn| {
            client.broker_died(turn);
            0
        });
    }

    fn each(&mut self, draining: bool, mut give: impl FnMut(&mut dyn Client, &mut Turn<'_>) -> usize) -> usize {
        let mut turn = Turn {
            address: self.address,
            registry: self.poll.registry(),
            oracle: &mut self.oracle,
            random: &mut self.random,
            draining,
        };
        self.clients
            .iter_mut()
            .map(|client| give(client.as_mut(), &mut turn))
            .sum()
    }

    /// All that was begun has come to its end, and all that is owed has come.
    pub(crate) fn is_settled(&self) -> bool {
        self.oracle.owed() == 0 && self.clients.iter().all(|client| client.settled(&self.oracle))
    }

    /// What has not come is not coming.
    pub(crate) fn give_up(&mut self) {
        self.oracle.write_off();
        for client in &mut self.clients {
            client.give_up(&mut self.oracle);
            if !client.settled(&self.oracle) {
                let what = format!("waits in vain: {}", client.waits_for());
                self.oracle.violation(what);
            }
        }
    }
}

/// Publishers and subscribers of both versions, and what else there is.
fn clients(oracle: &mut Oracle, random: &mut Random) -> Vec<Box<dyn Client>> {
    let mut clients: Vec<Box<dyn Client>> = Vec::new();
    for number in 0..6 {
        let most_in_flight = random.within(4..40) as usize;
        clients.push(Box::new(Publisher::new(number, version(number), most_in_flight)));
    }
    for (name, version, manner, filters) in subscribers() {
        let account = oracle.account(name, false);
        let subscriber = Subscriber::new(name, version, account, manner);
        let with = |subscriber: Subscriber, &(filter, qos, changes): &_| subscriber.filter(filter, qos, changes);
        clients.push(Box::new(filters.iter().fold(subscriber, with)));
    }
    let group = oracle.account("the shared group", true);
    for number in 0..3 {
        let manner = Manner {
            leaves: 5,
            slow: [0, 300, 0][number],
            ..Manner::default()
        };
        let member = Subscriber::new(&format!("shared-{number}"), version(number), group, manner);
        clients.push(Box::new(member.filter("$share/group/s/#", QoS::ExactlyOnce, false)));
    }
    let watcher = oracle.account("watcher", false);
    let subscriber = Subscriber::new("watcher", Version::V5, watcher, Manner::default());
    clients.push(Box::new(subscriber.filter("w/#", QoS::ExactlyOnce, false)));
    clients.push(Box::new(WillOwner::new("patient", watcher, true)));
    clients.push(Box::new(WillOwner::new("hasty", watcher, false)));
    clients.push(Box::new(RetainedReader::new("retained-reader")));
    clients
}

fn version(number: usize) -> Version {
    if number.is_multiple_of(2) {
        Version::V5
    } else {
        Version::V311
    }
}

type Described = (&'static str, Version, Manner, &'static [(&'static str, QoS, bool)]);

/// Filters of one subscriber do not overlap: how often a message comes to it is then certain.
fn subscribers() -> [Described; 7] {
    use QoS::{AtLeastOnce, ExactlyOnce};
    let manner = Manner::default();
    let small_window = Some(7);
    [
        ("prompt", Version::V5, manner, &[("t/#", ExactlyOnce, false)]),
        (
            "slow",
            Version::V311,
            Manner {
                slow: 250,
                leaves: 5,
                ..manner
            },
            &[("t/#", ExactlyOnce, false)],
        ),
        (
            "narrow",
            Version::V5,
            Manner {
                slow: 500,
                leaves: 5,
                receive_maximum: small_window,
                ..manner
            },
            &[("t/0/#", ExactlyOnce, false), ("t/1/#", AtLeastOnce, false)],
        ),
        (
            "changing",
            Version::V311,
            Manner {
                changes: 60,
                leaves: 5,
                ..manner
            },
            &[
                ("t/+/0", ExactlyOnce, false),
                ("t/+/1", ExactlyOnce, true),
                ("t/+/2", AtLeastOnce, true),
            ],
        ),
        (
            "away",
            Version::V5,
            Manner { leaves: 40, ..manner },
            &[("t/+/1", ExactlyOnce, false), ("t/+/2", ExactlyOnce, false)],
        ),
        (
            "ending",
            Version::V5,
            Manner {
                ends_session: 15,
                ..manner
            },
            &[("t/#", ExactlyOnce, false)],
        ),
        (
            "transient",
            Version::V311,
            Manner {
                leaves: 15,
                transient: true,
                ..manner
            },
            &[("t/2/#", ExactlyOnce, false)],
        ),
    ]
}
