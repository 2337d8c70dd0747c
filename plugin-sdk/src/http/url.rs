//! As much of a URL as a request needs: scheme, authority, path with query.

use super::Error;

/// An absolute URL of a backend, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) is_https: bool,
    /// Host and port as written.
    pub(crate) authority: String,
    /// From the slash on, without fragment.
    pub(crate) path_with_query: String,
}

impl Url {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('\\') {
            return Err(Error::BadUrl);
        }
        let (is_https, rest) = scheme(text).ok_or(Error::BadUrl)?;
        let rest = rest.strip_prefix("//").ok_or(Error::BadUrl)?;
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        // A user name would be a credential in a place where nobody looks for one, and hides which host is meant.
        if authority.is_empty() || authority.starts_with(':') || authority.contains('@') {
            return Err(Error::BadUrl);
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            is_https,
            authority: authority.to_owned(),
            path_with_query: format!("{slash}{path}"),
        })
    }

    /// What a `Location` means that was found here.
    pub(super) fn join(&self, location: &str) -> Result<String, Error> {
        let location = location.split('#').next().unwrap_or_default();
        if scheme(location).is_some() {
            return Ok(location.to_owned());
        }
        let scheme = if self.is_https { "https" } else { "http" };
        if location.starts_with("//") {
            return Ok(format!("{scheme}:{location}"));
        }
        let path = self.path_with_query.split('?').next().unwrap_or_default();
        let path = match location.chars().next() {
            None => self.path_with_query.clone(),
            Some('/') => without_dots(location),
            Some('?') => format!("{path}{location}"),
            // `mailto:` and the like: a first segment with a colon is a scheme.
            _ if location.split(['/', '?']).next().unwrap_or_default().contains(':') => return Err(Error::BadUrl),
            _ => {
                let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
                without_dots(&format!("{folder}{location}"))
            }
        };
        Ok(format!("{scheme}://{}{path}", self.authority))
    }

    /// Whether both are of one origin as far as credentials are concerned.
    pub(super) fn is_same_origin(&self, other: &Self) -> bool {
        self.is_https == other.is_https && self.authority.eq_ignore_ascii_case(&other.authority)
    }
}

fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    match () {
        () if scheme.eq_ignore_ascii_case("http") => Some((false, rest)),
        () if scheme.eq_ignore_ascii_case("https") => Some((true, rest)),
        () => None,
    }
}

/// RFC 3986 section 5.2.4, for a path with a leading slash; the query stays as it is.
fn without_dots(path_with_query: &str) -> String {
    let (path, query) = path_with_query.split_at(path_with_query.find('?').unwrap_or(path_with_query.len()));
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => {
                segments.push(other);
                continue;
            }
        }
        if is_last {
            segments.push("");
        }
    }
    format!("/{}{query}", segments.join("/"))
}
