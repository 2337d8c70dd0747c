//! A fleet of clients by seed: what each sends in every minute, in good days and bad ones. Nothing in it is an attack.

pub(crate) mod random;

use nervewire_plugin_sdk::Window;
use random::Random;

/// Length of a window.
pub(crate) const WINDOW_MS: u64 = 60_000;
/// Windows of an hour and of a day.
pub(crate) const HOUR: u64 = 60;
pub(crate) const DAY: u64 = 24 * HOUR;

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reports every so many seconds.
    Sensor,
    /// Collects for many devices: some minutes have many times the messages of others.
    Gateway,
    /// Follows the day; every second one sleeps at night.
    Diurnal,
    /// Changes its address on the way.
    Mobile,
    /// Is denied a little all the time, because somebody configured it wrongly.
    Misconfigured,
}

/// One client.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) address: String,
    /// Messages of a usual minute.
    pub(crate) rate: f64,
    /// The most that it sends in a minute on its own.
    pub(crate) peak: f64,
    pub(crate) topics: u32,
    payload: f64,
    payload_spread: f64,
    phase: u64,
    sleeps: bool,
    site: u64,
    /// Minutes for which it is still in a burst.
    burst: u64,
    burst_factor: f64,
    /// Messages kept while it was away.
    backlog: f64,
}

/// Everybody, and what happens to many at once.
pub(crate) struct Fleet {
    pub(crate) random: Random,
    pub(crate) members: Vec<Member>,
    minute: u64,
    storms: Vec<Trouble>,
    updates: Vec<Trouble>,
}

/// Something that a whole site goes through.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    site: u64,
    from: u64,
    minutes: u64,
}

const SITES: u64 = 8;

impl Fleet {
    /// So many clients for so many minutes.
    pub(crate) fn new(seed: u64, clients: usize, minutes: u64) -> Self {
        let mut random = Random::new(seed);
        let members = (0..clients).map(|number| Member::new(number, &mut random)).collect();
        let days = minutes.div_ceil(DAY);
        let mut fleet = Self {
            members,
            minute: 0,
            storms: Vec::new(),
            updates: Vec::new(),
            random,
        };
        for _ in 0..2 * days * SITES / 2 {
            let storm = fleet.trouble(minutes, 1, 3);
            fleet.storms.push(storm);
        }
        for _ in 0..days * SITES / 2 {
            let update = fleet.trouble(minutes, 5, 15);
            fleet.updates.push(update);
        }
        fleet
    }

    fn trouble(&mut self, minutes: u64, least: u64, most: u64) -> Trouble {
        Trouble {
            site: self.random.below(SITES),
            from: self.random.below(minutes.max(1)),
            minutes: least + self.random.below(most - least + 1),
        }
    }

    /// The windows of the next minute.
    pub(crate) fn next(&mut self) -> Vec<Window> {
        let minute = self.minute;
        self.minute += 1;
        let mut windows = Vec::with_capacity(self.members.len() + 16);
        for member in &mut self.members {
            let storm = self.storms.iter().any(|storm| storm.concerns(member.site, minute));
            let update = self.updates.iter().any(|update| update.concerns(member.site, minute));
            windows.extend(member.next(minute, storm, update, &mut self.random));
        }
        windows.extend(self.forgetful(minute));
        windows
    }

    /// Devices whose password was changed elsewhere: they try for ever, some of them behind one address.
    fn forgetful(&mut self, minute: u64) -> Vec<Window> {
        let count = self.members.len() / 50;
        let mut windows = Vec::new();
        for number in 0..count {
            if self.random.chance(0.7) {
                let window = Window {
                    failed_logins: 1 + self.random.below(3) as u32,
                    ..empty(
                        &format!("forgetful-{number}"),
                        &format!("10.9.0.{}", number / 3),
                        minute,
                    )
                };
                windows.push(window);
            }
        }
        windows
    }
}

impl Trouble {
    fn concerns(&self, site: u64, minute: u64) -> bool {
        self.site == site && (self.from..self.from + self.minutes).contains(&minute)
    }
}

/// A window in which nothing was counted.
pub(crate) fn empty(client_id: &str, address: &str, minute: u64) -> Window {
    Window {
        client_id: client_id.to_owned(),
        address: address.to_owned(),
        started: 1_800_000_000_000 / WINDOW_MS * WINDOW_MS + minute * WINDOW_MS,
        milliseconds: WINDOW_MS as u32,
        ..Window::default()
    }
}

impl Member {
    fn new(number: usize, random: &mut Random) -> Self {
        let kind = match random.below(100) {
            0..45 => Kind::Sensor,
            45..60 => Kind::Gateway,
            60..80 => Kind::Diurnal,
            80..95 => Kind::Mobile,
            _ => Kind::Misconfigured,
        };
        let rate = match kind {
            Kind::Sensor | Kind::Misconfigured => 60.0 / [5.0, 10.0, 30.0, 60.0, 300.0][random.below(5) as usize],
            Kind::Gateway => 50.0 * (1.8 * random.unit()).exp(),
            Kind::Diurnal => 4.0 + 36.0 * random.unit(),
            Kind::Mobile => 6.0 + 54.0 * random.unit(),
        };
        let (peak, topics) = match kind {
            Kind::Gateway => (rate * 30.0, 10 + random.below(190) as u32),
            Kind::Diurnal => (rate * 2.0, 1 + random.below(5) as u32),
            _ => (rate * 1.5, 1 + random.below(3) as u32),
        };
        Self {
            id: format!("{kind:?}-{number}").to_lowercase(),
            kind,
            address: format!("10.{}.{}.{}", random.below(4), number / 200, number % 200),
            rate,
            peak,
            topics,
            payload: 20.0 * (4.0 * random.unit()).exp(),
            payload_spread: 0.02 + 0.15 * random.unit(),
            phase: random.below(DAY),
            sleeps: random.chance(0.5),
            site: number as u64 % SITES,
            burst: 0,
            burst_factor: 1.0,
            backlog: 0.0,
        }
    }

    fn next(&mut self, minute: u64, storm: bool, update: bool, random: &mut Random) -> Option<Window> {
        let mut window = empty(&self.id, &self.address, minute);
        let mut messages = self.usual(minute, random) + std::mem::take(&mut self.backlog);
        if storm && random.chance(0.5) {
            // It was away for this minute: it sends later what it has kept.
            self.backlog = (messages * 0.8).min(200.0);
            messages = 0.0;
            window.connects = random.below(2) as u32;
        } else if storm {
            window.connects = 1 + random.below(4) as u32;
        }
        let mut payload = self.payload;
        if update {
            // It loads a new firmware and reports how far it is.
            window.messages_out = 200 + random.below(600);
            messages += 60.0 * random.unit();
            payload = payload.min(120.0).max(payload * 0.6);
        }
        if self.kind == Kind::Mobile && random.chance(0.012) {
            self.address = format!("100.{}.{}.{}", random.below(64), random.below(256), random.below(256));
            window.address = self.address.clone();
            window.connects += 1;
        }
        if random.chance(0.000_5) {
            window.connects += 1;
        }
        if self.kind == Kind::Misconfigured {
            window.denials = 1 + random.below(3) as u32;
        }
        self.fill(&mut window, messages.round() as u64, payload, random);
        (window.bytes_in > 0 || window.connects > 0).then_some(window)
    }

    /// Messages of this minute, if it is like others.
    fn usual(&mut self, minute: u64, random: &mut Random) -> f64 {
        match self.kind {
            Kind::Sensor | Kind::Misconfigured if self.rate < 1.0 => {
                let every = (1.0 / self.rate).round() as u64;
                f64::from(u8::from((minute + self.phase).is_multiple_of(every)))
            }
            Kind::Sensor | Kind::Misconfigured => self.rate.round() + random.normal().clamp(-1.0, 1.0).round(),
            Kind::Gateway => self.bursts(random),
            Kind::Diurnal => random.poisson(self.rate * self.daylight(minute)),
            Kind::Mobile => random.poisson(self.rate),
        }
        .max(0.0)
    }

    fn bursts(&mut self, random: &mut Random) -> f64 {
        if self.burst > 0 {
            self.burst -= 1;
        } else {
            self.burst_factor = 1.0;
            if random.chance(0.02) {
                self.burst = random.below(4);
                self.burst_factor = 4.0 + 16.0 * random.unit();
            }
        }
        (self.rate * self.burst_factor * (0.3 * random.normal()).exp()).min(self.peak)
    }

    /// From 0 at night, or a fifth for those who never sleep, to 2.
    fn daylight(&self, minute: u64) -> f64 {
        let angle = ((minute + self.phase) % DAY) as f64 / DAY as f64 * std::f64::consts::TAU;
        let light = 1.0 + angle.sin();
        match self.sleeps {
            true => (light - 0.3).max(0.0),
            false => light.max(0.2),
        }
    }

    /// Puts messages of some size on its topics into a window.
    fn fill(&self, window: &mut Window, messages: u64, payload: f64, random: &mut Random) {
        let mean = payload * (self.payload_spread * random.normal() / (messages.max(1) as f64).sqrt()).exp();
        window.messages_in = messages;
        window.distinct_topics = self.topics.min(messages as u32);
        window.payload_bytes_mean = if messages > 0 { mean } else { 0.0 };
        window.payload_bytes_min = (mean * 0.9) as u32;
        window.payload_bytes_max = (mean * 1.1) as u32;
        window.payload_bytes_deviation = mean * self.payload_spread;
        // It says that it is alive, if nothing else.
        window.bytes_in = 2 + messages * (mean as u64 + 20);
    }
}
