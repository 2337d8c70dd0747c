//! The relay once more, on tokio's current-thread runtime with a task for each connection: what the runtime costs beside
//! the readiness loop of this program.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::TcpListener;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

use super::fleet::{Handler as _, READ_BYTES, frames};
use super::outbox::Outbox;
use super::relay::{Relay, announce};

/// Serves until the process is ended.
pub(super) fn run(address: SocketAddr) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.context("cannot start the runtime")?;
    LocalSet::new().block_on(&runtime, serve(address))
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    announce(listener.local_addr()?)?;
    let hub = Rc::new(Hub::default());
    spawn_local(write_when_touched(Rc::clone(&hub)));
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let index = hub.state.borrow_mut().adopt(writer);
        spawn_local(read_to_the_end(Rc::clone(&hub), index, reader));
    }
}

/// What the tasks share.
#[derive(Default)]
struct Hub {
    state: RefCell<State>,
    /// Some connection has something to write.
    touched: Notify,
}

#[derive(Default)]
struct State {
    relay: Relay,
    outbox: Outbox,
    writers: Vec<Option<Rc<OwnedWriteHalf>>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
}

impl State {
    fn adopt(&mut self, writer: OwnedWriteHalf) -> usize {
        let index = self.free.pop().unwrap_or(self.writers.len());
        if index == self.writers.len() {
            self.writers.push(None);
        }
        self.writers[index] = Some(Rc::new(writer));
        self.outbox.open(index);
        index
    }

    fn retire(&mut self, index: usize) -> anyhow::Result<()> {
        self.writers[index] = None;
        self.outbox.close(index);
        self.free.push(index);
        self.relay.closed(index, "")
    }

    /// One read into the common space, of which `partial` is the beginning. False at the end of the connection.
    fn read(
        &mut self,
        index: usize,
        reader: &mut OwnedReadHalf,
        partial: &mut Vec<u8>,
        cx: &mut Context<'_>,
    ) -> Poll<anyhow::Result<bool>> {
        let held = partial.len();
        let space = &mut self.scratch;
        space.resize(space.len().max(held + READ_BYTES), 0);
        let mut buffer = ReadBuf::new(&mut space[held..]);
        ready!(Pin::new(reader).poll_read(cx, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(Ok(false));
        }
        space[..held].copy_from_slice(partial);
        let unused = frames(index, &space[..held + count], &mut self.outbox, &mut self.relay)?;
        partial.clear();
        partial.extend_from_slice(unused);
        Poll::Ready(Ok(true))
    }
}

async fn read_to_the_end(hub: Rc<Hub>, index: usize, mut reader: OwnedReadHalf) {
    let mut partial = Vec::new();
    let ended = loop {
        let read = poll_fn(|cx| hub.state.borrow_mut().read(index, &mut reader, &mut partial, cx));
        match read.await {
            Ok(true) => hub.touched.notify_one(),
            Ok(false) => break hub.state.borrow_mut().retire(index),
            Err(error) => break hub.state.borrow_mut().retire(index).and(Err(error)),
        }
    };
    if let Err(error) = ended {
        eprintln!("connection {index}: {error:#}");
    }
}

/// Its turn comes when all tasks that were ready have read: so it writes each connection once for all of them, as the
/// readiness loop does.
async fn write_when_touched(hub: Rc<Hub>) {
    loop {
        hub.touched.notified().await;
        let state = &mut *hub.state.borrow_mut();
        while let Some(index) = state.outbox.next_dirty() {
            let Some(Some(writer)) = state.writers.get(index) else {
                continue;
            };
            // Where the connection is broken, its reader sees that, too.
            let written = state.outbox.write(index, &mut Socket(writer));
            if written.is_ok() && state.outbox.is_blocked(index) {
                spawn_local(unblock(Rc::clone(&hub), index, Rc::clone(writer)));
            }
        }
    }
}

async fn unblock(hub: Rc<Hub>, index: usize, writer: Rc<OwnedWriteHalf>) {
    if writer.writable().await.is_ok() {
        hub.state.borrow_mut().outbox.unblock(index);
        hub.touched.notify_one();
    }
}

/// Writes what the socket takes at once.
struct Socket<'a>(&'a OwnedWriteHalf);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
