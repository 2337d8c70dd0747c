//! The functions of the C library that are replaced. Each makes the system call itself, and tells the record.

use crate::faults::{Call, Fault};
use crate::record::FileId;
use crate::{Watch, watched};
use libc::{AT_FDCWD, c_char, c_int, c_void, iovec, mode_t, off_t, size_t, ssize_t};
use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A call whose arguments come from the caller of a hook, and are as valid as they were there.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: the caller of the hook vouches for its arguments; the call is the one that it wanted to make.
        unsafe { libc::syscall(libc::$number $(, $argument)*) }
    };
}

/// Functions with the names and arguments that the C library's have.
macro_rules! hooks {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty $body:block)*) => {
        $(#[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $answer $body)*
    };
}

// open and openat take the mode only where they create, but it is passed as any third or fourth integer is.
hooks! {
    fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(AT_FDCWD, path, flags, mode) }
    fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(AT_FDCWD, path, flags, mode) }
    fn openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(at, path, flags, mode) }
    fn openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int { opened(at, path, flags, mode) }

    fn write(fd: c_int, data: *const c_void, bytes: size_t) -> ssize_t {
        written(fd, None, bytes, |bytes| call!(SYS_write, fd, data, bytes))
    }
    fn pwrite(fd: c_int, data: *const c_void, bytes: size_t, at: off_t) -> ssize_t {
        written(fd, Some(at), bytes, |bytes| call!(SYS_pwrite64, fd, data, bytes, at))
    }
    fn pwrite64(fd: c_int, data: *const c_void, bytes: size_t, at: off_t) -> ssize_t {
        written(fd, Some(at), bytes, |bytes| call!(SYS_pwrite64, fd, data, bytes, at))
    }
    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        written(fd, None, 0, |_| call!(SYS_writev, fd, parts, count))
    }
    // The call takes the offset in two halves, of which the lower holds all of it on a 64-bit machine.
    fn pwritev(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
        written(fd, Some(at), 0, |_| call!(SYS_pwritev, fd, parts, count, at, 0))
    }
    fn pwritev64(fd: c_int, parts: *const iovec, count: c_int, at: off_t) -> ssize_t {
        written(fd, Some(at), 0, |_| call!(SYS_pwritev, fd, parts, count, at, 0))
    }

    fn ftruncate(fd: c_int, bytes: off_t) -> c_int { resized(fd, || call!(SYS_ftruncate, fd, bytes)) }
    fn ftruncate64(fd: c_int, bytes: off_t) -> c_int { resized(fd, || call!(SYS_ftruncate, fd, bytes)) }
    fn fallocate(fd: c_int, mode: c_int, at: off_t, bytes: off_t) -> c_int {
        resized(fd, || call!(SYS_fallocate, fd, mode, at, bytes))
    }
    fn fallocate64(fd: c_int, mode: c_int, at: off_t, bytes: off_t) -> c_int {
        resized(fd, || call!(SYS_fallocate, fd, mode, at, bytes))
    }

    fn fsync(fd: c_int) -> c_int { synced(fd, || call!(SYS_fsync, fd)) }
    fn fdatasync(fd: c_int) -> c_int { synced(fd, || call!(SYS_fdatasync, fd)) }

    fn rename(from: *const c_char, to: *const c_char) -> c_int {
        let answer = call!(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0) as c_int;
        changed(answer, |watch| { watch.record().renamed(&named(from)?, &named(to)?); Some(()) })
    }
    fn unlink(path: *const c_char) -> c_int {
        let answer = call!(SYS_unlinkat, AT_FDCWD, path, 0) as c_int;
        changed(answer, |watch| { watch.record().removed(&named(path)?); Some(()) })
    }
    fn rmdir(path: *const c_char) -> c_int {
        let answer = call!(SYS_unlinkat, AT_FDCWD, path, libc::AT_REMOVEDIR) as c_int;
        changed(answer, |watch| { watch.record().removed(&named(path)?); Some(()) })
    }
    fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
        let answer = call!(SYS_mkdirat, AT_FDCWD, path, mode) as c_int;
        changed(answer, |watch| { watch.record().made_directory(&named(path)?); Some(()) })
    }
}

fn opened(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let fd = call!(SYS_openat, at, path, flags, mode) as c_int;
    if fd >= 0 && flags & libc::O_CREAT != 0 {
        watched(|watch| {
            let path = std::fs::read_link(descriptor(fd)).ok()?;
            watch.record().opened(&path, status(fd)?.st_ino);
            Some(())
        });
    }
    fd
}

/// A write at an offset, or where the file stands; `bytes` is 0 where the call has several parts.
fn written(fd: c_int, at: Option<off_t>, bytes: size_t, call: impl FnOnce(size_t) -> libc::c_long) -> ssize_t {
    let Some((file, fault)) = watched(|watch| Some((file(watch, fd)?, watch.fault(Call::Write)))) else {
        return call(bytes) as ssize_t;
    };
    let bytes = match fault {
        None => bytes,
        Some(Fault::Short) if bytes > 1 => bytes / 2,
        Some(Fault::Short) => return fail(libc::ENOSPC) as ssize_t,
        Some(Fault::Errno(errno)) => return fail(errno) as ssize_t,
    };
    let answer = call(bytes) as ssize_t;
    if answer > 0 {
        watched(|watch| {
            // SAFETY: a descriptor that was just written to; the call touches no memory.
            let place = || unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } - answer as off_t;
            let at = at.unwrap_or_else(place);
            watch.record().wrote(file, at as u64, answer as u64);
            Some(())
        });
    }
    answer
}

fn resized(fd: c_int, call: impl FnOnce() -> libc::c_long) -> c_int {
    let errno = watched(|watch| {
        file(watch, fd)?;
        match watch.fault(Call::Write)? {
            Fault::Errno(errno) => Some(errno),
            Fault::Short => Some(libc::ENOSPC),
        }
    });
    // The length is looked at when the file is synced.
    errno.map_or_else(|| call() as c_int, fail)
}

fn synced(fd: c_int, call: impl FnOnce() -> libc::c_long) -> c_int {
    let fault = watched(|watch| {
        let path = std::fs::read_link(descriptor(fd)).ok()?;
        watch.record().holds(&path).then_some(())?;
        match watch.fault(Call::Sync)? {
            Fault::Errno(errno) => Some(errno),
            Fault::Short => None,
        }
    });
    let covered = watched(|watch| {
        let file = file(watch, fd)?;
        Some((file, watch.record().begin_sync(file)))
    });
    let answer = fault.map_or_else(|| call() as c_int, fail);
    if answer == 0 {
        watched(|watch| cover(watch, fd, covered));
    }
    answer
}

/// A file, or a directory, was synced.
fn cover(watch: &Watch, fd: c_int, covered: Option<(FileId, Vec<(u64, u64)>)>) -> Option<()> {
    match covered {
        Some((file, covered)) => {
            let done = watch.record().synced(file, &descriptor(fd), &covered);
            done.expect("the record can be written");
        }
        None if status(fd)?.st_mode & libc::S_IFMT == libc::S_IFDIR => {
            let path = std::fs::read_link(descriptor(fd)).ok()?;
            watch.record().synced_directory(&path);
        }
        None => {}
    }
    Some(())
}

/// Tells of a change to a directory, where it succeeded.
fn changed(answer: c_int, tell: impl FnOnce(&Watch) -> Option<()>) -> c_int {
    if answer == 0 {
        watched(tell);
    }
    answer
}

/// The answer of a call that failed.
fn fail(errno: c_int) -> c_int {
    // SAFETY: the pointer to this thread's errno is always valid.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// The watched file behind a descriptor.
fn file(watch: &Watch, fd: c_int) -> Option<FileId> {
    let status = status(fd)?;
    let is_file = status.st_mode & libc::S_IFMT == libc::S_IFREG;
    is_file.then(|| watch.record().file(status.st_ino))?
}

fn status(fd: c_int) -> Option<libc::stat> {
    let mut status = MaybeUninit::uninit();
    // SAFETY: fstat fills the place it is given, where it answers 0.
    (unsafe { libc::fstat(fd, status.as_mut_ptr()) } == 0).then(|| unsafe { status.assume_init() })
}

fn descriptor(fd: c_int) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// A path with its directory resolved; what it names may be gone.
fn named(path: *const c_char) -> Option<PathBuf> {
    // SAFETY: a string that the caller of the hook vouches for, and that the system call has read.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?))
}
