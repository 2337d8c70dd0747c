//! The clients of the load. Each keeps the state that the specification wants of it over every loss of its connection, and
//! tells the oracle what it does and sees.

mod publisher;
mod retained_reader;
mod session;
mod subscriber;
mod will_owner;

pub(crate) use publisher::Publisher;
pub(crate) use retained_reader::RetainedReader;
pub(crate) use subscriber::{Manner, Subscriber};
pub(crate) use will_owner::WillOwner;

use crate::oracle::Oracle;
use crate::random::Random;
use mio::Registry;
use session::{Event, Session};
use std::net::SocketAddr;

/// What a client may use in its turn.
pub(crate) struct Turn<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) registry: &'a Registry,
    pub(crate) oracle: &'a mut Oracle,
    pub(crate) random: &'a mut Random,
    /// Nothing new is begun: what is under way comes to its end.
    pub(crate) draining: bool,
}

/// One client. It is given a turn whenever something may have happened.
pub(crate) trait Client {
    fn session(&mut self) -> &mut Session;

    /// Takes in what came.
    fn handle(&mut self, event: Event, turn: &mut Turn<'_>);

    /// Does what it does by itself.
    fn act(&mut self, turn: &mut Turn<'_>);

    /// Reads, acts, writes; the number of packets that came.
    fn turn(&mut self, turn: &mut Turn<'_>) -> usize {
        let came = self.read(turn);
        self.act(turn);
        self.session().flush();
        came
    }

    /// The broker is gone: reads what it had still sent.
    fn broker_died(&mut self, turn: &mut Turn<'_>) {
        self.read(turn);
        self.session().lose();
    }

    /// Takes in all that came, and answers how much that was.
    fn read(&mut self, turn: &mut Turn<'_>) -> usize {
        let events = self.session().events(turn);
        let came = events.len();
        for event in events {
            self.handle(event, turn);
        }
        came
    }

    /// Whether all it began has come to its end.
    fn settled(&self, oracle: &Oracle) -> bool;

    /// It is not going to settle: what it still waits for is lost.
    fn give_up(&mut self, _: &mut Oracle) {}

    /// What it still waits for, where it is not settled.
    fn waits_for(&self) -> String;
}
