//! Dates made coarse.

use nervewire_plugin_sdk::prelude::*;

/// How much of a date stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    Year,
    Month,
    Day,
}

/// Of a date or time that begins as ISO 8601 says, `2024`, `2024-05`, `2024-05-17` or `20240517`, at most so much.
/// `None`: it is none.
pub(crate) fn coarse_date(text: &str, precision: Precision) -> Option<String> {
    let date_end = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let mut parts = date_parts(text.get(..date_end)?)?;
    parts.truncate(match precision {
        Precision::Year => 1,
        Precision::Month => 2,
        Precision::Day => 3,
    });
    Some(parts.join("-"))
}

/// Year, month, day, as far as they are there.
fn date_parts(date: &str) -> Option<Vec<&str>> {
    let parts: Vec<_> = match date.len() {
        8 if !date.contains('-') => vec![date.get(..4)?, date.get(4..6)?, date.get(6..)?],
        _ => date.split('-').collect(),
    };
    let is_number = |part: &str, digits: usize| part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit());
    let within =
        |part: &str, last: u8| is_number(part, 2) && part.parse().is_ok_and(|number| (1..=last).contains(&number));
    let is_date = match parts.as_slice() {
        [year] => is_number(year, 4),
        [year, month] => is_number(year, 4) && within(month, 12),
        [year, month, day] => is_number(year, 4) && within(month, 12) && within(day, 31),
        _ => false,
    };
    is_date.then_some(parts)
}
