//! Many connections on one thread: everything readable is read, then every touched connection is written once.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use socket2::{Domain, Protocol, Socket, Type};

use super::decode::{self, Frame};
use super::encode;
use super::outbox::Outbox;

/// Space offered to each read: enough for all that a deep window brings in at once, small enough for the cache.
pub(super) const READ_BYTES: usize = 128 * 1024;
/// Readiness events taken per pass.
const EVENTS: usize = 4_096;
const LISTENER: Token = Token(usize::MAX - 1);
const TIMER: Token = Token(usize::MAX - 2);

/// What a scenario does with what its connections receive.
pub(super) trait Handler {
    /// Bytes have arrived; the frames in them follow. The place to take the time once for all of them.
    fn arrived(&mut self) {}

    /// One packet came on connection `link`. An error ends the run.
    fn frame(&mut self, link: usize, frame: Frame<'_>, outbox: &mut Outbox) -> anyhow::Result<()>;

    /// Connection `link` is gone. An error ends the run.
    fn closed(&mut self, link: usize, reason: &str) -> anyhow::Result<()>;
}

/// The connections, by index, and the selector that watches them.
pub(super) struct Fleet {
    poll: Poll,
    events: Events,
    links: Vec<Option<Link>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    listener: Option<TcpListener>,
    timer: Option<OwnedFd>,
    pings: Option<Pings>,
    /// What is waiting to be written, by connection.
    pub(super) outbox: Outbox,
}

/// When every connection is to say that it lives.
struct Pings {
    every: Duration,
    last: Instant,
}

struct Link {
    stream: TcpStream,
    /// The beginning of a packet whose rest has not come yet.
    partial: Vec<u8>,
}

impl Fleet {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new().context("cannot create a selector")?,
            events: Events::with_capacity(EVENTS),
            links: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; READ_BYTES],
            listener: None,
            timer: None,
            pings: None,
            outbox: Outbox::default(),
        })
    }

    /// Writes what is queued, reads what is ready or comes within `timeout`, and writes what the handler answers.
    pub(super) fn pass(&mut self, timeout: Duration, handler: &mut impl Handler) -> anyhow::Result<()> {
        self.flush(handler)?;
        self.receive(timeout, handler)?;
        self.flush(handler)
    }

    /// The reading half of [`Fleet::pass`].
    pub(super) fn receive(&mut self, timeout: Duration, handler: &mut impl Handler) -> anyhow::Result<()> {
        self.ping();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.context("cannot wait for events")?,
        }
        let mut accept = false;
        for event in self.events.iter() {
            match event.token() {
                LISTENER => accept = true,
                TIMER => {}
                Token(index) => {
                    let Some(Some(link)) = self.links.get_mut(index) else {
                        continue;
                    };
                    let ended = link.ready(index, event, &mut self.scratch, &mut self.outbox, handler)?;
                    if let Some(reason) = ended {
                        retire(&mut self.links, &mut self.free, &mut self.outbox, index);
                        handler.closed(index, &reason)?;
                    }
                }
            }
        }
        if accept { self.accept() } else { Ok(()) }
    }

    /// The writing half of [`Fleet::pass`]: one write for each connection with something to send.
    pub(super) fn flush(&mut self, handler: &mut impl Handler) -> anyhow::Result<()> {
        while let Some(index) = self.outbox.next_dirty() {
            let Some(Some(link)) = self.links.get_mut(index) else {
                continue;
            };
            if let Err(error) = self.outbox.write(index, &mut link.stream) {
                retire(&mut self.links, &mut self.free, &mut self.outbox, index);
                handler.closed(index, &error.to_string())?;
            }
        }
        Ok(())
    }

    /// Starts a connection to `target`, from `source` if given. Indexes count up from 0 and are not used again.
    pub(super) fn connect(&mut self, target: SocketAddr, source: Option<IpAddr>) -> io::Result<usize> {
        let stream = start_connecting(target, source)?;
        self.adopt(self.links.len(), stream)
    }

    /// Accepts connections on `address` from now on; returns the address in fact bound.
    pub(super) fn listen(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        let mut listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        self.poll
            .registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let bound = listener.local_addr()?;
        self.listener = Some(listener);
        Ok(bound)
    }

    fn accept(&mut self) -> anyhow::Result<()> {
        while let Some(listener) = &self.listener {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => bail!("cannot accept a connection: {error}"),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.links.len());
            self.adopt(index, stream)?;
        }
        Ok(())
    }

    /// Edge-triggered interest in both directions, registered once: a changing interest would cost a call per change.
    fn adopt(&mut self, index: usize, mut stream: TcpStream) -> io::Result<usize> {
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        if index == self.links.len() {
            self.links.push(None);
        }
        self.links[index] = Some(Link {
            stream,
            partial: Vec::new(),
        });
        self.outbox.open(index);
        Ok(index)
    }

    /// From now on every connection sends a PINGREQ twice in `seconds`, if the broker has asked for that.
    pub(super) fn keep_alive(&mut self, seconds: Option<u16>) {
        let asked = seconds.filter(|seconds| *seconds > 0);
        let every = asked.map(|seconds| Duration::from_secs(seconds.into()) / 2);
        self.pings = every.map(|every| Pings {
            every,
            last: Instant::now(),
        });
    }

    /// Every connection disconnects in order, as far as its socket takes it at once.
    pub(super) fn say_goodbye(&mut self, handler: &mut impl Handler) -> anyhow::Result<()> {
        for (index, _) in self.links.iter().enumerate().filter(|(_, link)| link.is_some()) {
            self.outbox.buffer(index).extend_from_slice(&encode::disconnect());
        }
        self.flush(handler)
    }

    fn ping(&mut self) {
        let Some(pings) = self.pings.as_mut().filter(|pings| pings.last.elapsed() >= pings.every) else {
            return;
        };
        pings.last = Instant::now();
        for (index, _) in self.links.iter().enumerate().filter(|(_, link)| link.is_some()) {
            self.outbox.buffer(index).extend_from_slice(&encode::pingreq());
        }
    }

    /// Connections made by [`Fleet::connect`] so far.
    pub(super) fn opened(&self) -> usize {
        self.links.len()
    }

    /// Makes a pass return `after` from now at the latest, to the microsecond (a selector's own timeout counts
    /// milliseconds, too coarse for a rate).
    pub(super) fn wake_after(&mut self, after: Duration) -> anyhow::Result<()> {
        let timer = match &self.timer {
            Some(timer) => timer,
            None => self.timer.insert(new_timer(&self.poll)?),
        };
        let after = after.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: after.as_secs() as i64,
            tv_nsec: after.subsec_nanos().into(),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval, it_value };
        rustix::time::timerfd_settime(timer, TimerfdTimerFlags::empty(), &setting).context("cannot set the timer")?;
        Ok(())
    }
}

fn new_timer(poll: &Poll) -> anyhow::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).context("cannot create a timer")?;
    poll.registry()
        .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
    Ok(timer)
}

fn retire(links: &mut [Option<Link>], free: &mut Vec<usize>, outbox: &mut Outbox, index: usize) {
    if links[index].take().is_some() {
        outbox.close(index);
        free.push(index);
    }
}

fn start_connecting(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

impl Link {
    /// Handles one readiness event; `Some` with the reason when the connection is over.
    fn ready(
        &mut self,
        index: usize,
        event: &Event,
        scratch: &mut Vec<u8>,
        outbox: &mut Outbox,
        handler: &mut impl Handler,
    ) -> anyhow::Result<Option<String>> {
        if event.is_writable() {
            outbox.unblock(index);
        }
        let ending = event.is_read_closed() || event.is_error();
        if event.is_readable() || ending {
            return self.read(index, ending, scratch, outbox, handler);
        }
        Ok(None)
    }

    /// Reads until the socket is empty. A read that does not fill its space has emptied it, so that in general one
    /// call is enough; only a connection that is `ending` is read on, to see its end.
    fn read(
        &mut self,
        index: usize,
        ending: bool,
        scratch: &mut Vec<u8>,
        outbox: &mut Outbox,
        handler: &mut impl Handler,
    ) -> anyhow::Result<Option<String>> {
        loop {
            let held = self.partial.len();
            scratch.resize(scratch.len().max(held + READ_BYTES), 0);
            let count = match self.stream.read(&mut scratch[held..]) {
                Ok(0) => return Ok(Some("the other side closed the connection".to_owned())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Some(error.to_string())),
            };
            scratch[..held].copy_from_slice(&self.partial);
            handler.arrived();
            let unused = frames(index, &scratch[..held + count], outbox, handler)?;
            self.partial.clear();
            self.partial.extend_from_slice(unused);
            if held + count < scratch.len() && !ending {
                return Ok(None);
            }
        }
    }
}

/// Hands every whole packet in `input` to the handler and returns what is left.
#[inline]
pub(super) fn frames<'a>(
    index: usize,
    mut input: &'a [u8],
    outbox: &mut Outbox,
    handler: &mut impl Handler,
) -> anyhow::Result<&'a [u8]> {
    while let Some(frame) = decode::frame(input)? {
        input = &input[frame.bytes.len()..];
        handler.frame(index, frame, outbox)?;
    }
    Ok(input)
}

/// Time since the run began, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    #[inline]
    pub(super) fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
