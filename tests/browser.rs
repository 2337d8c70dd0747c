//! A page in a browser, with MQTT.js over secure WebSocket, and a device over TLS, which exchange messages. Needs chromium, and what
//! `tests/clients/setup.sh` installs.

mod support;

use base64::Engine as _;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use support::*;

/// How long a browser may take to start on a busy machine.
const BROWSER: Duration = Duration::from_secs(60);

/// A program that is killed when nobody needs it any more, and what it printed on standard error.
struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, to) = (
            BufReader::new(child.stderr.take().expect("piped")).lines(),
            said.clone(),
        );
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = to.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- it said\n{}----", self.said());
        }
        let _ = self.child.kill(); // It may have ended by itself.
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    socket.local_addr().expect("an address").port()
}

/// tests/clients over HTTP; it listens when this returns.
fn web_server(port: u16) -> Running {
    let mut command = Command::new("python3");
    let directory = repository().join("tests/clients");
    command
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(directory)
        .arg(port.to_string());
    let server = Running::start(&mut command);
    wait_for("the web server", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    server
}

/// Chromium with this page, trusting the key of this certificate and no other that it would not trust anyway.
fn browser(page: &str, certificate: &str, profile: &std::path::Path) -> Running {
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).expect("a certificate");
    let key = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(parsed.public_key().raw));
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--enable-logging=stderr",
        ])
        .arg("--remote-debugging-port=0") // It ends by itself otherwise.
        .arg(format!("--ignore-certificate-errors-spki-list={key}"))
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(page);
    Running::start(&mut command)
}

#[test]
#[ignore = "needs other programs: tests/clients/setup.sh"]
fn a_page_and_a_device_exchange_messages() {
    let (web_port, page_port) = (free_port(), free_port());
    let certificates = Certificates::new();
    // Loopback anonymity is for this one origin.
    let wss = format!(
        "[[listener]]\nbind = \"127.0.0.1:{page_port}\"\ntransport = \"ws\"\ntls = {{ cert = \"server.pem\", key = \"server.key\" }}\n\
         allowed_origins = [\"http://127.0.0.1:{web_port}\"]\n"
    );
    let broker = certificates.setup("none").shards(2).toml(&wss).start();
    let certificate = std::fs::read_to_string(broker.path("server.pem")).expect("read the certificate");
    let authority = broker.path("ca.pem").display().to_string();
    let _server = web_server(web_port);
    let profile = tempfile::tempdir().expect("a directory");
    let page = |host: &str| format!("http://{host}:{web_port}/page.html?wss%3A%2F%2Flocalhost%3A{page_port}%2Fmqtt");

    let tls = ["--cafile", &authority];
    let receive = [&["-t", "to/device", "-q", "2", "-C", "4", "-F", "%q %p"][..], &tls].concat();
    let device = Subscriber::start(&broker, "mqttv5", &receive);
    let _browser = browser(&page("127.0.0.1"), &certificate, &profile.path().join("allowed"));
    wait_within(BROWSER, "the page to connect", || {
        (get(&broker, "/v1/clients/page").status == 200).then_some(())
    });
    wait_for("the page to subscribe", || {
        (metric(&broker, "nervewire_subscriptions", &[]) == 2.0).then_some(())
    });
    for (qos, payload) in [("0", "a"), ("1", "b"), ("2", &*"c".repeat(100_000))] {
        let topic = format!("to/page/{qos}");
        mosquitto_pub(
            &broker,
            "mqttv5",
            &[&["-t", &topic, "-q", qos, "-m", payload][..], &tls].concat(),
        );
    }
    let mut lines = device.lines();
    // The first two may cross each other.
    lines.sort();
    assert_eq!(
        lines,
        [
            "1 a browser is there",
            "2 to/page/0 at 0: 1 of a",
            "2 to/page/1 at 1: 1 of b",
            "2 to/page/2 at 2: 100000 of c"
        ]
    );

    // The same page under another name is a page of another origin.
    let before = metric(&broker, "nervewire_connects_total", &[("outcome", "upgrade")]);
    let _stranger = browser(&page("localhost"), &certificate, &profile.path().join("other"));
    wait_within(BROWSER, "the other page to be refused", || {
        let refused = metric(&broker, "nervewire_connects_total", &[("outcome", "upgrade")]);
        (refused > before).then_some(())
    });
    broker.logs("status=403");
}
