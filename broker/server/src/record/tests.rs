use super::*;
use nervewire_core::hook::{Authentication, Client, Credentials};
use nervewire_plugin_host::{HostConfig, TappedAnswer, TappedQuestion};

fn recorder(data_dir: Option<PathBuf>) -> Recorder {
    let config = HostConfig {
        max_instances: 1,
        ..HostConfig::default()
    };
    Recorder::new(Host::new(config).unwrap(), data_dir)
}

fn request(file: &str) -> RecordRequest {
    RecordRequest {
        file: file.to_owned(),
        ..RecordRequest::default()
    }
}

fn client(id: &str) -> Client {
    Client::unknown(id.into(), None)
}

fn show(recorder: &Recorder, plugin: &str, id: &str) {
    let session = recorder.lock().as_ref().unwrap().session.clone();
    let credentials = Credentials {
        password: Some("secret-of-ann".into()),
        data: Some("secret-data".into()),
        ..Credentials::default()
    };
    let answer = Authentication::Challenge {
        data: "secret-challenge".into(),
        state: "secret-state".into(),
    };
    session.call(&TappedCall {
        plugin,
        generation: 3,
        digest: "d",
        question: TappedQuestion::Authenticate(&client(id), &credentials),
        answer: Ok(TappedAnswer::Authentication(&answer)),
        took_ns: 1,
        exchanges: &[],
        exchanges_over_bound: 3,
    });
}

#[test]
fn only_plain_names_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(Some(dir.path().to_owned()));
    for name in [
        "",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "a\\b",
        "a b",
        "ä",
        &"x".repeat(101),
    ] {
        assert!(recorder.start(request(name), &[]).is_err(), "{name}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    recorder.start(request("a-b_1.jsonl"), &[]).unwrap();
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(Some(dir.path().to_owned()));
    let check = |change: fn(&mut RecordRequest), part: &str| {
        let mut request = request("x");
        change(&mut request);
        let error = recorder.start(request, &["acl"]).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    check(|r| r.plugin = Some("alc".into()), "there are: acl");
    check(
        |r| r.hook = Some("rules".into()),
        "authenticate, authorize, transform, tick, detect",
    );
    check(|r| r.seconds = 0, "1 to 86400");
    check(|r| r.max_mib = 5_000, "1 to 4096");
    assert!(
        self::recorder(None)
            .start(request("x"), &[])
            .unwrap_err()
            .to_string()
            .contains("data_dir")
    );
}

#[test]
fn a_recording_has_what_was_asked_for_and_no_secret() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let recorder = recorder(Some(dir.path().to_owned()));
    let filtered = RecordRequest {
        plugin: Some("one".into()),
        client: Some("ann".into()),
        ..request("x")
    };
    recorder.start(filtered, &["one", "two"]).unwrap();
    assert!(recorder.start(request("y"), &[]).is_err(), "one at a time");
    show(&recorder, "one", "ann");
    show(&recorder, "two", "ann");
    show(&recorder, "one", "bob");
    let status = recorder.stop().unwrap();
    assert_eq!((status.active, status.records, status.dropped), (false, 1, 0));
    assert_eq!(recorder.http_over_bound(), 3);
    assert!(recorder.stop().is_err(), "it has ended");
    let path = dir.path().join("recordings/x");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(
        text.matches(crate::plugin_tools::recording::REDACTED).count(),
        4,
        "{text}"
    );
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["nervewire_recording"], crate::plugin_tools::recording::VERSION);
    assert_eq!(
        (&lines[1]["plugin"], &lines[1]["generation"]),
        (&"one".into(), &3.into())
    );
    assert_eq!(lines[2]["end"]["reason"], "stopped");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(recorder.start(request("x"), &[]).is_err(), "no file is written over");
}

#[test]
fn a_full_queue_drops_calls_and_counts_them() {
    let (queue, waiting) = sync_channel(1);
    let session = Session {
        filter: Filter {
            plugin: None,
            client: None,
            hook: None,
            payloads: true,
        },
        path: PathBuf::from("x"),
        ends: Instant::now(),
        max_bytes: 1,
        queue,
        queued_bytes: AtomicUsize::new(0),
        records: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        dropped: AtomicU64::new(0),
        dropped_in_all: Arc::default(),
        http_over_bound: Arc::default(),
        ended: Mutex::default(),
    };
    let (client, answer) = (client("c"), Authentication::Abstain);
    let credentials = Credentials::default();
    let call = TappedCall {
        plugin: "p",
        generation: 1,
        digest: "d",
        question: TappedQuestion::Authenticate(&client, &credentials),
        answer: Ok(TappedAnswer::Authentication(&answer)),
        took_ns: 1,
        exchanges: &[],
        exchanges_over_bound: 0,
    };
    session.call(&call);
    session.call(&call);
    session.queued_bytes.store(MAX_QUEUED_BYTES, Ordering::Relaxed);
    assert!(waiting.try_recv().is_ok());
    session.call(&call);
    assert_eq!(session.status().dropped, 2);
    assert_eq!(session.dropped_in_all.load(Ordering::Relaxed), 2);
}
