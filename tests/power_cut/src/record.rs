//! What would be left. The record's directory holds `data/ID` for each file that was ever synced, and `changes`: a line for each
//! change of a directory and for each fsync of one, in order. Paths are relative to the watched directory.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A file, whatever its name; other than inodes, never used again.
pub(crate) type FileId = u64;
type Inode = u64;

pub(crate) struct Record {
    root: PathBuf,
    data: PathBuf,
    changes: File,
    names: HashMap<PathBuf, FileId>,
    inodes: HashMap<Inode, FileId>,
    /// Start and length of what was written since the last fsync.
    unsynced: HashMap<FileId, Vec<(u64, u64)>>,
    next_id: FileId,
}

impl Record {
    /// What is there at the start is taken to be on the disk.
    pub(crate) fn begin(root: PathBuf, record: PathBuf) -> io::Result<Self> {
        let data = record.join("data");
        let _ = fs::remove_dir_all(&data); // Of a process before, if there was one.
        fs::create_dir_all(&data)?;
        let mut begun = Self {
            root: root.canonicalize()?,
            data,
            changes: File::create(record.join("changes"))?,
            names: HashMap::new(),
            inodes: HashMap::new(),
            unsynced: HashMap::new(),
            next_id: 0,
        };
        let root = begun.root.clone();
        begun.take_stock(&root)?;
        Ok(begun)
    }

    fn take_stock(&mut self, directory: &Path) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.made_directory(&path);
                self.take_stock(&path)?;
            } else if kind.is_file() {
                let id = self.created(&path, entry.metadata()?.ino());
                fs::copy(&path, self.data.join(id.to_string()))?;
            }
        }
        self.synced_directory(directory);
        Ok(())
    }

    /// Where a path is below the watched directory, which it may be itself.
    fn relative<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        path.strip_prefix(&self.root).ok()
    }

    pub(crate) fn holds(&self, path: &Path) -> bool {
        self.relative(path).is_some()
    }

    fn change(&mut self, line: &str) {
        // Not lost with the process: the page cache has it then.
        self.changes
            .write_all(line.as_bytes())
            .expect("the record can be written");
    }

    pub(crate) fn file(&self, inode: Inode) -> Option<FileId> {
        self.inodes.get(&inode).copied()
    }

    /// A file was opened with O_CREAT, and is new if its name is.
    pub(crate) fn opened(&mut self, path: &Path, inode: Inode) {
        if self.relative(path).is_some() && !self.names.contains_key(path) {
            self.created(path, inode);
        }
    }

    fn created(&mut self, path: &Path, inode: Inode) -> FileId {
        let id = self.next_id;
        self.next_id += 1;
        self.names.insert(path.to_owned(), id);
        self.inodes.insert(inode, id);
        let line = self
            .relative(path)
            .map(|name| format!("create\t{id}\t{}\n", name.display()));
        self.change(&line.unwrap_or_default());
        id
    }

    pub(crate) fn renamed(&mut self, from: &Path, to: &Path) {
        if let (Some(old), Some(new)) = (self.relative(from), self.relative(to)) {
            let line = format!("rename\t{}\t{}\n", old.display(), new.display());
            if let Some(id) = self.names.remove(from) {
                self.names.insert(to.to_owned(), id);
            }
            self.change(&line);
        }
    }

    pub(crate) fn removed(&mut self, path: &Path) {
        self.names.remove(path);
        self.directory_change("remove", path);
    }

    pub(crate) fn made_directory(&mut self, path: &Path) {
        self.directory_change("mkdir", path);
    }

    pub(crate) fn synced_directory(&mut self, path: &Path) {
        self.directory_change("sync", path);
    }

    fn directory_change(&mut self, what: &str, path: &Path) {
        if let Some(name) = self.relative(path) {
            let line = format!("{what}\t{}\n", name.display());
            self.change(&line);
        }
    }

    pub(crate) fn wrote(&mut self, file: FileId, at: u64, bytes: u64) {
        self.unsynced.entry(file).or_default().push((at, bytes));
    }

    /// What an fsync that begins now covers, if it succeeds. If it fails the system forgets that these bytes are not on the
    /// disk, and so does the record: no later fsync covers them.
    pub(crate) fn begin_sync(&mut self, file: FileId) -> Vec<(u64, u64)> {
        self.unsynced.remove(&file).unwrap_or_default()
    }

    /// The fsync has succeeded: `covered` is on the disk, and so is the length.
    pub(crate) fn synced(&mut self, file: FileId, source: &Path, covered: &[(u64, u64)]) -> io::Result<()> {
        let source = File::open(source)?;
        let kept = self.data.join(file.to_string());
        let kept = OpenOptions::new().write(true).create(true).truncate(false).open(kept)?;
        for (at, bytes) in covered {
            copy(&source, &kept, *at, *bytes)?;
        }
        kept.set_len(source.metadata()?.len())
    }
}

fn copy(mut from: &File, to: &File, at: u64, bytes: u64) -> io::Result<()> {
    let mut contents = Vec::new();
    from.seek(SeekFrom::Start(at))?;
    from.take(bytes).read_to_end(&mut contents)?;
    to.write_all_at(&contents, at)
}
