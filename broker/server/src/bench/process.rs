//! Processor time and memory of a process, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// A process that is watched during a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pid: u32,
}

/// Processor time used up to one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct CpuReading {
    /// Nanoseconds on a processor for each thread; empty where the kernel keeps no scheduler statistics.
    threads_ns: BTreeMap<u32, u64>,
    /// The same of the whole process, in clock ticks: coarse, but threads that have ended count.
    process_ns: u64,
}

impl Process {
    /// The process `pid`, if it is there and may be read.
    pub(super) fn find(pid: u32) -> anyhow::Result<Self> {
        let process = Self { pid };
        process.resident_bytes()?;
        Ok(process)
    }

    /// The generator itself.
    pub(super) fn own() -> Self {
        Self {
            pid: std::process::id(),
        }
    }

    /// Processor time so far.
    pub(super) fn cpu(&self) -> anyhow::Result<CpuReading> {
        let stat = self.read("stat")?;
        let ticks = parse_stat_ticks(&stat).context("cannot understand /proc/PID/stat")?;
        let tick_ns = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(CpuReading {
            threads_ns: self.threads_ns(),
            process_ns: ticks * tick_ns,
        })
    }

    fn threads_ns(&self) -> BTreeMap<u32, u64> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid))
            .into_iter()
            .flatten()
            .flatten();
        tasks.filter_map(|task| read_thread(&task)).collect()
    }

    /// Resident memory now.
    pub(super) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.read("status")?;
        parse_resident_bytes(&status).with_context(|| format!("process {} has no resident memory", self.pid))
    }

    fn read(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}; is process {} running?", self.pid))
    }
}

fn read_thread(task: &fs::DirEntry) -> Option<(u32, u64)> {
    let id = task.file_name().to_str()?.parse().ok()?;
    let statistics = fs::read_to_string(task.path().join("schedstat")).ok()?;
    Some((id, statistics.split_whitespace().next()?.parse().ok()?))
}

/// User and system time are fields 14 and 15; field 2, the name in parentheses, may hold spaces and parentheses.
fn parse_stat_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

impl CpuReading {
    /// Processor time used since `earlier`. The per-thread nanoseconds are exact but lose threads that have ended
    /// meanwhile; then, and where there are none, the process's clock ticks serve.
    pub(super) fn since(&self, earlier: &Self) -> Duration {
        let all_alive = earlier.threads_ns.keys().all(|id| self.threads_ns.contains_key(id));
        if self.threads_ns.is_empty() || !all_alive {
            return Duration::from_nanos(self.process_ns.saturating_sub(earlier.process_ns));
        }
        let total = |reading: &Self| reading.threads_ns.values().sum::<u64>();
        Duration::from_nanos(total(self).saturating_sub(total(earlier)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let check = |stat, expected| assert_eq!(parse_stat_ticks(stat), expected, "{stat}");
        check("1 (broker) S 0 1 1 0 -1 4 0 0 0 0 70 30 0 0 20 0", Some(100));
        check("1 (a) b) c) S 0 1 1 0 -1 4 0 0 0 0 1 2 0 0 20 0", Some(3));
        check("1 (broker) S 0 1", None);
        check("", None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            parse_resident_bytes("Name:\tx\nVmHWM:\t  99 kB\nVmRSS:\t    12 kB\n"),
            Some(12_288)
        );
        assert_eq!(parse_resident_bytes("Name:\tkthread\n"), None);
    }

    fn reading(threads: &[(u32, u64)], process_ns: u64) -> CpuReading {
        CpuReading {
            threads_ns: threads.iter().copied().collect(),
            process_ns,
        }
    }

    #[test]
    fn thread_times_are_used_while_every_thread_lives() {
        let check = |later: &CpuReading, earlier: &CpuReading, expected| {
            assert_eq!(
                later.since(earlier),
                Duration::from_nanos(expected),
                "{later:?} since {earlier:?}"
            );
        };
        check(
            &reading(&[(1, 50), (2, 70)], 1_000),
            &reading(&[(1, 10), (2, 20)], 0),
            90,
        );
        check(&reading(&[(1, 50), (3, 5)], 1_000), &reading(&[(1, 10)], 0), 45);
        check(&reading(&[(1, 50)], 1_000), &reading(&[(1, 10), (2, 20)], 400), 600);
        check(&reading(&[], 1_000), &reading(&[], 400), 600);
    }

    #[test]
    fn the_own_process_can_be_read() {
        let own = Process::own();
        assert!(own.resident_bytes().unwrap() > 0);
        assert!(own.cpu().is_ok());
    }
}
