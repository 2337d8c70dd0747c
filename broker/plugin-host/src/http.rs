//! How requests leave: over connections that a plugin keeps and uses again, each part of the way under a deadline.

use crate::watch::Watch;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error as _;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// Bytes of a request's body.
pub const MAX_REQUEST_BODY_BYTES: usize = 8 * 1024 * 1024;
/// How long a connection that nobody uses is kept, in milliseconds.
const IDLE_MS: u64 = 30_000;

/// An answer, and what goes on behind it, which here is nothing.
pub(crate) type Sent = Box<
    dyn Future<Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>> + Send,
>;

/// What answers the requests of asynchronous plugins, after their grants were looked at.
#[derive(Clone, Default)]
pub enum HttpBackend {
    /// Those who listen at the origins.
    #[default]
    Network,
    /// A function, for tests and replays.
    Scripted(Arc<Script>),
}

/// Answers a request, or says why there is no answer.
pub type Script = dyn Fn(&ScriptedRequest) -> Result<ScriptedResponse, String> + Send + Sync;

impl fmt::Debug for HttpBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "Network",
            Self::Scripted(_) => "Scripted",
        })
    }
}

/// A request as a [`Script`] sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptedRequest {
    /// `GET`, `POST` or another.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// Without those that belong to a connection.
    pub headers: Vec<(String, String)>,
    /// Empty where there is none.
    pub body: Vec<u8>,
}

/// What a [`Script`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptedResponse {
    /// Such as 200.
    pub status: u16,
    /// In this order.
    pub headers: Vec<(String, String)>,
    /// All of it, or what comes before it breaks off.
    pub body: Vec<u8>,
    /// Whether it breaks off there.
    pub breaks_off: bool,
}

/// The connections of one generation of a plugin.
pub(crate) struct HttpClient {
    way: Way,
    /// Where a request does not say how long: the deadline of the whole call.
    patience: Duration,
}

enum Way {
    Network(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Scripted(Arc<Script>),
}

impl HttpClient {
    /// `trusts_machine`: whether any origin is `https`, for which the machine's authorities are read.
    pub(crate) fn new(
        backend: &HttpBackend,
        max_idle: usize,
        patience: Duration,
        trusts_machine: bool,
    ) -> Result<Self, String> {
        let way = match backend {
            HttpBackend::Network => Way::Network(client(max_idle, patience, trusts_machine)?),
            HttpBackend::Scripted(script) => Way::Scripted(script.clone()),
        };
        Ok(Self { way, patience })
    }

    pub(crate) fn send(
        self: Arc<Self>,
        request: Request<WasiBody>,
        options: RequestOptions,
        watch: Option<Watch>,
    ) -> Sent {
        Box::new(async move {
            let response = self.answer(request, options, watch).await?;
            let nothing: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing))
        })
    }

    async fn answer(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
        watch: Option<Watch>,
    ) -> Result<Response<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        if parts.method == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        // It is made of the URL, which was looked at.
        parts.headers.remove(header::HOST);
        let body = Limited::new(body, MAX_REQUEST_BODY_BYTES).collect().await;
        let body = body.map_err(|_| Error::HttpRequestBodySize(None))?.to_bytes();
        let seen = watch.map(|watch| watch.request(&parts, &body));
        let answer = self.sent(parts, body, options).await;
        match seen {
            Some(seen) => seen.answered(answer),
            None => answer,
        }
    }

    async fn sent(&self, parts: Parts, body: Bytes, options: RequestOptions) -> Result<Response<WasiBody>, Error> {
        let begins_within = options.first_byte_timeout.unwrap_or(self.patience).min(self.patience);
        let pause = options
            .between_bytes_timeout
            .unwrap_or(self.patience)
            .min(self.patience);
        match &self.way {
            Way::Scripted(script) => scripted(script, &parts, &body),
            Way::Network(client) => {
                let response = client.request(Request::from_parts(parts, Full::new(body)));
                let response = timeout(begins_within, response).await;
                let response = response.map_err(|_| Error::HttpResponseTimeout)?;
                let response = response.map_err(|error| why(&error))?;
                Ok(response.map(|body| Paced::new(body, pause).boxed_unsync()))
            }
        }
    }
}

fn client(
    max_idle: usize,
    patience: Duration,
    trusts_machine: bool,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(patience));
    let provider = rustls::crypto::ring::default_provider();
    let builder = HttpsConnectorBuilder::new();
    let builder = match trusts_machine {
        true => builder
            .with_provider_and_native_roots(provider)
            .map_err(|error| format!("the machine's certificate authorities cannot be read: {error}"))?,
        false => {
            let tls = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?;
            builder.with_tls_config(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
        }
    };
    let connector = builder.https_or_http().enable_http1().wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_millis(IDLE_MS))
        .pool_max_idle_per_host(max_idle)
        .build(connector))
}

fn scripted(script: &Arc<Script>, parts: &Parts, body: &Bytes) -> Result<Response<WasiBody>, Error> {
    let header = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let request = ScriptedRequest {
        method: parts.method.to_string(),
        url: parts.uri.to_string(),
        headers: parts.headers.iter().map(header).collect(),
        body: body.to_vec(),
    };
    let answer = script(&request).map_err(|why| Error::InternalError(Some(why)))?;
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(name, value);
    }
    let body = match answer.breaks_off {
        true => WasiBody::new(BrokenOff(Some(answer.body.into()))),
        false => Full::new(Bytes::from(answer.body)).map_err(Into::into).boxed_unsync(),
    };
    response
        .body(body)
        .map_err(|error| Error::InternalError(Some(error.to_string())))
}

/// The beginning of a body, after which the connection ends.
struct BrokenOff(Option<Bytes>);

impl Body for BrokenOff {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let begins = self.0.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(Some(match begins {
            Some(bytes) => Ok(Frame::data(bytes)),
            None => Err(Error::ConnectionTerminated),
        }))
    }
}

/// The cause of a failed request, in the words of `wasi:http`.
fn why(error: &hyper_util::client::legacy::Error) -> Error {
    let mut cause = error.source();
    while let Some(now) = cause {
        if let Some(error) = now.downcast_ref::<std::io::Error>() {
            match (error.kind(), tls_error(error)) {
                (_, Some(rustls::Error::InvalidCertificate(_))) => return Error::TlsCertificateError,
                (_, Some(_)) => return Error::TlsProtocolError,
                (std::io::ErrorKind::ConnectionRefused, _) => return Error::ConnectionRefused,
                (std::io::ErrorKind::TimedOut, _) => return Error::ConnectionTimeout,
                _ => {}
            }
        }
        if now.to_string().contains("dns error") {
            return Error::DestinationNotFound;
        }
        cause = now.source();
    }
    match error.is_connect() {
        true => Error::DestinationUnavailable,
        false => Error::ConnectionTerminated,
    }
}

/// What TLS says is inside errors of input and output, and not among their sources.
fn tls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    let inner = error.get_ref()?;
    let nested = || inner.downcast_ref::<std::io::Error>().and_then(tls_error);
    inner.downcast_ref::<rustls::Error>().or_else(nested)
}

/// A body that must not pause for too long.
struct Paced {
    body: Incoming,
    pause: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn new(body: Incoming, pause: Duration) -> Self {
        Self {
            body,
            pause,
            waits: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waits = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
        }
        let pause = self.pause;
        ready!(
            self.waits
                .get_or_insert_with(|| Box::pin(sleep(pause)))
                .as_mut()
                .poll(cx)
        );
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
