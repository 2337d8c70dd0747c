//! One question put to a backend: from the configured templates to what it answered.

use crate::config::{EndpointConfig, Fallback, Method};
use crate::template::{Question, Template, Values, percent_encode};
use nervewire_plugin_sdk::http::{self, Response};
use serde_json::{Map, Value};
use std::time::Duration;

/// Bytes of an answer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Headers that are the broker's own.
const NOT_YOURS: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A backend's URL with everything that is sent there.
#[derive(Debug)]
pub(crate) struct Endpoint {
    method: Method,
    /// `http://host:port`, for the log.
    pub(crate) origin: String,
    path: Template,
    query: Vec<(Template, Template)>,
    headers: Vec<(String, Template)>,
    body: Body,
    timeout: Duration,
    pub(crate) on_unavailable: Fallback,
    pub(crate) on_status: Fallback,
}

#[derive(Debug)]
enum Body {
    /// A `GET` has none, its fields are part of the query.
    Query(Vec<(Template, Template)>),
    Form(Vec<(Template, Template)>),
    Json(Node),
}

/// JSON with templates as its texts and names.
#[derive(Debug)]
enum Node {
    Text(Template),
    List(Vec<Node>),
    Object(Vec<(Template, Node)>),
    Other(Value),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The client's own names or password cannot be put into the request.
    Unaskable(String),
    /// The backend did not answer, or not in a way that means anything.
    Unavailable(String),
    /// Neither 200 nor 204.
    Status(u16),
}

/// What a backend answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// 204.
    NoContent,
    /// 200 with these members.
    Said(Map<String, Value>),
}

impl Endpoint {
    /// # Errors
    /// Which key, and what to write.
    pub(crate) fn new(config: EndpointConfig, question: Question) -> Result<Self, String> {
        let (origin, path, query) = split(&config.url)?;
        let method = config.method;
        if config.timeout_ms == 0 {
            return Err("timeout_ms is 0, write at least 1".to_owned());
        }
        let (headers, content_type) = headers(&config, question)?;
        Ok(Self {
            method,
            origin: origin.to_owned(),
            path: Template::parse(path, question)?,
            query: query_fields(query, question)?,
            headers,
            body: Body::new(method, &content_type, config.body, question)?,
            timeout: Duration::from_millis(u64::from(config.timeout_ms)),
            on_unavailable: config.on_unavailable,
            on_status: config.on_status,
        })
    }

    /// Asks. There is no second attempt: the client waits, and the broker bounds for how long.
    pub(crate) fn ask(&self, values: Values<'_>) -> Result<Answer, NoAnswer> {
        let (url, body) = self.request(values).map_err(NoAnswer::Unaskable)?;
        let method = match self.method {
            Method::Get => "GET",
            Method::Post => "POST",
        };
        let mut request = http::request(method, &url)
            .timeout(self.timeout)
            .max_body_bytes(MAX_ANSWER_BYTES)
            .body(body);
        for (name, template) in &self.headers {
            let value = template.text(values).map_err(NoAnswer::Unaskable)?;
            if value.contains(char::is_control) {
                return Err(NoAnswer::Unaskable(format!("a control character in the header {name}")));
            }
            request = request.header(name, &value);
        }
        match request.send() {
            Ok(response) => read(&response),
            Err(http::Error::NotGranted) => Err(NoAnswer::Unavailable(format!(
                "not granted, write grants = [\"{}\"] in this plugin",
                self.origin
            ))),
            Err(error) => Err(NoAnswer::Unavailable(error.to_string())),
        }
    }

    fn request(&self, values: Values<'_>) -> Result<(String, Vec<u8>), String> {
        let mut query = fields(&self.query, values);
        let body = match &self.body {
            Body::Query(more) => {
                if !more.is_empty() {
                    query = [query, fields(more, values)]
                        .into_iter()
                        .filter(|part| !part.is_empty())
                        .collect::<Vec<_>>()
                        .join(&b"&"[..]);
                }
                Vec::new()
            }
            Body::Form(form) => fields(form, values),
            Body::Json(node) => serde_json::to_vec(&node.render(values)?).map_err(|error| error.to_string())?,
        };
        let mut url = self.origin.clone().into_bytes();
        url.extend(self.path(values)?);
        if !query.is_empty() {
            url.push(b'?');
            url.extend(query);
        }
        let url = String::from_utf8(url).map_err(|_| "a URL that is not text".to_owned())?;
        Ok((url, body))
    }

    /// A name such as `..` must not lead to another path.
    fn path(&self, values: Values<'_>) -> Result<Vec<u8>, String> {
        let path = self.path.render(values, percent_encode);
        let climbs = |segment: &[u8]| matches!(segment, b"." | b"..");
        if self.path.varies() && path.split(|byte| *byte == b'/').any(climbs) {
            return Err("a name that would be another path".to_owned());
        }
        Ok(path)
    }
}

impl Body {
    fn new(method: Method, content_type: &str, body: Map<String, Value>, question: Question) -> Result<Self, String> {
        if method == Method::Get {
            return flat(body, question).map(Self::Query);
        }
        match content_type {
            "application/json" => Node::object(body, question).map(Self::Json),
            "application/x-www-form-urlencoded" => flat(body, question).map(Self::Form),
            other => Err(format!(
                "headers: content-type {other:?}, write \"application/json\" or \"application/x-www-form-urlencoded\""
            )),
        }
    }
}

impl Node {
    fn new(value: Value, question: Question) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Template::parse(&text, question)?),
            Value::Array(values) => Self::List(
                values
                    .into_iter()
                    .map(|value| Self::new(value, question))
                    .collect::<Result<_, _>>()?,
            ),
            Value::Object(members) => Self::object(members, question)?,
            other => Self::Other(other),
        })
    }

    fn object(members: Map<String, Value>, question: Question) -> Result<Self, String> {
        let member =
            |(name, value): (String, Value)| Ok((Template::parse(&name, question)?, Self::new(value, question)?));
        members
            .into_iter()
            .map(member)
            .collect::<Result<_, String>>()
            .map(Self::Object)
    }

    fn render(&self, values: Values<'_>) -> Result<Value, String> {
        Ok(match self {
            Self::Text(template) => Value::String(template.text(values)?),
            Self::List(nodes) => nodes.iter().map(|node| node.render(values)).collect::<Result<_, _>>()?,
            Self::Object(members) => members
                .iter()
                .map(|(name, node)| Ok((name.text(values)?, node.render(values)?)))
                .collect::<Result<Map<_, _>, String>>()?
                .into(),
            Self::Other(value) => value.clone(),
        })
    }
}

/// Origin, path and query. The origin is granted by name, so nothing of a client may be in it.
fn split(url: &str) -> Result<(&str, &str, &str), String> {
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| url.starts_with(scheme));
    let scheme = scheme.ok_or("url: write one that begins with http:// or https://")?;
    let end = url[scheme.len()..]
        .find(['/', '?', '#'])
        .map_or(url.len(), |at| at + scheme.len());
    let (origin, rest) = url.split_at(end);
    if origin.len() == scheme.len()
        || origin.contains(['$', '@'])
        || origin.chars().any(|c| c.is_whitespace() || c.is_control())
    {
        return Err(format!(
            "url: {origin:?} is not a host, nor may it have placeholders or a user name"
        ));
    }
    if rest.contains('#') || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("url: a fragment or white space".to_owned());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    Ok((origin, if path.is_empty() { "/" } else { path }, query))
}

/// A query as it is written: its names and values are encoded already, placeholders in them get encoded.
fn query_fields(query: &str, question: Question) -> Result<Vec<(Template, Template)>, String> {
    let field = |field: &str| {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        Ok((Template::parse(name, question)?, Template::parse(value, question)?))
    };
    query.split('&').filter(|part| !part.is_empty()).map(field).collect()
}

fn flat(body: Map<String, Value>, question: Question) -> Result<Vec<(Template, Template)>, String> {
    let field = |(name, value): (String, Value)| {
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => {
                return Err(format!(
                    "body.{name}: a form or query has texts only, write content-type application/json"
                ));
            }
        };
        // The text of the configuration is encoded here, once; placeholders are not.
        Ok((
            Template::parse(&encode_text(&name), question)?,
            Template::parse(&encode_text(&text), question)?,
        ))
    };
    body.into_iter().map(field).collect()
}

/// Encodes what is not a placeholder.
fn encode_text(text: &str) -> String {
    let encoded = |text: &str| String::from_utf8(percent_encode(text.as_bytes())).unwrap_or_default();
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, tail) = after.split_once('}').unwrap_or((after, ""));
        out += &format!("{}${{{name}}}", encoded(before));
        rest = tail;
    }
    out + &encoded(rest)
}

fn fields(fields: &[(Template, Template)], values: Values<'_>) -> Vec<u8> {
    let field = |(name, value): &(Template, Template)| {
        [
            name.render(values, percent_encode),
            value.render(values, percent_encode),
        ]
        .join(&b'=')
    };
    fields.iter().map(field).collect::<Vec<_>>().join(&b'&')
}

/// EMQX's defaults, the configured ones, and the content type.
fn headers(config: &EndpointConfig, question: Question) -> Result<(Vec<(String, Template)>, String), String> {
    let mut all: Vec<(String, String)> = [("accept", "application/json"), ("cache-control", "no-cache")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    if config.method == Method::Post {
        all.push(("content-type".to_owned(), "application/json".to_owned()));
    }
    for (name, value) in &config.headers {
        let name = name.to_lowercase();
        if NOT_YOURS.contains(&name.as_str()) {
            return Err(format!("headers.{name} is the broker's own, leave it out"));
        }
        if name == "content-type" && config.method == Method::Get {
            return Err("headers.content-type: a GET has no content, leave it out".to_owned());
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
            return Err(format!("headers: {name:?} is not the name of a header"));
        }
        if value.contains(char::is_control) {
            return Err(format!("headers.{name}: a control character"));
        }
        all.retain(|(known, _)| *known != name);
        all.push((name, value.clone()));
    }
    let content_type = all.iter().find(|(name, _)| name == "content-type");
    let content_type = content_type.map(|(_, value)| value.clone()).unwrap_or_default();
    let parse = |(name, value): (String, String)| Ok((name, Template::parse(&value, question)?));
    Ok((all.into_iter().map(parse).collect::<Result<_, String>>()?, content_type))
}

fn read(response: &Response) -> Result<Answer, NoAnswer> {
    match response.status() {
        204 => return Ok(Answer::NoContent),
        200 => {}
        other => return Err(NoAnswer::Status(other)),
    }
    let content_type = response.header("content-type").unwrap_or_default();
    if content_type.starts_with("application/json") {
        return match response.json() {
            Ok(members) => Ok(Answer::Said(members)),
            Err(error) => Err(NoAnswer::Unavailable(error.to_string())),
        };
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        return Ok(Answer::Said(form(&response.text())));
    }
    Err(NoAnswer::Unavailable(format!(
        "the answer has the content type {content_type:?}, not application/json"
    )))
}

fn form(text: &str) -> Map<String, Value> {
    let decoded = |text: &str| {
        let mut bytes = text.bytes();
        let mut out = Vec::new();
        while let Some(byte) = bytes.next() {
            out.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
                    let (high, low) = (digit().unwrap_or(0), digit().unwrap_or(0));
                    u8::try_from(high * 16 + low).unwrap_or(b'?')
                }
                other => other,
            });
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    text.split('&')
        .filter_map(|field| field.split_once('='))
        .map(|(name, value)| (decoded(name), Value::String(decoded(value))))
        .collect()
}
