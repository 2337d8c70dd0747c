//! How much of what is done to a broker is found, and how often nothing is taken for something: fleets by seed, known attacks, and
//! what a real broker counted. The figures of the README are what this prints (`cargo test -p nervewire-plugin-anomaly-guard --test
//! evaluation -- --nocapture`).
//!
//! The thresholds were tuned with the seeds of [`TUNING`] alone; what is asserted is about [`FLEETS`] and [`ATTACKS`].

mod attacks;
mod fleet;
mod recorded;

use attacks::{Attack, Outcome, Shape};
use fleet::{DAY, Fleet, HOUR};
use nervewire_plugin_anomaly_guard::{Config, Guard};
use nervewire_plugin_sdk::Finding;
use std::collections::BTreeMap;

/// Seeds that the thresholds were tuned with: NERVEWIRE_TUNING=1 puts them in the place of the others.
const TUNING: std::ops::RangeInclusive<u64> = 1..=8;
/// Seeds of fleets to which nothing happens.
const FLEETS: std::ops::RangeInclusive<u64> = 101..=103;
/// Seeds of fleets in which clients are attacked, or attack.
const ATTACKS: std::ops::RangeInclusive<u64> = 201..=204;

fn seeds(tests: std::ops::RangeInclusive<u64>) -> std::ops::RangeInclusive<u64> {
    match std::env::var_os("NERVEWIRE_TUNING") {
        Some(_) => TUNING,
        None => tests,
    }
}

const CLIENTS: usize = 250;
/// Two days, so that silence is looked for, too.
const MINUTES: u64 = 48 * HOUR;

fn guard() -> Guard {
    Guard::new(Config::default())
}

/// Findings by rule, and a few of them in words.
#[derive(Default)]
struct FalseAlarms {
    client_hours: f64,
    by_rule: BTreeMap<String, u64>,
    examples: Vec<Finding>,
}

impl FalseAlarms {
    fn count(&self) -> u64 {
        self.by_rule.values().sum()
    }

    fn per_thousand_hours(&self) -> f64 {
        self.count() as f64 * 1_000.0 / self.client_hours
    }

    fn look_at(&mut self, seed: u64) {
        let (mut fleet, mut guard) = (Fleet::new(seed, CLIENTS, MINUTES), guard());
        for _ in 0..MINUTES {
            for finding in guard.look_at(&fleet.next()) {
                *self.by_rule.entry(rule_of(&finding).to_owned()).or_default() += 1;
                self.examples.push(finding);
            }
        }
        self.client_hours += CLIENTS as f64 * MINUTES as f64 / HOUR as f64;
    }
}

fn rule_of(finding: &Finding) -> &str {
    finding.evidence.split(':').next().unwrap_or_default()
}

fn false_alarms(seeds: impl Iterator<Item = u64>) -> FalseAlarms {
    let mut alarms = FalseAlarms::default();
    seeds.for_each(|seed| alarms.look_at(seed));
    println!(
        "{:.0} client-hours: {} false alarms, {:.2} per 1,000 client-hours {:?}",
        alarms.client_hours,
        alarms.count(),
        alarms.per_thousand_hours(),
        alarms.by_rule
    );
    alarms
}

fn attacked(seeds: impl Iterator<Item = u64>) -> BTreeMap<Attack, Outcome> {
    let mut outcomes = BTreeMap::new();
    for seed in seeds {
        attacks::run(seed, CLIENTS, guard(), &mut outcomes);
    }
    for (attack, outcome) in &outcomes {
        println!("{attack:?}: {outcome}");
    }
    outcomes
}

#[test]
fn nothing_is_rarely_taken_for_something() {
    let alarms = false_alarms(seeds(FLEETS));
    assert!(
        alarms.per_thousand_hours() <= 1.0,
        "{:?} {:#?}",
        alarms.by_rule,
        alarms.examples
    );
    assert!(alarms.client_hours >= 10_000.0, "too few to say one in a thousand");
}

#[test]
fn attacks_are_found() {
    let outcomes = attacked(seeds(ATTACKS));
    for attack in [Attack::Flood, Attack::Scan, Attack::Stuffing] {
        let outcome = &outcomes[&attack];
        assert!(outcome.attacks >= 100, "{attack:?}: {outcome}");
        assert!(outcome.rate_within(2) >= 0.95, "{attack:?}: {outcome}");
    }
    // Not promised, but to be told when it gets worse.
    assert!(outcomes[&Attack::SlowFlood].rate_within(60) >= 0.2);
    assert!(outcomes[&Attack::StolenIdentity].rate_within(10) >= 0.8);
}

#[test]
fn seeds_of_tuning_and_of_tests_are_not_the_same() {
    let tests: Vec<u64> = FLEETS.chain(ATTACKS).collect();
    assert!(TUNING.into_iter().all(|seed| !tests.contains(&seed)));
}

#[test]
fn a_real_brokers_windows_raise_no_alarm_and_an_attack_among_them_does() {
    let mut quiet = guard();
    let findings: Vec<Finding> = recorded::quiet()
        .iter()
        .flat_map(|batch| quiet.look_at(batch))
        .collect();
    assert_eq!(findings, [], "nothing happened while this was recorded");
    for shape in [Shape::Flood, Shape::Scan] {
        let mut guard = guard();
        for batch in recorded::quiet() {
            guard.look_at(&batch);
        }
        let found: Vec<Finding> = recorded::attack(shape)
            .iter()
            .flat_map(|batch| guard.look_at(batch))
            .collect();
        assert!(
            found
                .iter()
                .any(|finding| finding.client_id == shape.attacker() && rule_of(finding) == shape.rule()),
            "{shape:?}: {found:#?}"
        );
    }
}

#[test]
fn the_days_of_a_client_are_known_by_hour() {
    // A shift that begins at eight, every day: without `hour_of_day` each morning is a spike.
    let spikes = |hour_of_day: bool| {
        let mut guard = Guard::new(Config {
            hour_of_day,
            half_life_windows: 20,
            quiet_windows: 0,
            ..Config::default()
        });
        let mut days = Vec::new();
        for minute in 0..6 * DAY {
            let at_work = (8..16).contains(&(minute % DAY / HOUR));
            let messages = if at_work { 3_000 } else { 30 };
            let window = nervewire_plugin_sdk::Window {
                messages_in: messages,
                bytes_in: messages * 50,
                distinct_topics: 1,
                payload_bytes_mean: 40.0,
                ..fleet::empty("press", "10.0.0.1", minute)
            };
            // The generator's day begins with the clock's.
            let findings = guard.look_at(&[window]);
            if findings.iter().any(|finding| rule_of(finding) == "rate_spike") {
                days.push(minute / DAY);
            }
        }
        days.dedup();
        days
    };
    let (with, without) = (spikes(true), spikes(false));
    assert!(
        with.len() <= without.len() && with.iter().all(|day| *day < 2),
        "{with:?}, {without:?}"
    );
}
