//! Requests on the wire, by `wasi:http`.

use crate::http::{Bounds, Error, Request, Response, Url};
use std::time::Duration;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// Bytes that are read at a time.
const READ_BYTES: u64 = 64 * 1024;

pub(crate) fn send(request: &Request, url: &Url, bounds: Bounds) -> Result<Response, Error> {
    let outgoing = outgoing(request, url)?;
    let body = match request.body.as_slice() {
        [] => None,
        _ => Some(outgoing.body().map_err(|()| protocol("the request has no body"))?),
    };
    let pending = outgoing_handler::handle(outgoing, options(bounds.timeout)).map_err(error)?;
    if let Some(body) = body {
        write(body, &request.body);
    }
    receive(&wait(&pending)?, bounds.max_body_bytes)
}

fn outgoing(request: &Request, url: &Url) -> Result<OutgoingRequest, Error> {
    // Nothing can be wrong with an empty list: who may not even make one has no grant for any origin.
    Fields::from_list(&[]).map_err(|_| Error::NotGranted)?;
    let mut headers: Vec<(String, Vec<u8>)> = request
        .headers
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
        .collect();
    if !request.body.is_empty() {
        headers.push(("content-length".to_owned(), request.body.len().to_string().into_bytes()));
    }
    let headers = Fields::from_list(&headers).map_err(|error| Error::Protocol(format!("the headers: {error:?}")))?;
    let outgoing = OutgoingRequest::new(headers);
    let scheme = if url.is_https { Scheme::Https } else { Scheme::Http };
    outgoing
        .set_method(&method(&request.method))
        .map_err(|()| protocol("the method"))?;
    outgoing.set_scheme(Some(&scheme)).map_err(|()| Error::BadUrl)?;
    outgoing
        .set_authority(Some(&url.authority))
        .map_err(|()| Error::BadUrl)?;
    outgoing
        .set_path_with_query(Some(&url.path_with_query))
        .map_err(|()| Error::BadUrl)?;
    Ok(outgoing)
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

fn options(timeout: Option<Duration>) -> Option<RequestOptions> {
    let nanoseconds = u64::try_from(timeout?.as_nanos()).unwrap_or(u64::MAX);
    let options = RequestOptions::new();
    // What a broker does not keep to is kept to by its own deadline.
    let _ = options.set_connect_timeout(Some(nanoseconds));
    let _ = options.set_first_byte_timeout(Some(nanoseconds));
    let _ = options.set_between_bytes_timeout(Some(nanoseconds));
    Some(options)
}

/// What goes wrong here shows in the answer, which says it better.
fn write(body: OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        let _ = write_all(&stream, bytes);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn write_all(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = usize::try_from(stream.check_write()?).unwrap_or(usize::MAX);
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(room.min(bytes.len()));
        stream.write(now)?;
        bytes = later;
    }
    stream.blocking_flush()
}

fn wait(pending: &FutureIncomingResponse) -> Result<IncomingResponse, Error> {
    loop {
        match pending.get() {
            Some(Ok(answer)) => return answer.map_err(error),
            Some(Err(())) => return Err(protocol("the answer was taken twice")),
            None => pending.subscribe().block(),
        }
    }
}

fn receive(incoming: &IncomingResponse, max_body_bytes: usize) -> Result<Response, Error> {
    let mut response = Response::new(incoming.status());
    for (name, value) in incoming.headers().entries() {
        response = response.with_header(&name, &String::from_utf8_lossy(&value));
    }
    let body = incoming.consume().map_err(|()| protocol("the answer has no body"))?;
    let stream = body.stream().map_err(|()| protocol("the answer has no body"))?;
    read(&stream, max_body_bytes).map(|bytes| response.with_body(bytes))
}

fn read(stream: &InputStream, max_body_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES) {
            Ok(bytes) if body.len() + bytes.len() > max_body_bytes => return Err(Error::TooLarge),
            Ok(bytes) => body.extend_from_slice(&bytes),
            Err(StreamError::Closed) => return Ok(body),
            Err(StreamError::LastOperationFailed(failure)) => {
                return Err(http_error_code(&failure).map_or_else(|| protocol(&failure.to_debug_string()), error));
            }
        }
    }
}

fn protocol(what: &str) -> Error {
    Error::Protocol(what.to_owned())
}

fn error(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::NotGranted,
        ErrorCode::HttpRequestUriInvalid => Error::BadUrl,
        ErrorCode::DnsTimeout
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Error::Timeout,
        ErrorCode::HttpResponseBodySize(_) => Error::TooLarge,
        ErrorCode::ConnectionRefused => Error::Connect("connection refused".to_owned()),
        ErrorCode::ConnectionTerminated => Error::Connect("the connection was closed".to_owned()),
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => Error::Connect("no such host".to_owned()),
        ErrorCode::DestinationUnavailable => Error::Connect("the host cannot be reached".to_owned()),
        ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => Error::Connect("TLS failed".to_owned()),
        ErrorCode::TlsCertificateError => Error::Connect("the certificate is not trusted".to_owned()),
        ErrorCode::InternalError(Some(what)) => Error::Protocol(what),
        other => Error::Protocol(format!("{other:?}")),
    }
}
