//! The API over a real loopback socket, asked byte by byte and by the commands.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use tokio::runtime::Runtime;

use self::fake::FakeBackend;
use super::guard::Token;
use super::server::{AdminServer, serve};

mod api;
mod commands;
mod fake;
mod metrics;
mod server;
mod view;

/// The header that every change needs.
const JSON: &str = "Content-Type: application/json\r\n";

/// A served fake broker.
struct Fixture {
    runtime: Runtime,
    server: Option<AdminServer>,
    backend: Arc<FakeBackend>,
    address: SocketAddr,
}

impl Fixture {
    fn new(token: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let backend = Arc::new(FakeBackend::default());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = serve(
            runtime.handle(),
            listener,
            token.and_then(Token::new),
            backend.clone(),
            Arc::default(),
        )
        .unwrap();
        Self {
            runtime,
            address: server.address(),
            server: Some(server),
            backend,
        }
    }

    /// Sends a request with a proper Host and returns status and the rest of the answer.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = if body.is_empty() {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let host = format!("Host: {}\r\n", self.address);
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}{length}\r\n{body}"
        ))
    }

    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.ask("GET", path, headers, "")
    }

    fn stop(&mut self) {
        let server = self.server.take().unwrap();
        self.runtime.block_on(server.stop());
    }
}

/// Status and whole text of an answer whose connection then ends.
fn read_answer(stream: &mut TcpStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("no status in {answer:?}"));
    (status.parse().unwrap(), answer)
}
