//! Where an answer leads: RFC 9110 section 15.4, with the methods that browsers and curl use.

use super::{Error, Request, Response, Url};

/// Headers that belong to one origin.
const CREDENTIALS: [&str; 3] = ["authorization", "cookie", "proxy-authorization"];

/// The request that follows a redirect; `None`: the answer is none.
pub(super) fn next(request: &Request, url: &Url, response: &Response) -> Result<Option<Request>, Error> {
    let Some(location) = response
        .header("location")
        .filter(|_| matches!(response.status(), 301 | 302 | 303 | 307 | 308))
    else {
        return Ok(None);
    };
    let target = url.join(location)?;
    let becomes_get = match response.status() {
        303 => request.method != "HEAD",
        301 | 302 => request.method == "POST",
        _ => false,
    };
    let leaves = !url.is_same_origin(&Url::parse(&target)?);
    let is_dropped = |name: &str| {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        (leaves && CREDENTIALS.iter().any(|header| is(header))) || (becomes_get && is("content-type"))
    };
    Ok(Some(Request {
        method: if becomes_get { "GET" } else { &request.method }.to_owned(),
        url: target,
        headers: request
            .headers
            .iter()
            .filter(|(name, _)| !is_dropped(name))
            .cloned()
            .collect(),
        body: if becomes_get { Vec::new() } else { request.body.clone() },
    }))
}
