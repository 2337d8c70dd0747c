//! `nervewire bench pubsub`: publishers to subscribers.

use anyhow::ensure;

use super::course::Course;
use super::fleet::{Clock, Fleet};
use super::meter::Meter;
use super::opening::open_all;
use super::pubsub_args::PubsubArgs;
use super::pubsub_report::PubsubReport;
use super::report::Outcome;
use super::target::make_room_for;
use super::traffic::Traffic;
use super::visit::{Errand, visit_all};

/// Pairs of publisher and subscriber whose books fit into memory.
const MAX_PAIRS: usize = 50_000_000;

/// Runs the scenario.
pub(super) fn run(args: &PubsubArgs) -> anyhow::Result<Outcome> {
    let mut shape = args.shape();
    let pairs = shape.publishers * shape.scheme.partners(shape.subscribers);
    ensure!(
        pairs <= MAX_PAIRS,
        "{pairs} pairs of publisher and subscriber are too many to keep books on"
    );
    make_room_for(shape.publishers + shape.subscribers)?;
    let mut meter = Meter::new(args.target.process()?);
    let mut fleet = Fleet::new()?;
    let (terms, greetings) = (args.target.terms(0.0)?, args.greetings(&shape));
    let opened = open_all(&mut fleet, &terms, &greetings)?;
    args.check_opened(&opened)?;
    fleet.keep_alive(opened.limits.keep_alive_s);
    if shape.qos > 0 {
        shape.window = shape.window.min(opened.limits.receive_maximum.into());
    }
    let mut traffic = Traffic::new(shape.clone(), Clock::start());
    ensure!(
        traffic.packet_bytes() as u64 <= opened.limits.maximum_packet_bytes.into(),
        "the broker takes packets of at most {} bytes",
        opened.limits.maximum_packet_bytes
    );
    let pace = args.pace();
    let measured = Course::new(&pace, shape.publishers, &mut fleet, &mut traffic, &mut meter)?.run()?;
    fleet.say_goodbye(&mut traffic)?;
    if args.durable {
        let subscribers = greetings.iter().skip(shape.publishers);
        visit_all(
            &terms,
            Errand::End,
            subscribers.map(|greeting| greeting.client_id.clone()).collect(),
        )?;
    }
    Outcome::of(&PubsubReport::new(&pace, &shape, &traffic, measured, &meter))
}
