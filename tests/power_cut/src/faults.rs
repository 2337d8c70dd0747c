//! Which calls fail. The control file has a line for each kind of call: `write ENOSPC`, `write SHORT`, `sync EIO`. It is read
//! before each call, so that a test can change it at any time; absent or empty, nothing fails.

use crate::Watch;
use libc::c_int;

/// The kinds of calls that can be made to fail.
#[derive(Clone, Copy)]
pub(crate) enum Call {
    Write,
    Sync,
}

/// How one fails.
pub(crate) enum Fault {
    /// With this errno.
    Errno(c_int),
    /// A write takes half of its bytes, and fails with ENOSPC where it has but one: what a disk does that fills up.
    Short,
}

impl Watch {
    pub(crate) fn fault(&self, call: Call) -> Option<Fault> {
        let text = std::fs::read_to_string(self.faults.as_ref()?).ok()?;
        let name = match call {
            Call::Write => "write ",
            Call::Sync => "sync ",
        };
        match text.lines().find_map(|line| line.strip_prefix(name))? {
            "ENOSPC" => Some(Fault::Errno(libc::ENOSPC)),
            "EIO" => Some(Fault::Errno(libc::EIO)),
            "SHORT" => Some(Fault::Short),
            _ => None,
        }
    }
}
