//! The listener: stopping, replacing, bounds.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::Semaphore;

use super::super::api::{self, AdminCounters, Api};
use super::super::guard::Token;
use super::super::server::{MAX_ADMIN_CONNECTIONS, ServeError, serve};
use super::{Fixture, JSON, read_answer};

#[test]
fn one_reload_runs_at_a_time_and_outlives_who_asked_and_the_server() {
    let mut f = Fixture::new(None);
    f.backend.reload_waits.store(true, Ordering::SeqCst);
    let request =
        format!("POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{JSON}Content-Length: 0\r\n\r\n");
    let mut first = TcpStream::connect(f.address).unwrap();
    first.write_all(request.as_bytes()).unwrap();
    f.runtime.block_on(f.backend.reload_began.notified());
    assert_eq!(f.send(&request).0, 409);
    f.stop();
    f.backend.let_reload_end.notify_one();
    assert_eq!(read_answer(&mut first).0, 200);
    f.runtime.block_on(f.backend.reload_ended.notified());
}

#[test]
fn a_reload_whose_caller_left_still_keeps_others_out() {
    let f = Fixture::new(None);
    let router = TowerToHyperService::new(api::router(Api {
        backend: f.backend.clone(),
        counters: Arc::default(),
        bound: f.address,
        token: Arc::default(),
        reloading: Arc::new(Semaphore::new(1)),
    }));
    let reload = || {
        let request = Request::post("/v1/reload")
            .header("host", "localhost")
            .header("content-type", "application/json");
        router.call(request.body(Body::empty()).unwrap())
    };
    f.backend.reload_waits.store(true, Ordering::SeqCst);
    f.runtime.block_on(async {
        tokio::select! {
            _ = reload() => panic!("it waits to be let end"),
            () = f.backend.reload_began.notified() => {} // Drops the asking side.
        }
        assert_eq!(reload().await.unwrap().status(), 409);
        f.backend.let_reload_end.notify_one();
        f.backend.reload_ended.notified().await;
    });
}

#[test]
fn a_stopped_server_frees_its_address_and_lets_idle_connections_go() {
    let mut f = Fixture::new(None);
    let mut idle = TcpStream::connect(f.address).unwrap();
    // A guard against hanging, shorter than the server's own limit for idle connections.
    idle.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut answer = vec![0; 12];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    f.stop();
    idle.read_to_end(&mut answer).unwrap();
    let again = TcpListener::bind(f.address).unwrap();
    f.server = Some(
        serve(
            f.runtime.handle(),
            again,
            Token::new("t"),
            f.backend.clone(),
            Arc::default(),
        )
        .unwrap(),
    );
    assert_eq!(f.get("/v1/status", "").0, 401);
}

#[test]
fn the_token_can_change_while_connections_are_open() {
    let f = Fixture::new(Some("old"));
    let server = f.server.as_ref().unwrap();
    server.set_token(Token::new("new")).unwrap();
    assert_eq!(f.get("/v1/status", "Authorization: Bearer old\r\n").0, 401);
    assert_eq!(f.get("/v1/status", "Authorization: Bearer new\r\n").0, 200);
    server.set_token(None).unwrap();
    assert_eq!(f.get("/v1/status", "").0, 200);
}

#[test]
fn a_listener_that_others_reach_needs_a_token() {
    let f = Fixture::new(None);
    let open = |token| {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        serve(f.runtime.handle(), listener, token, f.backend.clone(), Arc::default())
    };
    assert!(matches!(open(None), Err(ServeError::TokenRequired(_))));
    let guarded = open(Token::new("t")).unwrap();
    assert!(matches!(guarded.set_token(None), Err(ServeError::TokenRequired(_))));
    let mut stream = TcpStream::connect(("127.0.0.1", guarded.address().port())).unwrap();
    let request = "GET /v1/status HTTP/1.1\r\nHost: broker.example\r\nConnection: close\r\n";
    stream
        .write_all(format!("{request}Authorization: Bearer t\r\n\r\n").as_bytes())
        .unwrap();
    assert_eq!(read_answer(&mut stream).0, 200);
}

#[test]
fn one_connection_too_many_is_closed_and_counted() {
    let f = Fixture::new(None);
    let hold = || TcpStream::connect(f.address).unwrap();
    let mut held: Vec<_> = (0..MAX_ADMIN_CONNECTIONS).map(|_| hold()).collect();
    let mut rest = Vec::new();
    let refused = hold().read_to_end(&mut rest);
    assert!(rest.is_empty() && refused.is_ok(), "{refused:?}");
    held[0]
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let (_, metrics) = read_answer(&mut held[0]);
    assert!(
        metrics.contains("nervewire_bounds_hit_total{bound=\"admin_connections\"} 1\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("nervewire_bounds_hit_total{bound=\"queue_messages\"} 4\n"),
        "{metrics}"
    );
    assert!(
        metrics.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"),
        "{metrics}"
    );
}

#[test]
fn counters_outlive_a_server() {
    let counters = Arc::new(AdminCounters::default());
    counters.connections.fetch_add(3, Ordering::Relaxed);
    let f = Fixture::new(None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve(f.runtime.handle(), listener, None, f.backend.clone(), counters).unwrap();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(read_answer(&mut stream).1.contains("{bound=\"admin_connections\"} 3\n"));
}
