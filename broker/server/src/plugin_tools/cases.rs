//! CASES.toml: what a plugin is asked, and what it should answer.

use super::expect::Expectation;
use super::nouns::{ClientText, CredentialsText, MessageText, RequestText};
use super::script::Exchange;
use crate::config::{ConfigError, position};
use crate::window_text::WindowText;
use nervewire_core::hook::{AppMessage, Client, Credentials, Request, Window};
use nervewire_plugin_host::{Grant, Hook, Limits, PluginSpec};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::Spanned;

/// Where the virtual clock starts where nothing is said: a day on which every certificate of a test is valid.
const NOW_MS: u64 = 1_700_000_000_000;

/// A file of cases, checked.
#[derive(Debug)]
pub(crate) struct Cases {
    /// How the plugin is set up.
    pub setup: Setup,
    /// In the order in which they run.
    pub cases: Vec<Case>,
}

/// How the plugin under test is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub config_json: String,
    pub files: Vec<(String, Vec<u8>)>,
    pub grants: Vec<Grant>,
    pub now_ms: u64,
    /// Requests that `init` makes.
    pub http: Vec<Exchange>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            config_json: "{}".to_owned(),
            files: Vec::new(),
            grants: Vec::new(),
            now_ms: NOW_MS,
            http: Vec::new(),
        }
    }
}

impl Setup {
    /// How a component is loaded with it. `limits` are those of calls; deadlines are long, because a slow machine fails no test.
    pub(crate) fn spec(&self, name: &str, component: Arc<[u8]>, limits: Limits) -> PluginSpec {
        const CALL_MS: u32 = 10_000;
        PluginSpec {
            name: name.to_owned(),
            component,
            hooks: None,
            grants: self.grants.clone(),
            limits: Limits {
                call_ms: CALL_MS,
                authenticate_call_ms: CALL_MS,
                http_call_ms: CALL_MS,
                tick_call_ms: CALL_MS,
                detect_call_ms: CALL_MS,
                ..limits
            },
            files: self.files.clone(),
            config_json: self.config_json.clone(),
        }
    }
}

/// One question and its answer.
#[derive(Debug)]
pub(crate) struct Case {
    pub name: String,
    /// Line in the file.
    pub line: usize,
    pub advance_ms: u64,
    pub client: Client,
    pub question: Question,
    /// Requests it makes meanwhile, and what is answered.
    pub http: Vec<Exchange>,
    pub expect: Expectation,
}

/// What the plugin is asked.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Authenticate(Credentials),
    Authorize(Request),
    Transform(AppMessage),
    /// At the time of its case.
    Tick,
    Detect(Vec<WindowText>),
}

impl Question {
    pub(crate) fn hook(&self) -> HookName {
        match self {
            Question::Authenticate(_) => HookName::Authenticate,
            Question::Authorize(_) => HookName::Authorize,
            Question::Transform(_) => HookName::Transform,
            Question::Tick => HookName::Tick,
            Question::Detect(_) => HookName::Detect,
        }
    }
}

/// The windows of a case: one that does not say when it began has ended now.
pub(crate) fn windows(written: &[WindowText], now_ms: u64) -> Vec<Window> {
    written.iter().map(|window| window.window(now_ms)).collect()
}

/// `hook = "..."`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HookName {
    Authenticate,
    Authorize,
    Transform,
    Tick,
    Detect,
}

impl HookName {
    pub(crate) fn name(self) -> &'static str {
        match self {
            HookName::Authenticate => "authenticate",
            HookName::Authorize => "authorize",
            HookName::Transform => "transform",
            HookName::Tick => "tick",
            HookName::Detect => "detect",
        }
    }

    /// The hook that a component must export for it; none: the lifecycle every plugin has.
    pub(crate) fn exported(self) -> Option<Hook> {
        match self {
            HookName::Authenticate => Some(Hook::Authenticate),
            HookName::Authorize => Some(Hook::Authorize),
            HookName::Transform => Some(Hook::Transform),
            HookName::Detect => Some(Hook::Detect),
            HookName::Tick => None,
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileText {
    #[serde(default)]
    config: toml::Table,
    #[serde(default)]
    files: BTreeMap<String, Spanned<FileSource>>,
    #[serde(default)]
    grants: Vec<Spanned<String>>,
    now_ms: Option<u64>,
    #[serde(default)]
    http: Vec<Spanned<Exchange>>,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<CaseText>>,
}

/// A file handed to the plugin: a path relative to CASES.toml, or its contents.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "write files = { NAME = \"PATH\" } or files = { NAME = { text = \"...\" } }"
)]
enum FileSource {
    Path(String),
    Text { text: String },
}

/// A case as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseText {
    name: String,
    hook: HookName,
    #[serde(default)]
    advance_ms: u64,
    #[serde(default)]
    client: ClientText,
    credentials: Option<Spanned<CredentialsText>>,
    request: Option<Spanned<RequestText>>,
    message: Option<Spanned<MessageText>>,
    windows: Option<Spanned<Vec<WindowText>>>,
    #[serde(default)]
    http: Vec<Spanned<Exchange>>,
    expect: Spanned<toml::Value>,
}

/// The client of a case that says nothing about it.
pub(crate) fn default_client() -> Client {
    ClientText::default().client()
}

/// Something wrong, and where.
type Wrong = (Range<usize>, String);

/// Reads a file of cases.
///
/// # Errors
/// The first thing that is wrong: its line, and what to write instead.
pub(crate) fn read(path: &Path) -> Result<Cases, ConfigError> {
    let file = path.display().to_string();
    let unreadable = |error: std::io::Error| ConfigError {
        file: file.clone(),
        position: None,
        message: format!("cannot be read: {error}"),
    };
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(|(span, message)| ConfigError {
        file,
        position: Some(position(&text, span.start)),
        message,
    })
}

fn parse(text: &str, base_dir: &Path) -> Result<Cases, Wrong> {
    let file: FileText =
        toml::from_str(text).map_err(|error| (error.span().unwrap_or_default(), error.message().to_owned()))?;
    if file.cases.is_empty() {
        let advice = "there is no case; write [[case]] with name, hook, and expect";
        return Err((0..0, advice.to_owned()));
    }
    let setup = Setup {
        config_json: json(&toml::Value::Table(file.config))
            .map_err(|wrong| (0..0, format!("config: {wrong}")))?
            .to_string(),
        files: file
            .files
            .into_iter()
            .map(|(name, source)| read_source(name, &source, base_dir))
            .collect::<Result<_, _>>()?,
        grants: file.grants.iter().map(grant).collect::<Result<_, _>>()?,
        now_ms: file.now_ms.unwrap_or(NOW_MS),
        http: exchanges(file.http)?,
    };
    let cases = file.cases.into_iter().map(|case| self::case(text, case));
    Ok(Cases {
        setup,
        cases: cases.collect::<Result<_, _>>()?,
    })
}

fn read_source(name: String, source: &Spanned<FileSource>, base_dir: &Path) -> Result<(String, Vec<u8>), Wrong> {
    let contents = match source.get_ref() {
        FileSource::Text { text } => text.clone().into_bytes(),
        FileSource::Path(path) => {
            let path = base_dir.join(path);
            std::fs::read(&path)
                .map_err(|error| (source.span(), format!("{} cannot be read: {error}", path.display())))?
        }
    };
    Ok((name, contents))
}

fn grant(text: &Spanned<String>) -> Result<Grant, Wrong> {
    text.get_ref()
        .parse()
        .map_err(|error| (text.span(), format!("{error}")))
}

fn exchanges(written: Vec<Spanned<Exchange>>) -> Result<Vec<Exchange>, Wrong> {
    let checked = written.into_iter().map(|exchange| {
        exchange
            .get_ref()
            .check()
            .map_err(|wrong| (exchange.span(), format!("http: {wrong}")))?;
        Ok(exchange.into_inner())
    });
    checked.collect()
}

fn case(file: &str, text: Spanned<CaseText>) -> Result<Case, Wrong> {
    let span = text.span();
    let text = text.into_inner();
    let at = |span: &Range<usize>, message: String| (span.clone(), format!("case {:?}: {message}", text.name));
    let mut client = text.client.clone();
    let given = [
        ("credentials", text.credentials.is_some(), HookName::Authenticate),
        ("request", text.request.is_some(), HookName::Authorize),
        ("message", text.message.is_some(), HookName::Transform),
        ("windows", text.windows.is_some(), HookName::Detect),
    ];
    if let Some((key, ..)) = given.iter().find(|(_, given, hook)| *given && *hook != text.hook) {
        let why = format!("{key} is nothing that {} is asked; remove it", text.hook.name());
        return Err(at(&span, why));
    }
    let question = match text.hook {
        HookName::Authenticate => {
            let credentials = text.credentials.as_ref().map_or_else(
                || Ok(Credentials::default()),
                |credentials| {
                    let wrong = |message| at(&credentials.span(), message);
                    credentials.get_ref().credentials().map_err(wrong)
                },
            )?;
            // Before authentication a client has the user name it claims.
            client.username = client
                .username
                .or_else(|| credentials.username.as_ref().map(ToString::to_string));
            Question::Authenticate(credentials)
        }
        HookName::Authorize => {
            let advice = "write request = { action = \"publish\", topic = \"a/b\" }";
            let request = text.request.as_ref().ok_or_else(|| at(&span, advice.to_owned()))?;
            let wrong = |message| at(&request.span(), message);
            Question::Authorize(request.get_ref().request().map_err(wrong)?)
        }
        HookName::Transform => {
            let advice = "write message = { topic = \"a/b\", payload = \"text\" }";
            let message = text.message.as_ref().ok_or_else(|| at(&span, advice.to_owned()))?;
            let wrong = |wrong| at(&message.span(), wrong);
            Question::Transform(message.get_ref().message().map_err(wrong)?)
        }
        HookName::Tick => Question::Tick,
        HookName::Detect => {
            let advice = "write windows = [{ client_id = \"c1\", messages_in = 100 }]";
            let windows = text.windows.as_ref().ok_or_else(|| at(&span, advice.to_owned()))?;
            Question::Detect(windows.get_ref().clone())
        }
    };
    let expect = json(text.expect.get_ref())
        .and_then(|expect| Expectation::parse(text.hook, expect))
        .map_err(|wrong| at(&text.expect.span(), wrong))?;
    Ok(Case {
        line: position(file, span.start).line,
        advance_ms: text.advance_ms,
        client: client.client(),
        question,
        http: exchanges(text.http)?,
        expect,
        name: text.name,
    })
}

/// As the broker hands a `config` table to a plugin: dates as text.
pub(crate) fn json(value: &toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => text.as_str().into(),
        toml::Value::Integer(number) => (*number).into(),
        toml::Value::Float(number) => serde_json::Number::from_f64(*number)
            .ok_or_else(|| format!("{number} is no number that a plugin can be handed"))?
            .into(),
        toml::Value::Boolean(is) => (*is).into(),
        toml::Value::Datetime(date) => date.to_string().into(),
        toml::Value::Array(list) => list.iter().map(json).collect::<Result<_, _>>()?,
        toml::Value::Table(table) => table
            .iter()
            .map(|(name, value)| Ok((name.clone(), json(value)?)))
            .collect::<Result<serde_json::Map<_, _>, String>>()?
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Cases, Wrong> {
        parse(text, Path::new("."))
    }

    #[test]
    fn a_file_of_cases_is_understood() {
        let cases = parsed(
            "config = { min = 8, when = 2020-01-02 }\nfiles = { users = { text = \"ann\" } }\ngrants = [\"kv\"]\n\
             [[case]]\nname = \"one\"\nhook = \"authenticate\"\ncredentials = { username = \"ann\" }\nexpect = \"deny\"\n\
             [[case]]\nname = \"two\"\nhook = \"authorize\"\nadvance_ms = 5\n\
             request = { action = \"subscribe\", topic = \"a/#\", qos = 1 }\nexpect = \"allow\"\n",
        )
        .unwrap();
        assert_eq!(cases.setup.config_json, "{\"min\":8,\"when\":\"2020-01-02\"}");
        assert_eq!(cases.setup.files, [("users".to_owned(), b"ann".to_vec())]);
        assert_eq!(cases.setup.grants, [Grant::Kv]);
        assert_eq!(cases.setup.now_ms, NOW_MS);
        let [one, two] = &cases.cases[..] else {
            panic!("{cases:?}")
        };
        assert_eq!((one.line, one.client.username.as_deref()), (4, Some("ann")));
        assert_eq!((two.line, two.advance_ms), (9, 5));
    }

    #[track_caller]
    fn check_refused(text: &str, line: usize, part: &str) {
        let (span, message) = parsed(text).map(|_| ()).unwrap_err();
        assert!(message.contains(part), "{message}");
        assert_eq!(position(text, span.start).line, line, "{message}");
    }

    #[test]
    fn what_is_wrong_is_refused_where_it_is_wrong() {
        let case = "[[case]]\nname = \"x\"\n";
        check_refused("", 1, "[[case]]");
        check_refused("[[case]\n", 1, "");
        check_refused("confg = {}\n", 1, "`config`");
        check_refused(
            "grants = [\"everything\"]\n[[case]]\nname = \"x\"\nhook = \"transform\"\nexpect = \"pass\"",
            1,
            "kv",
        );
        check_refused(
            &format!("{case}hook = \"authorise\"\nexpect = \"allow\"\n"),
            3,
            "`authorize`",
        );
        check_refused(
            &format!("{case}hook = \"authorize\"\nexpect = \"allow\"\n"),
            1,
            "request = {",
        );
        check_refused(&format!("{case}hook = \"authorize\"\n"), 1, "expect");
        check_refused(
            &format!("{case}hook = \"transform\"\nmessage = {{ topic = \"a\" }}\nexpect = \"allow\"\n"),
            5,
            "\"pass\"",
        );
        check_refused(
            &format!("{case}hook = \"transform\"\nmessage = {{ topic = \"a/+\" }}\nexpect = \"pass\"\n"),
            4,
            "topic",
        );
        check_refused(
            &format!(
                "{case}hook = \"transform\"\nmessage = {{ topic = \"a\" }}\nrequest = {{ action = \"publish\", topic = \"a\" }}\nexpect = \"pass\"\n"
            ),
            1,
            "request is nothing that transform is asked",
        );
        check_refused(&format!("{case}hook = \"detect\"\nexpect = []\n"), 1, "windows = [");
        check_refused(
            &format!("{case}hook = \"tick\"\nwindows = []\nexpect = \"none\"\n"),
            1,
            "windows is nothing that tick is asked",
        );
        check_refused(
            &format!("{case}hook = \"detect\"\nwindows = [{{ client_id = \"c\", messages = 1 }}]\nexpect = []\n"),
            4,
            "`messages_in`",
        );
        check_refused(
            &format!("files = {{ a = \"no/such/file\" }}\n{case}hook = \"authenticate\"\nexpect = \"deny\""),
            1,
            "cannot be read",
        );
        check_refused(
            &format!("files = {{ a = 1 }}\n{case}hook = \"authenticate\"\nexpect = \"deny\""),
            1,
            "PATH",
        );
    }
}
