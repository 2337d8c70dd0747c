//! What an instance of an asynchronous plugin has beside the others: WASI with nothing behind it but time, so that it can wait, and
//! a gate to the origins it is granted.

use crate::clock::World;
use crate::guest::{Guest, MAX_OUTPUT_BYTES};
use crate::http::{HttpClient, Sent};
use crate::inert_wasi::MAX_RANDOM_BYTES;
use crate::origin::Origin;
use crate::stats::PluginStats;
use crate::watch::Watch;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::HostWallClock;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

/// Streams, requests, answers and their parts that such an instance may hold at a time.
pub const MAX_HTTP_HANDLES: usize = 256;
/// Bytes of the headers of one request or answer, as they are kept in memory.
const MAX_HEADERS_BYTES: usize = 64 * 1024;
/// Bytes that a guest may write of a request's body at a time.
const BODY_CHUNK_BYTES: usize = 64 * 1024;

/// The part of a store's data that the functions of `wasmtime-wasi` work on.
pub(crate) struct Outside {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    gate: Gate,
    printed: Printed,
}

impl Outside {
    /// Its time is the world's; what it waits for is real, and so are its secrets.
    pub(crate) fn new(gate: Gate, world: &World) -> Self {
        let printed = Printed::default();
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HTTP_HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_HEADERS_BYTES);
        // No directory, environment, argument or address: all of that is absent unless it is given.
        let mut seed = [0; 16];
        // Without an entropy source hash maps are seeded alike; "insecure" promises no more.
        let _ = world.random(&mut seed);
        let wasi = WasiCtx::builder()
            .wall_clock(world.clone())
            .insecure_random_seed(u128::from_le_bytes(seed))
            .stdout(printed.clone())
            .stderr(printed.clone())
            .max_random_size(MAX_RANDOM_BYTES)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self {
            wasi,
            table,
            http,
            gate,
            printed,
        }
    }

    /// Who sees the requests from now on.
    pub(crate) fn watch(&mut self, watch: Option<&Watch>) {
        self.gate.watch = watch.cloned();
    }

    /// What was printed since the last time.
    pub(crate) fn take_printed(&self) -> Vec<u8> {
        std::mem::take(&mut *self.printed.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HostWallClock for World {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        self.unix_time()
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let outside = self.outside();
        WasiCtxView {
            ctx: &mut outside.wasi,
            table: &mut outside.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let outside = self.outside();
        WasiHttpCtxView {
            hooks: &mut outside.gate,
            table: &mut outside.table,
            ctx: &mut outside.http,
        }
    }
}

/// Lets requests through to what is granted. A redirect is an answer; whoever follows it comes here again.
#[derive(Clone)]
pub(crate) struct Gate {
    origins: Arc<[Origin]>,
    /// `None`: nothing is granted.
    client: Option<Arc<HttpClient>>,
    stats: Arc<PluginStats>,
    /// Of the call under way.
    watch: Option<Watch>,
}

impl Gate {
    pub(crate) fn new(origins: Arc<[Origin]>, client: Option<Arc<HttpClient>>, stats: Arc<PluginStats>) -> Self {
        Self {
            origins,
            client,
            stats,
            watch: None,
        }
    }

    fn open(&self, request: &hyper::Request<WasiBody>) -> Option<Arc<HttpClient>> {
        let uri = request.uri();
        let origin = Origin::of(uri.scheme_str()?, uri.authority()?.as_str())?;
        self.client.clone().filter(|_| self.origins.contains(&origin))
    }
}

impl WasiHttpHooks for Gate {
    fn send_request(
        &mut self,
        request: hyper::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sent {
        match self.open(&request) {
            Some(client) => client.send(request, options.unwrap_or_default(), self.watch.clone()),
            None => {
                self.stats.refuse_grants(1);
                Box::new(async { Err(Error::HttpRequestDenied) })
            }
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn p2_error_from_hyper(&mut self, _: &hyper::Error) -> ErrorCode {
        ErrorCode::ConnectionTerminated
    }
}

/// Standard output and error: kept until the call ends, up to [`MAX_OUTPUT_BYTES`].
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    fn print(&self, bytes: &[u8]) {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT_BYTES.saturating_sub(printed.len());
        printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl IsTerminal for Printed {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Printed {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Printed {
    async fn ready(&mut self) {}
}

impl OutputStream for Printed {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.print(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MAX_OUTPUT_BYTES)
    }
}

impl tokio::io::AsyncWrite for Printed {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.print(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
