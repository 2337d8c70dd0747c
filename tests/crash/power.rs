//! Power cuts: what no fsync covered is lost, all of it or a part, as the library of tests/power_cut has recorded it.

use crate::random::Random;
use crate::support::{Setup, cargo, repository};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What a disk writes as a whole, or not.
const PAGE_BYTES: usize = 4096;

/// Watches a directory of the broker, and cuts the power.
pub(crate) struct Power {
    watched: PathBuf,
    /// Now and then a part of what no fsync covered is spared.
    spares: bool,
    record: tempfile::TempDir,
}

/// What of the bytes that no fsync covered is left.
#[derive(Clone, Copy, Debug)]
enum Survives {
    Nothing,
    /// Everything up to some byte.
    Prefix,
    /// Some pages, in no order.
    Pages,
}

/// A change of a directory.
#[derive(Clone, Debug)]
enum Change {
    Create(u64, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    MakeDirectory(PathBuf),
    /// The changes of this directory are on the disk.
    Sync(PathBuf),
}

/// The names below the directory: directories, and files by their number in the record.
#[derive(Default)]
struct Names {
    directories: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, u64>,
}

impl Power {
    /// Makes the directory, where it is missing. A cut that `spares` leaves some of what no fsync covered, now and then.
    pub(crate) fn new(watched: PathBuf, spares: bool) -> Self {
        fs::create_dir_all(&watched).expect("make a directory");
        let record = tempfile::tempdir().expect("temporary directory");
        Self {
            watched,
            spares,
            record,
        }
    }

    /// A broker that is watched.
    pub(crate) fn watch(&self, setup: Setup) -> Setup {
        setup
            .env("LD_PRELOAD", library())
            .env("POWER_CUT_DIR", &self.watched)
            .env("POWER_CUT_RECORD", self.record.path())
            .env("POWER_CUT_FAULTS", self.faults())
    }

    /// Lets calls of the broker fail from now on, as tests/power_cut/src/faults.rs says.
    pub(crate) fn let_fail(&self, faults: &str) {
        let aside = self.record.path().join("faults.new");
        fs::write(&aside, faults).expect("write the faults");
        fs::rename(aside, self.faults()).expect("rename the faults");
    }

    fn faults(&self) -> PathBuf {
        self.record.path().join("faults")
    }

    /// The broker is dead: the directory becomes what the disk has of it.
    pub(crate) fn cut(&self, random: &mut Random) {
        let changes = self.changes();
        let mut all = Names::default();
        changes.iter().for_each(|change| all.apply(change));
        let current: BTreeMap<u64, Vec<u8>> = all
            .files
            .iter()
            .map(|(path, id)| (*id, read(&self.watched.join(path))))
            .collect();
        let kinds = [Survives::Nothing, Survives::Prefix, Survives::Pages];
        let survives = kinds[random.index(if self.spares { kinds.len() } else { 1 })];
        let names = surviving_names(&changes, survives, random);
        empty(&self.watched);
        for directory in &names.directories {
            fs::create_dir_all(self.watched.join(directory)).expect("make a directory");
        }
        for (path, id) in &names.files {
            let synced = read(&self.record.path().join("data").join(id.to_string()));
            let current = current.get(id).unwrap_or(&synced);
            let left = surviving_bytes(&synced, current, survives, random);
            // Where its directory did not survive, it did not either.
            let _ = fs::write(self.watched.join(path), left);
        }
    }

    fn changes(&self) -> Vec<Change> {
        let text = fs::read_to_string(self.record.path().join("changes")).expect("the library keeps a record");
        let lines = text.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| Change::parse(line).unwrap_or_else(|| panic!("no change: {line}")))
            .collect()
    }
}

impl Change {
    fn parse(line: &str) -> Option<Self> {
        let mut parts = line.split('\t');
        let (what, first, second) = (parts.next()?, parts.next()?, parts.next());
        Some(match (what, second) {
            ("create", Some(path)) => Self::Create(first.parse().ok()?, path.into()),
            ("rename", Some(to)) => Self::Rename(first.into(), to.into()),
            ("remove", None) => Self::Remove(first.into()),
            ("mkdir", None) => Self::MakeDirectory(first.into()),
            ("sync", None) => Self::Sync(first.into()),
            _ => return None,
        })
    }

    /// The directory whose fsync covers it.
    fn directory(&self) -> &Path {
        match self {
            Self::Create(_, path) | Self::Rename(_, path) | Self::Remove(path) | Self::MakeDirectory(path) => {
                path.parent().unwrap_or(path)
            }
            Self::Sync(path) => path,
        }
    }
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Create(id, path) => drop(self.files.insert(path.clone(), *id)),
            Change::Rename(from, to) => {
                if let Some(id) = self.files.remove(from) {
                    self.files.insert(to.clone(), id);
                }
            }
            Change::Remove(path) => {
                self.files.remove(path);
                self.directories.remove(path);
            }
            Change::MakeDirectory(path) => drop(self.directories.insert(path.clone())),
            Change::Sync(_) => {}
        }
    }
}

/// The changes that an fsync of their directory covered, and of the others as many as the disk came to: it makes them in order.
fn surviving_names(changes: &[Change], survives: Survives, random: &mut Random) -> Names {
    let covered = |(at, change): (usize, &Change)| {
        let mut later = changes[at..].iter();
        later.any(|later| matches!(later, Change::Sync(path) if path == change.directory()))
    };
    let covered: Vec<bool> = changes.iter().enumerate().map(covered).collect();
    let uncovered = covered.iter().filter(|covered| !**covered).count();
    let mut more = match survives {
        Survives::Nothing => 0,
        Survives::Prefix | Survives::Pages => random.index(uncovered + 1),
    };
    let mut names = Names::default();
    for (change, covered) in changes.iter().zip(covered) {
        if !covered && more == 0 {
            continue;
        }
        more -= usize::from(!covered);
        names.apply(change);
    }
    names
}

/// What is left of a file: the bytes that were synced, and of those that were written after that what survives.
fn surviving_bytes(synced: &[u8], current: &[u8], survives: Survives, random: &mut Random) -> Vec<u8> {
    match survives {
        Survives::Nothing => synced.to_vec(),
        Survives::Prefix => {
            let same = synced.iter().zip(current).take_while(|(old, new)| old == new).count();
            let end = same + random.index(current.len() - same + 1);
            let rest = synced.get(end..).unwrap_or_default();
            [&current[..end], rest].concat()
        }
        Survives::Pages => some_pages(synced, current, random),
    }
}

fn some_pages(synced: &[u8], current: &[u8], random: &mut Random) -> Vec<u8> {
    let mut left = synced.to_vec();
    for at in (0..current.len()).step_by(PAGE_BYTES) {
        let end = current.len().min(at + PAGE_BYTES);
        if random.per_thousand(500) {
            // A page that is missing before this one reads as zeros.
            left.resize(left.len().max(end), 0);
            left[at..end].copy_from_slice(&current[at..end]);
        }
    }
    left
}

fn empty(directory: &Path) {
    for entry in fs::read_dir(directory).expect("read a directory") {
        let path = entry.expect("an entry").path();
        let removed = if path.is_dir() {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        removed.expect("remove what is lost");
    }
}

/// Nothing, where there is no such file: it was never synced, or is gone.
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

/// The library, built once per test binary.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = repository().join("tests/power_cut/Cargo.toml");
        let target = repository().join("target/power-cut");
        let mut build = cargo();
        build
            .args(["build", "--locked", "--manifest-path"])
            .arg(manifest)
            .arg("--target-dir")
            .arg(&target);
        let output = build.output().expect("run cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        target.join("debug/libnervewire_power_cut.so")
    })
}
