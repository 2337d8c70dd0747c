//! `builtin:throttle-telemetry`: at most one message per topic and period, and the last value wins.
//!
//! ```toml
//! [[plugin]]
//! name = "throttle"
//! component = "builtin:throttle-telemetry"
//! grants = ["kv", "publish:vehicles/#"]
//! config.rules = [
//!   { match = "vehicles/+/position", period_ms = 1_000 },
//!   { match = "vehicles/+/telemetry/#", period_ms = 5_000 },
//! ]
//! ```
//!
//! The first message on a topic passes at once. Later ones within the period are held, each in the place of the one before, and the
//! last of them is published when the period ends; then the next period begins. A topic that says nothing new costs nothing.
//!
//! | key | default | meaning |
//! |---|---|---|
//! | `rules` | required | `match`, a topic filter, and `period_ms`, 100 to 3,600,000; the first that matches the topic applies, other messages pass |
//! | `qos0_only` | `true` | messages of QoS 1 and 2 pass at once: see below |
//! | `max_topics` | `10_000` | topics with a period under way, at most 30,000; messages on others pass |
//! | `tick_ms` | `100` | how often the plugin looks for periods that have ended, 10 to 60,000: so much later than its end may the last value come, and 256 of them are published each time |
//!
//! **What an acknowledgement means.** A held message lies in the broker's memory (`kv`), and only there: it outlives a reload, a trap
//! and another version of the plugin, not the end of the process. To its publisher it counts as delivered. At QoS 0 nobody was promised more. At
//! QoS 1 and 2 a PUBACK or PUBCOMP would promise what nobody keeps: that the message is stored as `broker.durability` says, though it is
//! not yet, and though it never will be where another one takes its place. Therefore messages of QoS 1 and 2 are not held, unless
//! `qos0_only = false` says that you want it so; then losing the values of one period in a crash is what you have agreed to. One that
//! passes takes the place of an older one that is held, which is forgotten: nobody sees an old value after a new one.
//!
//! The held message is published as it came, with its QoS, its retain flag and its properties, its expiry less the time it was held,
//! under the plugin's `publish:` grant and through the plugins behind this one. It is published in the common name space, so messages of
//! clients in a tenant pass at once.
//!
//! Where something goes wrong, messages pass: too many topics, a full store, a message over 60 KiB, more than 2 seconds (or 5 `tick_ms`)
//! without a tick after a period has ended. Counters: `held`, `superseded` (held, and then replaced by a newer one), `published`,
//! `expired`, and of what passed on a topic with a rule: `first`, `passed_qos`, `passed_tenant`, `passed_topics` (too many),
//! `passed_full` (the store, or the message is too large), `passed_late` (no tick).

mod gate;
mod held;
mod queue;

use gate::{Gate, Outcome, Settings};
use nervewire_plugin_parts::{check_filter, compile_each};
use nervewire_plugin_sdk::{export, prelude::*};

const PERIOD_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
const TICK_MS: std::ops::RangeInclusive<u32> = 10..=60_000;
/// Two entries for each fit into the plugin's store, with room for a change of periods.
const MAX_TOPICS: u64 = 30_000;

/// The `config` table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    rules: Vec<RuleConfig>,
    #[serde(default = "default_qos0_only")]
    qos0_only: bool,
    #[serde(default = "default_max_topics")]
    max_topics: u64,
    #[serde(default = "default_tick_ms")]
    tick_ms: u32,
}

fn default_qos0_only() -> bool {
    true
}

fn default_max_topics() -> u64 {
    10_000
}

fn default_tick_ms() -> u32 {
    100
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleConfig {
    r#match: String,
    period_ms: u64,
}

/// The plugin.
#[derive(Debug)]
pub struct Throttle {
    rules: Vec<RuleConfig>,
    qos0_only: bool,
    tick_ms: u32,
    gate: Gate,
}

impl Plugin for Throttle {
    type Config = Config;

    fn init(config: Config, _files: Files) -> Result<Self, String> {
        if !(1..=MAX_TOPICS).contains(&config.max_topics) {
            return Err(format!(
                "config.max_topics = {}, write 1 to {MAX_TOPICS}",
                config.max_topics
            ));
        }
        if !TICK_MS.contains(&config.tick_ms) {
            let (least, most) = TICK_MS.into_inner();
            return Err(format!("config.tick_ms = {}, write {least} to {most}", config.tick_ms));
        }
        let rules = compile_each("config.rules", config.rules, RuleConfig::checked)?;
        let mut periods_ms: Vec<_> = rules.iter().map(|rule| rule.period_ms).collect();
        periods_ms.sort_unstable();
        periods_ms.dedup();
        Ok(Self {
            rules,
            qos0_only: config.qos0_only,
            tick_ms: config.tick_ms,
            gate: Gate::new(Settings {
                periods_ms,
                max_topics: config.max_topics,
                tick_ms: config.tick_ms,
            }),
        })
    }

    fn tick_milliseconds(&self) -> Option<u32> {
        Some(self.tick_ms)
    }

    fn tick(&mut self, now: u64) -> Vec<Message> {
        self.gate.end_periods(now)
    }
}

impl RuleConfig {
    fn checked(self) -> Result<Self, String> {
        check_filter(&self.r#match)?;
        if PERIOD_MS.contains(&self.period_ms) {
            return Ok(self);
        }
        let (least, most) = PERIOD_MS.into_inner();
        Err(format!("period_ms = {}, write {least} to {most}", self.period_ms))
    }
}

impl Transform for Throttle {
    fn transform(&mut self, client: &Client, message: Message) -> Transformation {
        let Some(rule) = self
            .rules
            .iter()
            .find(|rule| topic::matches(&rule.r#match, &message.topic))
        else {
            return Transformation::Pass;
        };
        let (period_ms, now) = (rule.period_ms, clock::now_ms());
        let outcome = if client.tenant.is_some() {
            Outcome::Passed("passed_tenant")
        } else if self.qos0_only && message.qos != Qos::AtMostOnce {
            self.gate.overtake(&message.topic, now);
            Outcome::Passed("passed_qos")
        } else {
            self.gate.offer(message, period_ms, now)
        };
        match outcome {
            Outcome::Passed(counter) => {
                counters::add(counter, 1);
                Transformation::Pass
            }
            Outcome::Held => {
                counters::add("held", 1);
                Transformation::Drop
            }
        }
    }
}

export!(Throttle: transform);

#[cfg(test)]
mod tests;
