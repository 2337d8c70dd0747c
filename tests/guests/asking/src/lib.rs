//! Asks a backend in every hook: what it answers is what is decided. `/authenticate`, `/authorize` and `/transform` under `url`.

use nervewire_plugin_sdk::{export, grants, prelude::*};
use wasip2::http::types::Fields;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    url: String,
    #[serde(default)]
    timeout_ms: Option<u64>,
    #[serde(default)]
    max_redirects: u32,
    /// Asked by `init`, which refuses what is not a success.
    #[serde(default)]
    init_path: Option<String>,
    /// How often `/tick` is asked. What it answers is published to `asked/tick`.
    #[serde(default)]
    tick_ms: Option<u32>,
}

struct Asking {
    config: Config,
}

impl Asking {
    fn ask(&self, path: &str, fields: &[(&str, &str)]) -> Result<http::Response, http::Error> {
        let mut request = http::post(&format!("{}{path}", self.config.url))
            .header("x-asked-by", "asking")
            .form(fields)
            .max_redirects(self.config.max_redirects)
            .max_body_bytes(64 * 1024);
        if let Some(ms) = self.config.timeout_ms {
            request = request.timeout(std::time::Duration::from_millis(ms));
        }
        let answer = request.send();
        if let Err(error) = &answer {
            log::warn!("{path}: {error}");
            counters::add(name(error), 1);
        }
        answer
    }
}

impl Asking {
    fn exchange(&self, credentials: &Credentials) -> Authentication {
        let data = credentials.data.as_deref().unwrap_or_default();
        match self.ask("/exchange", &[("data", &String::from_utf8_lossy(data))]) {
            Ok(answer) if answer.status() == 200 => Authentication::allow(),
            Ok(answer) if answer.status() == 401 => Authentication::Challenge {
                data: answer.body().to_vec(),
                state: Vec::new(),
            },
            _ => Authentication::Deny(Refusal::NotAuthorized),
        }
    }
}

fn name(error: &http::Error) -> &'static str {
    match error {
        http::Error::BadUrl => "bad_url",
        http::Error::NotGranted => "not_granted",
        http::Error::Timeout => "timeout",
        http::Error::Connect(_) => "connect",
        http::Error::TooLarge => "too_large",
        http::Error::TooManyRedirects => "too_many_redirects",
        http::Error::Protocol(_) => "protocol",
        http::Error::Json(_) => "json",
    }
}

impl Plugin for Asking {
    type Config = Config;

    fn init(config: Config, _: Files) -> Result<Self, String> {
        let asking = Self { config };
        if let Some(path) = &asking.config.init_path {
            let answer = asking.ask(path, &[]).map_err(|error| error.to_string())?;
            if !answer.is_success() {
                return Err(format!("{path} answers {}", answer.status()));
            }
        }
        Ok(asking)
    }

    fn tick_milliseconds(&self) -> Option<u32> {
        self.config.tick_ms
    }

    fn tick(&mut self, _: u64) -> Vec<Message> {
        match self.ask("/tick", &[]) {
            Ok(answer) if answer.status() == 200 => vec![Message::new("asked/tick", answer.body().to_vec())],
            _ => Vec::new(),
        }
    }
}

impl Authenticate for Asking {
    /// `loop`, `trap` and those who hoard show what the host does about it; 200 allows, 204 abstains, anything else denies. Who comes with a method
    /// is challenged by 401.
    fn authenticate(&mut self, client: &Client, credentials: &Credentials) -> Authentication {
        match credentials.username.as_deref() {
            Some("loop") => loop {
                std::hint::spin_loop();
            },
            Some("trap") => panic!("told to"),
            Some("hoard") => loop {
                std::mem::forget(Fields::new());
            },
            Some("headers") => {
                let fields = Fields::new();
                while fields.append("x-hoard", &[b'v'; 100]).is_ok() {}
                panic!("it was told that there is no more room");
            }
            Some("many headers") => {
                let entries = vec![("x".to_owned(), Vec::new()); 40_000];
                panic!("{}", Fields::from_list(&entries).is_ok());
            }
            _ => {}
        }
        if credentials.method.is_some() {
            return self.exchange(credentials);
        }
        let username = credentials.username.as_deref().unwrap_or_default();
        let answer = self.ask(
            "/authenticate",
            &[("username", username), ("client_id", &client.client_id)],
        );
        match answer {
            Ok(answer) if answer.status() == 200 => Authentication::allow(),
            Ok(answer) if answer.status() == 204 => Authentication::Abstain,
            Ok(_) => Authentication::Deny(Refusal::BadUserNameOrPassword),
            Err(http::Error::Connect(_)) => panic!("there is no backend"),
            Err(_) => Authentication::Deny(Refusal::ServerUnavailable),
        }
    }
}

impl Authorize for Asking {
    /// Wants to be asked, except about what it delivers.
    fn rules(&mut self, client: &Client) -> Option<Vec<Rule>> {
        match self.ask("/rules", &[("client_id", &client.client_id)]) {
            Ok(answer) if answer.status() == 200 => Some(vec![
                Rule::allow().deliver().topic("#"),
                Rule::ask().publish().subscribe().topic("#"),
            ]),
            _ => None,
        }
    }

    fn authorize(&mut self, client: &Client, request: &Request) -> Verdict {
        match self.ask(
            "/authorize",
            &[("client_id", &client.client_id), ("topic", &request.topic)],
        ) {
            Ok(answer) if answer.status() == 200 => Verdict::allow(),
            _ => Verdict::deny(),
        }
    }
}

impl Transform for Asking {
    /// The answer's body becomes the payload; 204 drops the message.
    fn transform(&mut self, _: &Client, mut message: Message) -> Transformation {
        match self.ask("/transform", &[("topic", &message.topic)]) {
            Ok(answer) if answer.status() == 200 => {
                message.payload = answer.body().to_vec();
                Transformation::Replace(message)
            }
            Ok(answer) if answer.status() == 204 => Transformation::Drop,
            Ok(_) => Transformation::Reject(Rejection::NotAuthorized),
            Err(_) => Transformation::Reject(Rejection::UnspecifiedError),
        }
    }
}

grants!(optional "http");
export!(Asking: authenticate, authorize, transform);
