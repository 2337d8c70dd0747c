//! The requests of a call and their answers, kept while somebody listens to the calls.

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::http::request::Parts;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use wasmtime_wasi_http::{Error, WasiBody};

/// Requests of one call that are kept.
pub const MAX_TAPPED_REQUESTS: usize = 32;
/// Bytes of their URLs, header fields and bodies, and of those of their answers.
pub const MAX_TAPPED_HTTP_BYTES: usize = 512 * 1024;

/// A request that a call made, and what came back. Anything in it may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedExchange {
    /// `GET`, `POST` or another.
    pub method: String,
    /// Absolute.
    pub url: String,
    /// What was sent. Header fields are not kept.
    pub body: TappedBody,
    /// Or why there is none.
    pub answer: Result<TappedResponse, String>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TappedResponse {
    /// Such as 200.
    pub status: u16,
    /// In this order.
    pub headers: Vec<(String, String)>,
    /// As far as the plugin read it.
    pub body: TappedBody,
}

/// A body, or the beginning of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TappedBody {
    /// What is kept.
    pub bytes: Vec<u8>,
    /// Whether that is all of it.
    pub whole: bool,
}

/// What a call asks for and gets. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch(Arc<Mutex<Watched>>);

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) exchanges: Vec<TappedExchange>,
    pub(crate) room: Room,
}

/// How much is kept.
#[derive(Debug, Default)]
pub(crate) struct Room {
    bytes: usize,
    /// Requests, header fields and bodies that are not, or not wholly, kept.
    pub(crate) over_bound: u64,
}

/// The place of one request in it; `None`: it is not kept.
#[derive(Debug)]
pub(crate) struct Seen {
    watch: Watch,
    index: Option<usize>,
}

impl Watch {
    /// A request is about to leave.
    pub(crate) fn request(&self, parts: &Parts, body: &Bytes) -> Seen {
        let url = parts.uri.to_string();
        let mut watched = self.lock();
        let index = watched.exchanges.len();
        let bytes = if index < MAX_TAPPED_REQUESTS {
            url.len()
        } else {
            usize::MAX
        };
        let index = watched.room.take(bytes).then_some(index);
        if index.is_some() {
            let mut kept = TappedBody::default();
            kept.whole = watched.room.keep(&mut kept.bytes, body);
            watched.exchanges.push(TappedExchange {
                method: parts.method.to_string(),
                url,
                body: kept,
                answer: Err("no answer came before the call ended".to_owned()),
            });
        }
        drop(watched);
        Seen {
            watch: self.clone(),
            index,
        }
    }

    /// What was seen until now. What comes later is not kept.
    pub(crate) fn take(&self) -> Watched {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn take(&mut self, bytes: usize) -> bool {
        let room = self.bytes.saturating_add(bytes) <= MAX_TAPPED_HTTP_BYTES;
        match room {
            true => self.bytes += bytes,
            false => self.over_bound += 1,
        }
        room
    }

    /// Adds what there is room for; whether that is everything.
    fn keep(&mut self, kept: &mut Vec<u8>, bytes: &[u8]) -> bool {
        let room = MAX_TAPPED_HTTP_BYTES.saturating_sub(self.bytes);
        let fits = bytes.len().min(room);
        kept.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        self.bytes += fits;
        let whole = fits == bytes.len();
        self.over_bound += u64::from(!whole);
        whole
    }
}

impl Seen {
    /// Its answer begins, or does not come. The body is seen while it is read.
    pub(crate) fn answered(self, answer: Result<Response<WasiBody>, Error>) -> Result<Response<WasiBody>, Error> {
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                self.change(|_, exchange| exchange.answer = Err(error.to_string()));
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        self.change(|room, exchange| {
            let mut headers = Vec::new();
            for (name, value) in &parts.headers {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                if room.take(name.as_str().len() + value.len()) {
                    headers.push((name.to_string(), value));
                }
            }
            exchange.answer = Ok(TappedResponse {
                status: parts.status.as_u16(),
                headers,
                body: TappedBody::default(),
            });
        });
        let body = ReadBody {
            body,
            seen: self,
            cut: false,
        };
        if body.is_end_stream() {
            body.see_the_end();
        }
        Ok(Response::from_parts(parts, WasiBody::new(body)))
    }

    fn change(&self, change: impl FnOnce(&mut Room, &mut TappedExchange)) {
        let mut watched = self.watch.lock();
        let Watched { exchanges, room } = &mut *watched;
        if let Some(exchange) = self.index.and_then(|index| exchanges.get_mut(index)) {
            change(room, exchange);
        }
    }

    fn change_body(&self, change: impl FnOnce(&mut Room, &mut TappedBody)) {
        self.change(|room, exchange| {
            if let Ok(response) = &mut exchange.answer {
                change(room, &mut response.body);
            }
        });
    }
}

/// The body of an answer, on its way to the plugin.
struct ReadBody {
    body: WasiBody,
    seen: Seen,
    /// There was no room for some of it: the end is not the end of what is kept.
    cut: bool,
}

impl ReadBody {
    fn see(&mut self, data: &Bytes) {
        let cut = &mut self.cut;
        self.seen.change_body(|room, body| {
            if !*cut {
                *cut = !room.keep(&mut body.bytes, data);
            }
        });
    }

    fn see_the_end(&self) {
        if !self.cut {
            self.seen.change_body(|_, body| body.whole = true);
        }
    }
}

impl Body for ReadBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            self.see(data);
        }
        if frame.is_none() || self.body.is_end_stream() {
            self.see_the_end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, Full};

    fn parts(url: &str) -> Parts {
        hyper::Request::builder().uri(url).body(()).unwrap().into_parts().0
    }

    fn response(body: &[u8]) -> Result<Response<WasiBody>, Error> {
        let body = Full::new(Bytes::copy_from_slice(body)).map_err(Into::into);
        Ok(Response::builder()
            .header("etag", "1")
            .body(WasiBody::new(body))
            .unwrap())
    }

    fn read(response: Response<WasiBody>) -> Bytes {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(response.into_body().collect()).unwrap().to_bytes()
    }

    fn body(watched: &Watched, index: usize) -> &TappedBody {
        &watched.exchanges[index].answer.as_ref().unwrap().body
    }

    #[test]
    fn a_request_and_what_was_read_of_its_answer_are_seen() {
        let watch = Watch::default();
        let read_wholly = watch.request(&parts("http://a/1"), &Bytes::from_static(b"asked"));
        let unread = watch.request(&parts("http://a/2"), &Bytes::new());
        let failed = watch.request(&parts("http://a/3"), &Bytes::new());
        watch.request(&parts("http://a/4"), &Bytes::new());
        assert_eq!(read(read_wholly.answered(response(b"told")).unwrap()), "told");
        drop(unread.answered(response(b"told")).unwrap());
        failed.answered(Err(Error::ConnectionRefused)).unwrap_err();
        let watched = watch.take();
        let first = &watched.exchanges[0];
        assert_eq!((first.method.as_str(), first.url.as_str()), ("GET", "http://a/1"));
        assert_eq!((first.body.bytes.as_slice(), first.body.whole), (&b"asked"[..], true));
        assert_eq!(
            first.answer.as_ref().unwrap().headers,
            [("etag".to_owned(), "1".to_owned())]
        );
        assert_eq!(
            (body(&watched, 0).bytes.as_slice(), body(&watched, 0).whole),
            (&b"told"[..], true)
        );
        assert_eq!(*body(&watched, 1), TappedBody::default());
        assert!(watched.exchanges[2].answer.is_err());
        assert!(watched.exchanges[3].answer.as_ref().unwrap_err().contains("no answer"));
        assert_eq!(watched.room.over_bound, 0);
    }

    #[test]
    fn what_is_over_the_bound_passes_and_is_counted() {
        let watch = Watch::default();
        let large = vec![b'x'; MAX_TAPPED_HTTP_BYTES];
        let seen = watch.request(&parts("http://a/"), &Bytes::new());
        assert_eq!(read(seen.answered(response(&large)).unwrap()).len(), large.len());
        assert!(!body(&watch.take(), 0).whole);
        let watch = Watch::default();
        for _ in 0..=MAX_TAPPED_REQUESTS {
            let seen = watch.request(&parts("http://a/"), &Bytes::new());
            assert_eq!(read(seen.answered(response(b"x")).unwrap()), "x");
        }
        let watched = watch.take();
        assert_eq!(
            (watched.exchanges.len(), watched.room.over_bound),
            (MAX_TAPPED_REQUESTS, 1)
        );
    }

    #[test]
    fn what_comes_after_the_call_is_not_kept() {
        let watch = Watch::default();
        let seen = watch.request(&parts("http://a/"), &Bytes::new());
        let response = seen.answered(response(b"late")).unwrap();
        assert_eq!(watch.take().exchanges.len(), 1);
        assert_eq!(read(response), "late");
        assert!(watch.take().exchanges.is_empty());
    }
}
