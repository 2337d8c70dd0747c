//! What is odd about one window of one client, compared with what is known of it.

use crate::baseline::scale;
use crate::clients::{Profile, Rule};
use crate::settings::Config;
use nervewire_plugin_sdk::Window;

/// Something odd, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Odd {
    pub(crate) rule: Rule,
    pub(crate) evidence: String,
}

/// A window in numbers that do not depend on its length.
struct Minute {
    messages: f64,
    topics: f64,
    denials: f64,
}

impl Minute {
    fn of(window: &Window) -> Self {
        // A window is never without length; were it, its counts would be as those of a minute.
        let minutes = match window.milliseconds {
            0 => 1.0,
            length => f64::from(length) / 60_000.0,
        };
        Self {
            messages: window.messages_in as f64 / minutes,
            topics: f64::from(window.distinct_topics),
            denials: f64::from(window.denials) / minutes,
        }
    }
}

/// Looks at a window, and learns it.
pub(crate) fn judge(config: &Config, profile: &mut Profile, window: &Window, number: u64) -> Vec<Odd> {
    let is_known = profile.windows >= config.warm_up_windows;
    let minute = Minute::of(window);
    profile.places.is_at(&window.address, number);
    let found = [
        rate_spike(config, profile, window, &minute, is_known),
        topic_scan(config, profile, window, &minute, is_known),
        denial_burst(config, profile, window, &minute, is_known),
        payload_drift(config, profile, window, is_known),
        stolen_identity(config, profile, window, number, &minute, is_known),
    ];
    learn(config, profile, window, number, &minute, is_known);
    found.into_iter().flatten().collect()
}

fn odd(rule: Rule, evidence: String) -> Option<Odd> {
    Some(Odd { rule, evidence })
}

/// Two windows in a row above all that was seen, or one far above; or for a long time above what is usual.
fn rate_spike(config: &Config, profile: &mut Profile, window: &Window, minute: &Minute, is_known: bool) -> Option<Odd> {
    let rule = &config.rules.rate_spike;
    let per_second = minute.messages / 60.0;
    let seconds = f64::from(window.milliseconds) / 1_000.0;
    let sent = format!("{} messages in {seconds:.0} s ({per_second:.1}/s)", window.messages_in);
    if !is_known {
        let is_over = per_second >= rule.new_client_messages_per_second;
        profile.over_rate = in_a_row(profile.over_rate, is_over);
        return (profile.over_rate >= 2)
            .then(|| odd(Rule::RateSpike, format!("{sent} from a client that is not known yet")))?;
    }
    let usual = profile.rate.usual_count() / 60.0;
    let peak = profile.rate.peak_count() / 60.0;
    let is_known_by_day = knows_a_day(profile, window.started);
    // Whoever collects from others has bursts that one must have seen.
    let factor = if is_known_by_day {
        rule.factor
    } else {
        8.0 * rule.factor
    };
    let is_over = per_second >= rule.min_messages_per_second
        && profile.rate.is_exceeded(minute.messages, factor)
        && !is_usual_at_this_hour(profile, window.started, minute.messages, rule.factor);
    profile.over_rate = in_a_row(profile.over_rate, is_over);
    let is_flood =
        is_over && per_second >= 10.0 * rule.min_messages_per_second && profile.rate.is_dwarfed(minute.messages);
    if is_flood || profile.over_rate >= 2 {
        return odd(
            Rule::RateSpike,
            format!("{sent}; usual are {usual:.2}/s, and at most {peak:.2}/s so far"),
        );
    }
    if !is_known_by_day || !is_slow_flood(profile, window.started, minute) {
        return None;
    }
    odd(
        Rule::RateSpike,
        format!("{sent}; usual were {usual:.2}/s, and it has been more for a long time"),
    )
}

/// Whether a client has been seen at every hour.
fn knows_a_day(profile: &Profile, now_ms: u64) -> bool {
    const DAY_MS: u64 = 24 * 3_600_000;
    now_ms.saturating_sub(profile.first_seen_ms) >= DAY_MS
}

/// Adds up how far the rate is above what is usual, and above all that has lasted; whether it is too much by now.
fn is_slow_flood(profile: &mut Profile, started: u64, minute: &Minute) -> bool {
    /// Deviations above the mean that are taken for chance.
    const CHANCE: f64 = 1.0;
    /// The most that one window adds, before [`CHANCE`].
    const MOST: f64 = 4.0;
    /// What is too much.
    const TOO_MUCH: f32 = 50.0;
    /// Messages per minute below which nobody is flooded.
    const LEAST: f64 = 2.0;
    let value = scale(minute.messages);
    let hour = profile.hours.as_ref().and_then(|hours| hours.at(started));
    let distance = profile.rate.above_ceiling(minute.messages);
    let distance = hour.map_or(distance, |hour| distance.min(hour.distance(value)));
    let added = (distance.min(MOST) - CHANCE) as f32;
    profile.pressure = (profile.pressure + added).max(0.0);
    let is_too_much = profile.pressure >= TOO_MUCH && minute.messages >= LEAST;
    if is_too_much {
        profile.pressure = 0.0;
    }
    is_too_much
}

fn is_usual_at_this_hour(profile: &Profile, started: u64, messages: f64, factor: f64) -> bool {
    let hour = profile.hours.as_ref().and_then(|hours| hours.at(started));
    hour.is_some_and(|hour| scale(messages) <= hour.mean() + factor.ln().max(3.0 * hour.deviation()))
}

/// Two windows in a row with more topics than ever, or one with far more.
fn topic_scan(config: &Config, profile: &mut Profile, window: &Window, minute: &Minute, is_known: bool) -> Option<Odd> {
    let rule = &config.rules.topic_scan;
    let topics = window.distinct_topics;
    let is_over = match is_known {
        true => topics >= rule.min_topics && profile.topics.is_exceeded(minute.topics, rule.factor),
        false => topics >= rule.new_client_topics,
    };
    profile.over_topics = in_a_row(profile.over_topics, is_over);
    let is_scan = is_known && is_over && profile.topics.is_dwarfed(minute.topics);
    if !is_scan && profile.over_topics < 2 {
        return None;
    }
    let known = match is_known {
        true => format!(
            "usual are {:.0}, and at most {:.0} so far",
            profile.topics.usual_count(),
            profile.topics.peak_count()
        ),
        false => "the client is not known yet".to_owned(),
    };
    let messages = window.messages_in;
    odd(
        Rule::TopicScan,
        format!("about {topics} topics with {messages} messages; {known}"),
    )
}

fn denial_burst(
    config: &Config,
    profile: &mut Profile,
    window: &Window,
    minute: &Minute,
    is_known: bool,
) -> Option<Odd> {
    let rule = &config.rules.denial_burst;
    let denials = window.denials;
    let is_over = match is_known {
        true => denials >= rule.min_denials && profile.denials.is_exceeded(minute.denials, rule.factor),
        false => denials >= rule.new_client_denials,
    };
    if !is_over {
        return None;
    }
    let usual = profile.denials.usual_count();
    odd(
        Rule::DenialBurst,
        format!("{denials} requests were denied; usual are {usual:.1} in a minute"),
    )
}

/// Three windows in a row with payloads of another size.
fn payload_drift(config: &Config, profile: &mut Profile, window: &Window, is_known: bool) -> Option<Odd> {
    const IN_A_ROW: u8 = 3;
    let rule = &config.rules.payload_drift;
    if window.messages_in < u64::from(rule.min_messages) {
        return None;
    }
    let off = (scale(window.payload_bytes_mean) - profile.payload.mean()).abs();
    let too_far = rule.factor.ln().max(8.0 * profile.payload.deviation().min(0.5));
    let is_off = is_known && profile.payload.seen() >= config.warm_up_windows && off > too_far;
    profile.off_payload = in_a_row(profile.off_payload, is_off);
    if profile.off_payload < IN_A_ROW {
        return None;
    }
    let (mean, usual) = (window.payload_bytes_mean, profile.payload.mean().exp_m1());
    odd(
        Rule::PayloadDrift,
        format!("payloads of {mean:.0} bytes on average; usual are {usual:.0}"),
    )
}

/// Two who take each other's place, from two addresses; or a new address with another behaviour.
fn stolen_identity(
    config: &Config,
    profile: &mut Profile,
    window: &Window,
    number: u64,
    minute: &Minute,
    is_known: bool,
) -> Option<Odd> {
    /// Windows in which a new address is new.
    const NEW: u64 = 3;
    let rule = &config.rules.stolen_identity;
    let (connects, address) = (window.connects, &window.address);
    let takes_turns = f64::from(profile.places.returns) > f64::from(rule.returns) - 0.5;
    if connects >= 2 && takes_turns {
        return odd(
            Rule::StolenIdentity,
            format!("{connects} connections, now from {address}, and again and again from addresses that it had left"),
        );
    }
    let is_new = profile.places.new_at.is_some_and(|at| number.saturating_sub(at) < NEW);
    if !is_known || !is_new {
        return None;
    }
    let behaves = unlike(config, profile, window, minute)?;
    profile.places.new_at = None;
    odd(
        Rule::StolenIdentity,
        format!("from the new address {address}, and {behaves}"),
    )
}

/// What is unlike the client, if less than other rules ask for.
fn unlike(config: &Config, profile: &Profile, window: &Window, minute: &Minute) -> Option<String> {
    const LEAST_MESSAGES: u64 = 3;
    if window.messages_in < LEAST_MESSAGES {
        return None;
    }
    let payload_off = (scale(window.payload_bytes_mean) - profile.payload.mean()).abs();
    if profile.payload.seen() >= config.warm_up_windows && payload_off > 1.0_f64.max(5.0 * profile.payload.deviation())
    {
        let mean = window.payload_bytes_mean;
        return Some(format!(
            "with payloads of {mean:.0} bytes instead of {:.0}",
            profile.payload.mean().exp_m1()
        ));
    }
    if minute.topics >= 5.0 && profile.topics.is_exceeded(minute.topics, 2.5) {
        let usual = profile.topics.usual_count();
        return Some(format!("to {} topics instead of {usual:.0}", window.distinct_topics));
    }
    if minute.messages >= 30.0 && profile.rate.is_exceeded(minute.messages, 4.0) {
        let usual = profile.rate.usual_count();
        return Some(format!(
            "with {:.0} messages a minute instead of {usual:.0}",
            minute.messages
        ));
    }
    None
}

fn learn(config: &Config, profile: &mut Profile, window: &Window, number: u64, minute: &Minute, is_known: bool) {
    let weight = 1.0 - 0.5_f64.powf(1.0 / f64::from(config.half_life_windows));
    // What may be a slow flood is not to become usual before that is known.
    let patience = if profile.pressure > 10.0 { 0.1 } else { 1.0 };
    profile
        .rate
        .learn(minute.messages, weight * patience, is_known, profile.over_rate > 0);
    profile
        .topics
        .learn(minute.topics, weight, is_known, profile.over_topics > 0);
    profile.denials.learn(minute.denials, weight, is_known, false);
    if window.messages_in >= u64::from(config.rules.payload_drift.min_messages.min(3)) {
        let is_known = is_known && profile.payload.seen() >= config.warm_up_windows;
        profile
            .payload
            .learn(scale(window.payload_bytes_mean), weight, is_known);
    }
    if config.hour_of_day {
        let hours = profile.hours.get_or_insert_default();
        hours.learn(window.started, scale(minute.messages), weight);
    }
    if profile.windows == 0 {
        profile.first_seen_ms = window.started;
        profile.last_active = number;
    }
    profile.windows = profile.windows.saturating_add(1);
    profile.last_seen = number;
    if window.messages_in > 0 {
        let pause = number.saturating_sub(profile.last_active).saturating_sub(1);
        profile.longest_pause = profile.longest_pause.max(u32::try_from(pause).unwrap_or(u32::MAX));
        profile.last_active = number;
        profile.is_told_silent = false;
    }
}

/// How many windows in a row.
fn in_a_row(before: u8, now: bool) -> u8 {
    match now {
        true => before.saturating_add(1),
        false => 0,
    }
}
