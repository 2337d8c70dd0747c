//! An HTTP backend as plugins ask one: it answers what a test says, and counts who came.
#![allow(dead_code)] // Each test target uses its part.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// Answers of a backend wait in front of it until the test opens it.
#[derive(Default)]
pub(crate) struct Door(Mutex<bool>, Condvar);

impl Door {
    pub(crate) fn wait(&self) {
        let open = self.0.lock().expect("no thread panicked");
        drop(self.1.wait_while(open, |open| !*open).expect("no thread panicked"));
    }

    pub(crate) fn open(&self) {
        *self.0.lock().expect("no thread panicked") = true;
        self.1.notify_all();
    }
}

/// A request as the backend read it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Asked {
    /// The values of a header, whose name is in lower case.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let headers = self.headers.iter().filter(|(known, _)| known == name);
        headers.map(|(_, value)| value.as_str()).collect()
    }

    /// A form field of the body, as it is encoded there.
    pub(crate) fn field(&self, name: &str) -> &str {
        let fields = self.body.split('&').filter_map(|field| field.split_once('='));
        let mut named = fields.filter(|(known, _)| *known == name);
        named.next().map_or("", |(_, value)| value)
    }
}

/// What the backend answers.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    now: AtomicUsize,
    most: AtomicUsize,
    stopped: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// Runs until it is dropped, which closes its connections.
pub(crate) struct Backend {
    address: SocketAddr,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

type Handler = dyn Fn(&Asked) -> Option<Answer> + Send + Sync;
type Wrap = dyn Fn(TcpStream) -> Box<dyn Stream> + Send + Sync;

/// What requests are read from and answers written to.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Backend {
    /// On any free port. An answer of `None` never comes.
    pub(crate) fn start(answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), answer)
    }

    /// On the address of one that was dropped.
    pub(crate) fn start_at(
        address: SocketAddr,
        answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start_over(address, |stream| Box::new(stream), answer)
    }

    /// Over what this makes of each connection.
    pub(crate) fn start_over(
        address: SocketAddr,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + Sync + 'static,
        answer: impl Fn(&Asked) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("the backend can be bound");
        let counts = Arc::new(Counts::default());
        let address = listener.local_addr().expect("it is bound");
        let handler: Arc<Handler> = Arc::new(answer);
        let (accepting, wrap): (_, Arc<Wrap>) = (counts.clone(), Arc::new(wrap));
        let thread = std::thread::spawn(move || accept(&listener, &accepting, &wrap, &handler));
        Self {
            address,
            counts,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its origin, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// The most requests that were being answered at a time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.counts.most.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.counts.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address)); // Ends the wait for the next one.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let streams = self.counts.streams.lock().expect("no thread panicked");
        for stream in streams.iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, counts: &Arc<Counts>, wrap: &Arc<Wrap>, handler: &Arc<Handler>) {
    for stream in listener.incoming().flatten() {
        if counts.stopped.load(Ordering::SeqCst) {
            return;
        }
        counts.connections.fetch_add(1, Ordering::SeqCst);
        if let Ok(copy) = stream.try_clone() {
            counts.streams.lock().expect("no thread panicked").push(copy);
        }
        let _ = stream.set_nodelay(true);
        let (counts, wrap, handler) = (counts.clone(), wrap.clone(), handler.clone());
        std::thread::spawn(move || serve(wrap(stream), &counts, &handler));
    }
}

/// One connection, request after request. It ends with the first thing that goes wrong.
fn serve(stream: Box<dyn Stream>, counts: &Counts, handler: &Arc<Handler>) {
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read(&mut reader) {
        counts.requests.fetch_add(1, Ordering::SeqCst);
        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
        counts.most.fetch_max(now, Ordering::SeqCst);
        let answer = handler(&asked);
        counts.now.fetch_sub(1, Ordering::SeqCst);
        match answer {
            Some(answer) if write(reader.get_mut(), &answer).is_ok() => {}
            Some(_) => return,
            None => drop(reader.read(&mut [0])), // Until the other one gives up.
        }
    }
}

fn read(reader: &mut BufReader<Box<dyn Stream>>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a content length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

fn write(out: &mut dyn Write, answer: &Answer) -> std::io::Result<()> {
    let Answer { status, headers, body } = answer;
    let length = match status {
        204 => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    let mut bytes = format!("HTTP/1.1 {status} Answer\r\n{headers}{length}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    out.write_all(&bytes)?;
    out.flush()
}
