//! The thread that writes a recording. It is flushed whenever nothing waits, so that the file is readable while it grows.

use super::{Item, Session};
use crate::plugin_tools::recording::{End, Footer, Header, VERSION};
use crate::unix_time::unix_ms;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Instant;

/// Writes until somebody stops it, the time is over or the file is full.
pub(super) fn run(session: &Session, waiting: &Receiver<Item>, file: File) {
    let mut file = BufWriter::new(file);
    let reason = match write(session, waiting, &mut file) {
        Ok(reason) => reason.to_owned(),
        Err(error) => {
            tracing::error!(file = %session.path.display(), %error, "the recording cannot be written");
            format!("it cannot be written: {error}")
        }
    };
    let footer = Footer {
        end: End {
            records: session.records.load(Ordering::Relaxed),
            dropped: session.dropped.load(Ordering::Relaxed),
            reason: reason.clone(),
        },
    };
    // After an error the reason says it already.
    let _ = line(session, &mut file, &footer).and_then(|()| file.flush());
    session.end(&reason);
}

fn write(session: &Session, waiting: &Receiver<Item>, file: &mut BufWriter<File>) -> io::Result<&'static str> {
    line(session, file, &header(session))?;
    loop {
        let item = match waiting.try_recv() {
            Err(TryRecvError::Empty) => {
                file.flush()?;
                let left = session.ends.saturating_duration_since(Instant::now());
                match waiting.recv_timeout(left) {
                    Ok(item) => item,
                    Err(RecvTimeoutError::Timeout) => return Ok("its time was over"),
                    Err(RecvTimeoutError::Disconnected) => return Ok("stopped"),
                }
            }
            Ok(item) => item,
            Err(TryRecvError::Disconnected) => return Ok("stopped"),
        };
        let Item::Call(call) = item else {
            return Ok("stopped");
        };
        session.queued_bytes.fetch_sub(call.size_bytes(), Ordering::Relaxed);
        line(session, file, &call.line())?;
        session.records.fetch_add(1, Ordering::Relaxed);
        if session.bytes.load(Ordering::Relaxed) >= session.max_bytes {
            return Ok("the file had its size");
        }
        if Instant::now() >= session.ends {
            return Ok("its time was over");
        }
    }
}

fn line(session: &Session, file: &mut BufWriter<File>, line: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)?;
    session.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
    Ok(())
}

fn header(session: &Session) -> Header {
    Header {
        nervewire_recording: VERSION,
        broker: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_ms: unix_ms(),
        payloads: session.filter.payloads,
        plugin: session.filter.plugin.clone(),
        client: session.filter.client.clone(),
        hook: session.filter.hook.clone(),
    }
}
