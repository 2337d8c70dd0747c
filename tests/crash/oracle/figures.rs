//! What a run is told by.

use std::fmt;

#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) cycles: u64,
    pub(crate) kills: u64,
    /// Deaths at a fail point, by its name.
    pub(crate) fail_points: std::collections::BTreeMap<&'static str, u64>,
    /// QoS 1 and 2 messages for which PUBACK or PUBREC came.
    pub(crate) acknowledged: u64,
    /// The fewest in one cycle.
    pub(crate) acknowledged_least: Option<u64>,
    pub(crate) refused: u64,
    /// To subscribers, without what a packet identifier showed to be a redelivery.
    pub(crate) delivered: u64,
    /// Acknowledged, and never delivered to a subscriber that had to get it.
    pub(crate) lost: u64,
    /// Dropped at a bound, as the broker's metrics say.
    pub(crate) dropped: u64,
    /// Delivered twice at QoS 2.
    pub(crate) duplicates: u64,
    /// Delivered again at QoS 1, which is allowed.
    pub(crate) redelivered: u64,
    pub(crate) reordered: u64,
    /// Came again or was routed again to a subscription that was made after it had been sent first, behind younger ones.
    pub(crate) late: u64,
    /// Delivered without a subscription, after the end of the session, or a cancelled will.
    pub(crate) revived: u64,
    pub(crate) sessions_lost: u64,
    pub(crate) sessions_revived: u64,
    /// Retained messages that are gone, older than the last acknowledged one, or deleted.
    pub(crate) retained_wrong: u64,
    /// All of these and whatever else was wrong.
    pub(crate) violations: u64,
}

impl Figures {
    pub(crate) fn end_cycle(&mut self, acknowledged_before: u64) {
        self.cycles += 1;
        let acknowledged = self.acknowledged - acknowledged_before;
        self.acknowledged_least = Some(
            self.acknowledged_least
                .map_or(acknowledged, |least| least.min(acknowledged)),
        );
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cycles                    {}", self.cycles)?;
        writeln!(f, "kills                     {}", self.kills)?;
        for (name, deaths) in &self.fail_points {
            writeln!(f, "  at {name:<22} {deaths}")?;
        }
        writeln!(f, "acknowledged QoS 1 and 2  {}", self.acknowledged)?;
        writeln!(f, "  in a cycle, at least    {}", self.acknowledged_least.unwrap_or(0))?;
        writeln!(f, "delivered                 {}", self.delivered)?;
        writeln!(f, "  again at QoS 1          {}", self.redelivered)?;
        writeln!(f, "lost                      {}", self.lost)?;
        writeln!(f, "dropped at a bound        {}", self.dropped)?;
        writeln!(f, "duplicates at QoS 2       {}", self.duplicates)?;
        writeln!(f, "reordered                 {}", self.reordered)?;
        writeln!(f, "late, to a subscription   {}", self.late)?;
        writeln!(f, "revived                   {}", self.revived)?;
        writeln!(
            f,
            "sessions lost, revived    {}, {}",
            self.sessions_lost, self.sessions_revived
        )?;
        writeln!(f, "retained wrong            {}", self.retained_wrong)?;
        write!(f, "violations of any kind    {}", self.violations)
    }
}
