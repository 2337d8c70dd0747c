//! `nervewire record`: calls of plugins, written to a file with their answers, to look at and to replay. Secrets are not kept.
//!
//! The broker writes the file itself, below its data_dir and by a bare name: what clients publish then leaves the machine only
//! with somebody who may read the broker's files, and not through the admin API.

mod call;
mod writer;

#[cfg(test)]
mod tests;

use crate::admin::backend::{RecordError, RecordRequest, RecordStatus};
use call::Recorded;
use nervewire_plugin_host::{Call, Host, Tap, TappedCall, TappedQuestion};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Calls that wait to be written.
const MAX_QUEUED_CALLS: usize = 8_192;
/// What they may hold.
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
/// The longest recording.
pub(crate) const MAX_SECONDS: u64 = 86_400;
/// The largest.
pub(crate) const MAX_MIB: u64 = 4_096;
const MAX_FILE_NAME_BYTES: usize = 100;

/// Records for one broker, one recording at a time.
pub(crate) struct Recorder {
    host: Host,
    /// `data_dir`.
    data_dir: Option<PathBuf>,
    current: Mutex<Option<Recording>>,
    /// Calls that found the queue full, over all recordings.
    dropped: Arc<AtomicU64>,
    /// Requests, header fields and bodies that were not, or not wholly, recorded.
    http_over_bound: Arc<AtomicU64>,
}

/// A recording that runs, or the last one.
struct Recording {
    session: Arc<Session>,
    writer: Option<JoinHandle<()>>,
}

/// What the threads that call, the writer and whoever asks share.
struct Session {
    filter: Filter,
    path: PathBuf,
    ends: Instant,
    max_bytes: u64,
    queue: SyncSender<Item>,
    queued_bytes: AtomicUsize,
    records: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    dropped_in_all: Arc<AtomicU64>,
    http_over_bound: Arc<AtomicU64>,
    /// Why it ended.
    ended: Mutex<Option<String>>,
}

/// Which calls are recorded, and whether with payloads.
#[derive(Clone, Debug)]
struct Filter {
    plugin: Option<String>,
    client: Option<String>,
    hook: Option<String>,
    payloads: bool,
}

enum Item {
    Call(Box<Recorded>),
    Stop,
}

impl Recorder {
    pub(crate) fn new(host: Host, data_dir: Option<PathBuf>) -> Self {
        Self {
            host,
            data_dir,
            current: Mutex::default(),
            dropped: Arc::default(),
            http_over_bound: Arc::default(),
        }
    }

    /// Starts a recording; `plugins` are the names there are.
    ///
    /// # Errors
    /// What is wrong with the request, or that one is under way.
    pub(crate) fn start(&self, request: RecordRequest, plugins: &[&str]) -> Result<RecordStatus, RecordError> {
        check(&request, plugins)?;
        let mut current = self.lock();
        if let Some(running) = current
            .as_ref()
            .filter(|recording| recording.session.reason().is_none())
        {
            let path = running.session.path.display();
            return Err(RecordError(format!(
                "{path} is being recorded; stop it first: nervewire record stop"
            )));
        }
        let (path, file) = self.create(&request.file)?;
        let (queue, waiting) = sync_channel(MAX_QUEUED_CALLS);
        let session = Arc::new(Session {
            filter: Filter {
                plugin: request.plugin,
                client: request.client,
                hook: request.hook,
                payloads: request.payloads,
            },
            path,
            ends: Instant::now() + Duration::from_secs(request.seconds),
            max_bytes: request.max_mib * 1024 * 1024,
            queue,
            queued_bytes: AtomicUsize::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dropped_in_all: self.dropped.clone(),
            http_over_bound: self.http_over_bound.clone(),
            ended: Mutex::default(),
        });
        let (host, writing) = (self.host.clone(), session.clone());
        let writer = std::thread::Builder::new().name("record".to_owned()).spawn(move || {
            writer::run(&writing, &waiting, file);
            host.set_tap(None);
        });
        let writer = writer.map_err(|error| RecordError(format!("no thread can be started: {error}")))?;
        self.host.set_tap(Some(session.clone()));
        let status = session.status();
        *current = Some(Recording {
            session,
            writer: Some(writer),
        });
        Ok(status)
    }

    /// Ends the recording that runs. Returns after the file is complete.
    ///
    /// # Errors
    /// None runs.
    pub(crate) fn stop(&self) -> Result<RecordStatus, RecordError> {
        let mut current = self.lock();
        let nothing = || RecordError("nothing is being recorded; start with nervewire record start FILE".to_owned());
        let recording = current.as_mut().ok_or_else(nothing)?;
        let writer = recording.writer.take().ok_or_else(nothing)?;
        self.host.set_tap(None);
        // Fails where the writer has ended by itself.
        let _ = recording.session.queue.send(Item::Stop);
        let _ = writer.join();
        Ok(recording.session.status())
    }

    /// The recording that runs, or the last one.
    pub(crate) fn status(&self) -> RecordStatus {
        self.lock()
            .as_ref()
            .map_or_else(RecordStatus::default, |recording| recording.session.status())
    }

    /// Calls that were not recorded because the queue was full.
    pub(crate) fn over_bound(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Requests to backends, their header fields and bodies that are not in a recording, because a call had too many or too large ones.
    pub(crate) fn http_over_bound(&self) -> u64 {
        self.http_over_bound.load(Ordering::Relaxed)
    }

    fn create(&self, name: &str) -> Result<(PathBuf, File), RecordError> {
        let data_dir = self.data_dir.as_deref().ok_or_else(|| {
            RecordError("this broker keeps no files, so it cannot record; give it a data_dir".to_owned())
        })?;
        let dir = data_dir.join("recordings");
        let failed = |path: &Path, error: std::io::Error| RecordError(format!("{}: {error}", path.display()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| failed(&dir, error))?;
        let path = dir.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        file.map(|file| (path.clone(), file))
            .map_err(|error| failed(&path, error))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Recording>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn check(request: &RecordRequest, plugins: &[&str]) -> Result<(), RecordError> {
    let wrong = |message: String| Err(RecordError(message));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name = &request.file;
    if name.is_empty() || name.len() > MAX_FILE_NAME_BYTES || name.starts_with('.') || !name.chars().all(plain) {
        return wrong(format!(
            "{name:?} is no name for a recording: write 1 to {MAX_FILE_NAME_BYTES} of a-z, A-Z, 0-9, `.`, `-` and `_`, without a \
             directory; it is written to recordings/ in the broker's data_dir"
        ));
    }
    if let Some(plugin) = request.plugin.as_deref().filter(|plugin| !plugins.contains(plugin)) {
        return wrong(format!(
            "there is no plugin {plugin:?}; there are: {}",
            plugins.join(", ")
        ));
    }
    if let Some(hook) = request
        .hook
        .as_deref()
        .filter(|hook| hooks().all(|known| known != *hook))
    {
        return wrong(format!(
            "there is no hook {hook:?}; there are: {}",
            hooks().collect::<Vec<_>>().join(", ")
        ));
    }
    if !(1..=MAX_SECONDS).contains(&request.seconds) {
        return wrong(format!("seconds = {}; write 1 to {MAX_SECONDS}", request.seconds));
    }
    if !(1..=MAX_MIB).contains(&request.max_mib) {
        return wrong(format!("max_mib = {}; write 1 to {MAX_MIB}", request.max_mib));
    }
    Ok(())
}

/// The hooks that can be recorded; `rules` belongs to `authorize`.
fn hooks() -> impl Iterator<Item = &'static str> {
    [
        Call::Authenticate,
        Call::Authorize,
        Call::Transform,
        Call::Tick,
        Call::Detect,
    ]
    .into_iter()
    .map(Call::label)
}

impl Tap for Session {
    fn call(&self, call: &TappedCall<'_>) {
        if !self.filter.selects(call) {
            return;
        }
        self.http_over_bound
            .fetch_add(call.exchanges_over_bound, Ordering::Relaxed);
        let recorded = Recorded::of(call, self.filter.payloads);
        let bytes = recorded.size_bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = queued.saturating_add(bytes) <= MAX_QUEUED_BYTES;
        if !room || self.queue.try_send(Item::Call(Box::new(recorded))).is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.dropped_in_all.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Filter {
    fn selects(&self, call: &TappedCall<'_>) -> bool {
        self.plugin.as_deref().is_none_or(|plugin| plugin == call.plugin)
            && self
                .hook
                .as_deref()
                .is_none_or(|hook| hook == call::hook(call.question))
            && self.client.as_deref().is_none_or(|id| concerns(call.question, id))
    }
}

/// Whether a call is about this client, perhaps among others.
fn concerns(question: TappedQuestion<'_>, client_id: &str) -> bool {
    match question {
        TappedQuestion::Detect(windows) => windows.iter().any(|window| &*window.client_id == client_id),
        other => other.client().is_some_and(|client| &*client.client_id == client_id),
    }
}

impl Session {
    fn reason(&self) -> Option<String> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&self, reason: &str) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    fn status(&self) -> RecordStatus {
        let ended = self.reason();
        RecordStatus {
            active: ended.is_none(),
            file: Some(self.path.display().to_string()),
            plugin: self.filter.plugin.clone(),
            client: self.filter.client.clone(),
            hook: self.filter.hook.clone(),
            payloads: self.filter.payloads,
            records: self.records.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            seconds_left: ended
                .is_none()
                .then(|| self.ends.saturating_duration_since(Instant::now()).as_secs()),
            ended,
        }
    }
}
