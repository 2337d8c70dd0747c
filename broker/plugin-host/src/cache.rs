//! Compiled components on disk, so that a start does not wait for the compiler: a Python component takes five seconds.
//!
//! A file is named after the component's digest and the engine's settings, and begins with [`MAGIC`], the digest of the component and
//! the digest of the compiled code that follows. On any doubt the component is compiled anew.

use crate::host::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Files that are kept; the oldest are removed.
pub const MAX_CACHED_FILES: usize = 64;
/// Bytes of all files together.
pub const MAX_CACHED_BYTES: u64 = 512 * 1024 * 1024;

const MAGIC: &[u8; 8] = b"NWCACHE1";
const HEADER_BYTES: usize = MAGIC.len() + 32 + 32;
const EXTENSION: &str = "cwasm";

/// What the cache did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Components taken from it.
    pub hits: u64,
    /// Components compiled because it had none.
    pub misses: u64,
    /// Files that were not trusted, and replaced.
    pub rejected: u64,
    /// Files that could not be written or removed.
    pub failures: u64,
}

#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    settings: u64,
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    failures: AtomicU64,
    temporary: AtomicU64,
}

impl Cache {
    pub(crate) fn new(dir: PathBuf, engine: &Engine) -> Self {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Self {
            dir,
            settings: hasher.finish(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            temporary: AtomicU64::new(0),
        }
    }

    pub(crate) fn stats(&self) -> CacheStats {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        CacheStats {
            hits: load(&self.hits),
            misses: load(&self.misses),
            rejected: load(&self.rejected),
            failures: load(&self.failures),
        }
    }

    /// The component of this digest, or what `compile` makes. Trouble with the cache costs time, never the component.
    pub(crate) fn get_or_compile(
        &self,
        engine: &Engine,
        digest: &[u8; 32],
        compile: impl FnOnce() -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Component> {
        let counter = match self.get(engine, digest) {
            Ok(Some(component)) => {
                count(&self.hits);
                return Ok(component);
            }
            Ok(None) => &self.misses,
            Err(why) => {
                tracing::warn!(file = %self.path(digest).display(), "compiling anew: the cached component {why}");
                &self.rejected
            }
        };
        count(counter);
        let component = compile()?;
        if let Err(error) = self.put(&component, digest) {
            count(&self.failures);
            tracing::warn!(dir = %self.dir.display(), "cannot keep a compiled component: {error}");
        }
        Ok(component)
    }

    fn path(&self, digest: &[u8; 32]) -> PathBuf {
        self.dir
            .join(format!("{}-{:016x}.{EXTENSION}", hex(digest), self.settings))
    }

    fn get(&self, engine: &Engine, digest: &[u8; 32]) -> Result<Option<Component>, String> {
        let Some(code) = self.read(digest).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        deserialize(engine, &code)
            .map(Some)
            .map_err(|error| format!("does not fit the engine: {error:#}"))
    }

    /// The compiled code, from a file that only we can have written and that is whole.
    fn read(&self, digest: &[u8; 32]) -> io::Result<Option<TrustedCode>> {
        let file = match OpenOptions::new()
            .read(true)
            .custom_flags(NO_FOLLOW)
            .open(self.path(digest))
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        check_owner(&fs::symlink_metadata(&self.dir)?, FileKind::Directory)?;
        check_owner(&file.metadata()?, FileKind::File)?;
        let mut bytes = Vec::new();
        file.take(MAX_CACHED_BYTES).read_to_end(&mut bytes)?;
        match whole(bytes, digest) {
            Some(code) => Ok(Some(code)),
            None => Err(io::Error::other("is damaged")),
        }
    }

    /// Written aside and renamed, so that no reader ever sees a part.
    fn put(&self, component: &Component, digest: &[u8; 32]) -> io::Result<()> {
        let code = component
            .serialize()
            .map_err(|error| io::Error::other(format!("{error:#}")))?;
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        check_owner(&fs::symlink_metadata(&self.dir)?, FileKind::Directory)?;
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        let aside = self.dir.join(format!("{}-{number}.tmp", std::process::id()));
        let written = write_file(&aside, digest, &code).and_then(|()| fs::rename(&aside, self.path(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&aside); // It may not exist; the error to be told is the first one.
        }
        written?;
        self.remove_oldest(MAX_CACHED_FILES, MAX_CACHED_BYTES)
    }

    fn remove_oldest(&self, max_files: usize, max_bytes: u64) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort_by_key(|(_, metadata)| std::cmp::Reverse((metadata.mtime(), metadata.mtime_nsec())));
        let mut bytes = 0;
        for (kept, (path, metadata)) in files.iter().enumerate() {
            bytes += metadata.len();
            if kept >= max_files || bytes > max_bytes {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn files(&self) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == EXTENSION || extension == "tmp")
            {
                files.push((path.clone(), fs::symlink_metadata(path)?));
            }
        }
        Ok(files)
    }
}

/// Code that [`Cache::read`] vouches for: from a file of ours in a directory of ours, unchanged since it was written.
struct TrustedCode(Vec<u8>);

#[allow(unsafe_code)]
fn deserialize(engine: &Engine, code: &TrustedCode) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` needs bytes that `Component::serialize` made, since it runs them. `TrustedCode` is only made by
    // `whole` from what `Cache::read` read: the directory has mode 0700 and, like the file, belongs to our user, so nobody
    // but us (or root) wrote it; the file was renamed into place complete, and its SHA-256, compared over these very bytes
    // in memory, says that it was not damaged since. Code for other versions or settings of the engine has another file
    // name, and is refused by wasmtime's own check as well.
    unsafe { Component::deserialize(engine, &code.0) }
}

fn whole(mut bytes: Vec<u8>, digest: &[u8; 32]) -> Option<TrustedCode> {
    let (header, code) = bytes.split_at_checked(HEADER_BYTES)?;
    let intact = header == &self::header(digest, code)[..];
    intact.then(|| TrustedCode(bytes.split_off(HEADER_BYTES)))
}

fn header(digest: &[u8; 32], code: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &digest[..], &Sha256::digest(code)[..]].concat()
}

fn write_file(path: &Path, digest: &[u8; 32], code: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&header(digest, code))?;
    file.write_all(code)?;
    file.sync_all()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Directory,
    File,
}

/// Refuses what another user owns or may write to.
fn check_owner(metadata: &fs::Metadata, kind: FileKind) -> io::Result<()> {
    let right_kind = if kind == FileKind::Directory {
        metadata.is_dir()
    } else {
        metadata.is_file()
    };
    let ours = metadata.uid() == rustix::process::geteuid().as_raw();
    if right_kind && ours && metadata.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "or its directory is not private to this user (mode 0700)",
    ))
}

/// A link is never what we wrote.
const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

fn count(value: &AtomicU64) {
    value.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(dir: &Path) -> Cache {
        let engine = Engine::default();
        Cache::new(dir.to_owned(), &engine)
    }

    #[test]
    fn the_oldest_files_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let cache = cache(dir.path());
        for (age, name) in ["new.cwasm", "older.cwasm", "left.tmp", "oldest.cwasm", "mine.txt"]
            .into_iter()
            .enumerate()
        {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_len(10).unwrap();
            file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age as u64))
                .unwrap();
        }
        let check = |max_files, max_bytes, expected: &[&str]| {
            cache.remove_oldest(max_files, max_bytes).unwrap();
            let mut left: Vec<_> = fs::read_dir(dir.path())
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            left.sort();
            assert_eq!(left, expected);
        };
        check(
            4,
            40,
            &["left.tmp", "mine.txt", "new.cwasm", "older.cwasm", "oldest.cwasm"],
        );
        check(3, 40, &["left.tmp", "mine.txt", "new.cwasm", "older.cwasm"]);
        check(3, 20, &["mine.txt", "new.cwasm", "older.cwasm"]);
    }

    #[test]
    fn only_whole_files_of_the_right_component_are_trusted() {
        let (digest, other) = ([1; 32], [2; 32]);
        let file = [header(&digest, b"code"), b"code".to_vec()].concat();
        let check = |bytes: &[u8], digest, expected: Option<&[u8]>| {
            assert_eq!(
                whole(bytes.to_vec(), digest).map(|code| code.0),
                expected.map(<[u8]>::to_vec)
            );
        };
        check(&file, &digest, Some(b"code"));
        check(&file, &other, None);
        check(&file[..file.len() - 1], &digest, None);
        check(&file[..HEADER_BYTES - 1], &digest, None);
        check(b"", &digest, None);
        check(&[&file[..], b"x"].concat(), &digest, None);
    }
}
