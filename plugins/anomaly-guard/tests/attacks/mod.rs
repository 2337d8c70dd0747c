//! Known attacks in the middle of a fleet, and how many of them are found how soon.

use crate::fleet::{Fleet, HOUR, Kind, empty};
use nervewire_plugin_anomaly_guard::Guard;
use nervewire_plugin_sdk::{Finding, Window};
use std::collections::BTreeMap;
use std::fmt;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Attack {
    /// A known client sends 20 to 500 messages a second, and at least three times what it ever sends.
    Flood,
    /// A known client sends twice to four times its rate for three hours.
    SlowFlood,
    /// A known client tries 100 to 3,000 topics a minute, at least three times those it has; or is denied 50 to 500 times.
    Scan,
    /// 30 to 500 client identifiers fail to log in, from one to five addresses.
    Stuffing,
    /// The same number from 200 addresses.
    SpreadStuffing,
    /// A thief with a copy of a client's credentials: they take each other's place; or the thief comes when the client is away,
    /// and sends something else.
    StolenIdentity,
}

impl Attack {
    const ALL: [Attack; 6] = [
        Self::Flood,
        Self::SlowFlood,
        Self::Scan,
        Self::Stuffing,
        Self::SpreadStuffing,
        Self::StolenIdentity,
    ];

    fn minutes(self) -> u64 {
        match self {
            Self::SlowFlood => 3 * HOUR,
            Self::StolenIdentity => 10,
            _ => 5,
        }
    }

    fn is_found_by(self, rule: &str) -> bool {
        match self {
            Self::Flood | Self::SlowFlood => rule == "rate_spike",
            Self::Scan => rule == "topic_scan" || rule == "denial_burst",
            Self::Stuffing | Self::SpreadStuffing => rule == "credential_stuffing",
            Self::StolenIdentity => rule == "stolen_identity",
        }
    }
}

/// Attacks whose traffic a real broker has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Flood,
    Scan,
}

impl Shape {
    pub(crate) fn attacker(self) -> &'static str {
        match self {
            Self::Flood => "sensor-3",
            Self::Scan => "sensor-5",
        }
    }

    pub(crate) fn rule(self) -> &'static str {
        match self {
            Self::Flood => "rate_spike",
            Self::Scan => "topic_scan",
        }
    }
}

/// How many attacks there were, and after how many windows each was found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) attacks: u64,
    found_after: Vec<u64>,
}

impl Outcome {
    /// The share that was found within so many windows.
    pub(crate) fn rate_within(&self, windows: u64) -> f64 {
        let found = self.found_after.iter().filter(|after| **after <= windows).count();
        found as f64 / self.attacks.max(1) as f64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |windows| 100.0 * self.rate_within(windows);
        write!(
            f,
            "{} attacks, found within 1 window {:.1}%, 2 {:.1}%, 10 {:.1}%, 60 {:.1}%, ever {:.1}%",
            self.attacks,
            percent(1),
            percent(2),
            percent(10),
            percent(60),
            percent(u64::MAX)
        )
    }
}

/// An attack that will be, or is, under way.
struct Planned {
    attack: Attack,
    /// The client by which it is done, or one that stands for those who fail to log in.
    member: usize,
    from: u64,
    strength: f64,
    variant: bool,
    found: Option<u64>,
}

/// When everybody is known, by a day or by some hours.
const FIRST: [u64; 2] = [26 * HOUR, 3 * HOUR];
/// Between the beginnings of two attacks.
const PAUSE: u64 = 6;

/// A fleet in which every second client is attacked once, each kind of attack as often as the others.
pub(crate) fn run(seed: u64, clients: usize, mut guard: Guard, outcomes: &mut BTreeMap<Attack, Outcome>) {
    // Enough for the last one, and for the slow ones to be found.
    let first = FIRST[(seed % 2) as usize];
    let minutes = first + PAUSE * clients as u64 + 4 * HOUR;
    let mut fleet = Fleet::new(seed, clients, minutes);
    let mut planned = plan(&mut fleet, first);
    for minute in 0..minutes {
        let mut windows = fleet.next();
        for plan in &planned {
            if (plan.from..plan.from + plan.attack.minutes()).contains(&minute) {
                plan.act(&mut fleet, minute, &mut windows);
            }
        }
        let findings = guard.look_at(&windows);
        planned.iter_mut().for_each(|plan| plan.look(&fleet, minute, &findings));
    }
    for plan in planned {
        let outcome = outcomes.entry(plan.attack).or_default();
        outcome.attacks += 1;
        outcome.found_after.extend(plan.found);
    }
}

fn plan(fleet: &mut Fleet, first: u64) -> Vec<Planned> {
    let count = fleet.members.len();
    let plans = (0..count).map(|number| Planned {
        attack: Attack::ALL[number % Attack::ALL.len()],
        member: number,
        from: first + PAUSE * number as u64,
        strength: fleet.random.unit(),
        variant: fleet.random.chance(0.5),
        found: None,
    });
    plans.collect()
}

impl Planned {
    /// Changes the windows of this minute.
    fn act(&self, fleet: &mut Fleet, minute: u64, windows: &mut Vec<Window>) {
        let member = fleet.members[self.member].clone();
        let position = windows.iter().position(|window| window.client_id == member.id);
        let mut window = match position {
            Some(position) => windows.swap_remove(position),
            None => empty(&member.id, &member.address, minute),
        };
        let spread = self.strength;
        match self.attack {
            Attack::Flood => {
                let per_minute = (60.0 * 20.0 * 25.0_f64.powf(spread)).max(3.0 * member.peak);
                more(&mut window, per_minute as u64);
            }
            Attack::SlowFlood => {
                let factor = 2.0 + 2.0 * spread;
                let more_messages = (member.rate * (factor - 1.0)).round().max(1.0) as u64;
                more(&mut window, more_messages);
            }
            Attack::Scan if self.variant => window.denials += (50.0 * 10.0_f64.powf(spread)) as u32,
            Attack::Scan => {
                let topics = ((100.0 * 30.0_f64.powf(spread)) as u32)
                    .max(3 * member.topics)
                    .min(3_195);
                more(&mut window, topics.into());
                window.distinct_topics = topics;
            }
            Attack::Stuffing | Attack::SpreadStuffing => {
                let clients = (30.0 * 16.0_f64.powf(spread)) as u64;
                let addresses = match self.attack {
                    Attack::SpreadStuffing => 200,
                    _ => 1 + self.member as u64 % 5,
                };
                for number in 0..clients {
                    let address = format!("198.51.{}.{}", self.member % 200, number % addresses);
                    let id = format!("guess-{}-{number}", self.member);
                    let failures = 1 + fleet.random.below(3) as u32;
                    windows.push(Window {
                        failed_logins: failures,
                        ..empty(&id, &address, minute)
                    });
                }
            }
            Attack::StolenIdentity if self.variant => {
                window.connects += 4 + fleet.random.below(16) as u32;
                if fleet.random.chance(0.5) {
                    window.address = "203.0.113.66".to_owned();
                }
            }
            Attack::StolenIdentity => {
                window.address = "203.0.113.66".to_owned();
                window.connects += u32::from(minute == self.from);
                more(&mut window, 20);
                let factor = if spread < 0.5 { 0.2 } else { 5.0 };
                window.payload_bytes_mean = (window.payload_bytes_mean.max(20.0) * factor).max(1.0);
            }
        }
        windows.push(window);
    }

    fn look(&mut self, fleet: &Fleet, minute: u64, findings: &[Finding]) {
        if self.found.is_some() || minute < self.from || minute > self.from + self.attack.minutes() {
            return;
        }
        let member = &fleet.members[self.member];
        let guess = format!("guess-{}-", self.member);
        let is_about = |finding: &&Finding| match self.attack {
            Attack::Stuffing => finding.client_id.starts_with(&guess),
            Attack::SpreadStuffing => finding.evidence.contains(" addresses; "),
            _ => finding.client_id == member.id,
        };
        let mut about = findings.iter().filter(is_about);
        if about.any(|finding| self.attack.is_found_by(crate::rule_of(finding))) {
            self.found = Some(minute - self.from + 1);
        }
        // What a gateway does by itself is not asked of others.
        debug_assert!(member.kind != Kind::Gateway || member.peak >= member.rate);
    }
}

fn more(window: &mut Window, messages: u64) {
    let size = window.payload_bytes_mean.max(20.0);
    window.messages_in += messages;
    window.bytes_in += messages * size as u64;
    window.payload_bytes_mean = size;
    window.distinct_topics = window.distinct_topics.max(1);
}
