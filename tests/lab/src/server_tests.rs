//! The server as a raw client sees it: every mode byte for byte, and nothing
//! left behind afterwards.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::probe::{answer, connect, dial, drain, eventually, fetch, get, is_silent};
use crate::{Answer, FaultServer, Mode};

fn served(mode: Mode) -> (FaultServer, TcpStream) {
    let server = FaultServer::named("beta", "beta-0").unwrap();
    server.set(mode);
    let mut stream = connect(&server);
    get(&mut stream, "/a?b=c");
    (server, stream)
}

#[test]
fn ok_names_itself_and_keeps_the_connection() {
    let (server, mut stream) = served(Mode::Ok);
    let body = r#"{"cluster":"beta","instance":"beta-0","method":"GET","path":"/a?b=c"}"#;
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Origin-Cluster: beta\r\n\
         X-Origin-Instance: beta-0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    for _ in 0..3 {
        let (got, bytes) = answer(&mut stream);
        assert_eq!((got, bytes.as_slice()), (head.clone(), body.as_bytes()));
        get(&mut stream, "/a?b=c");
    }
    answer(&mut stream);
    let stats = server.stats();
    assert_eq!((stats.connections_accepted, stats.connections_open), (1, 1));
    assert_eq!((stats.requests, stats.path("/a")), (4, 4));
    let seen = server.requests();
    assert_eq!((seen.len(), seen[0].path.as_str()), (4, "/a?b=c"));
    server.reset_counts();
    assert_eq!(server.stats().requests, 0);
    assert_eq!(server.stats().connections_open, 1);
}

#[test]
fn echo_returns_what_was_sent_chunked_after_100_continue() {
    let server = FaultServer::start().unwrap();
    server.set(Mode::Echo);
    let mut stream = connect(&server);
    stream
        .write_all(b"PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let (head, _) = answer(&mut stream);
    assert_eq!(head, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"5\r\nhello\r\n0\r\n\r\n").unwrap();
    let (_, body) = answer(&mut stream);
    let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&value["method"], &value["path"]), (&"PUT".into(), &"/x".into()));
    assert_eq!(value["body"], "hello");
    assert_eq!(value["headers"][1][0], "Transfer-Encoding");
    assert_eq!(server.requests()[0].body_len, 5);
}

#[test]
fn status_and_redirect_are_written_as_given() {
    let (server, mut stream) = served(Mode::Status {
        code: 429,
        headers: vec![("Retry-After".into(), "2".into())],
        body: "slow down".into(),
    });
    assert_eq!(
        answer(&mut stream),
        (
            "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nContent-Length: 9\r\n\r\n".into(),
            b"slow down".to_vec()
        )
    );
    server.set(Mode::Redirect { to: "http://x/y".into(), code: 307 });
    get(&mut stream, "/");
    assert_eq!(
        answer(&mut stream).0,
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://x/y\r\nContent-Length: 0\r\n\r\n"
    );
}

#[test]
fn refuse_refuses_kills_and_recovers_on_the_same_port() {
    let (server, mut stream) = served(Mode::Ok);
    answer(&mut stream);
    for _ in 0..10 {
        server.set(Mode::Refuse);
        let refused = dial(server.addr()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(server.mode(), Mode::Refuse);
        let (rest, ended) = drain(&mut stream);
        assert_eq!((rest.len(), ended), (0, Some(ErrorKind::ConnectionReset)));
        server.set(Mode::Ok);
        stream = connect(&server);
        get(&mut stream, "/again");
        answer(&mut stream);
    }
}

#[test]
fn hangs_hang_and_end_with_the_server_or_the_client() {
    for mode in [Mode::HangBeforeHead, Mode::HangOnAccept] {
        let (server, mut stream) = served(mode.clone());
        assert!(is_silent(&mut stream), "{mode:?}");
        // What is never read is never a request.
        let read = u64::from(mode == Mode::HangBeforeHead);
        assert_eq!(server.stats().requests, read);
        drop(server);
        drain(&mut stream);
    }
    let (server, mut stream) = served(Mode::HangAfterHead);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
                Content-Length: 1024\r\n\r\n";
    let mut got = vec![0; head.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, head.as_bytes());
    assert!(is_silent(&mut stream));
    drop(stream);
    eventually("the hung thread ends with its client", || server.stats().connections_open == 0);
}

#[test]
fn leaving_hang_on_accept_frees_what_it_held() {
    let (server, mut stream) = served(Mode::HangOnAccept);
    assert!(is_silent(&mut stream));
    server.set(Mode::Ok);
    drain(&mut stream);
    eventually("held connections end", || server.stats().connections_open == 0);
    assert_eq!(fetch(server.addr(), "/", "").0, 200);
}

#[test]
fn a_change_reaches_a_kept_connection_with_its_next_request() {
    let (server, mut stream) = served(Mode::Ok);
    answer(&mut stream);
    server.set(Mode::status(503));
    get(&mut stream, "/");
    assert!(answer(&mut stream).0.starts_with("HTTP/1.1 503 "));
    server.set(Mode::HangOnAccept);
    get(&mut stream, "/");
    assert!(is_silent(&mut stream));
}

#[test]
fn resets_are_resets_and_closes_are_closes() {
    let partial = |after: usize| {
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
            after + 1024
        )
        .into_bytes();
        bytes.resize(bytes.len() + after, b'x');
        bytes
    };
    let reset = Some(ErrorKind::ConnectionReset);
    let (_server, mut stream) = served(Mode::ResetBeforeHead);
    assert_eq!(drain(&mut stream), (Vec::new(), reset));
    let (_server, mut stream) = served(Mode::ResetMidBody { after: 100 });
    assert_eq!(drain(&mut stream), (partial(100), reset));
    let (_server, mut stream) = served(Mode::CloseMidBody { after: 40_000 });
    assert_eq!(drain(&mut stream), (partial(40_000), None));
}

#[test]
fn entering_a_reset_mode_kills_idle_connections() {
    for mode in [Mode::ResetBeforeHead, Mode::ResetMidBody { after: 1 }] {
        let (server, mut stream) = served(Mode::Ok);
        answer(&mut stream);
        server.set(mode);
        let ended = drain(&mut stream).1;
        assert_eq!(ended, Some(ErrorKind::ConnectionReset));
    }
    let (server, mut stream) = served(Mode::Ok);
    answer(&mut stream);
    server.close_connections();
    assert_eq!(drain(&mut stream), (Vec::new(), None));
}

#[test]
fn drip_and_slow_are_complete_but_late() {
    let (server, mut stream) = served(Mode::Drip { bytes: 5, every_ms: 10 });
    let (head, body) = answer(&mut stream);
    assert!(head.contains("Content-Length: 5\r\n"));
    assert_eq!(body, b"xxxxx");
    server.set(Mode::slow(30));
    let before = std::time::Instant::now();
    get(&mut stream, "/");
    answer(&mut stream);
    assert!(before.elapsed() >= Duration::from_millis(30));
}

#[test]
fn huge_things_have_exactly_the_size_asked_for() {
    let (server, mut stream) = served(Mode::HugeBody { bytes: 3 << 20 });
    let (_, body) = answer(&mut stream);
    assert_eq!(body.len(), 3 << 20);
    for bytes in [51, 52, 63, 64, 1074, 1075, 1087, 1088, 5000, 100_000, 300_001] {
        server.set(Mode::HugeHead { bytes });
        get(&mut stream, "/");
        let (head, _) = answer(&mut stream);
        assert_eq!(head.len() as u64, bytes);
        assert!(head.lines().all(|line| line.len() < 1100));
    }
    server.set(Mode::HugeHead { bytes: 0 });
    get(&mut stream, "/");
    assert_eq!(answer(&mut stream).0, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn a_client_that_does_not_read_does_not_hold_up_a_drop() {
    let (server, stream) = served(Mode::HugeBody { bytes: u64::MAX });
    eventually("the request arrives", || server.stats().requests == 1);
    drop(server);
    drop(stream);
}

#[test]
fn garbage_is_the_same_noise_every_time() {
    let (server, mut stream) = served(Mode::Garbage);
    let (first, ended) = drain(&mut stream);
    assert_eq!((first.len(), ended), (512, None));
    assert!(first.iter().all(|byte| *byte >= 0x80));
    let mut again = connect(&server);
    get(&mut again, "/");
    assert_eq!(drain(&mut again).0, first);
}

#[test]
fn a_document_answers_its_validator_with_304() {
    let (server, mut stream) = served(Mode::Body {
        content_type: "text/plain".into(),
        etag: Some("\"v1\"".into()),
        cache_control: Some("max-age=5".into()),
        body: "text".into(),
    });
    let (head, body) = answer(&mut stream);
    assert!(head.contains("ETag: \"v1\"\r\nCache-Control: max-age=5\r\n"));
    assert_eq!(body, b"text");
    let (status, head, body) = fetch(server.addr(), "/", "If-None-Match: \"v1\"\r\n");
    assert_eq!((status, body.len()), (304, 0));
    assert!(head.contains("ETag: \"v1\"\r\n"));
}

#[test]
fn sequences_and_flaky_count_over_all_connections() {
    let server = FaultServer::start().unwrap();
    let status = || fetch(server.addr(), "/", "").0;
    server.set(Mode::Sequence(vec![Mode::status(503), Mode::Ok, Mode::status(404)]));
    assert_eq!([status(), status(), status(), status()], [503, 200, 404, 404]);
    server.set(Mode::flaky(2, Mode::status(500)));
    assert_eq!([status(), status(), status(), status()], [200, 500, 200, 500]);
    server.set(Mode::Sequence(vec![Mode::Refuse]));
    let mut stream = connect(&server);
    get(&mut stream, "/");
    assert_eq!(drain(&mut stream).1, Some(ErrorKind::ConnectionReset));
}

#[test]
fn handlers_have_their_say_and_may_panic() {
    let server = FaultServer::with_handler(Arc::new(|request| match request.route() {
        "/boom" => panic!("a handler's bug"),
        "/bye" => Answer::text(200, "bye").closing(),
        _ => Answer::json(201, &request.body.len()).after(Duration::from_millis(5)),
    }))
    .unwrap();
    let mut stream = connect(&server);
    stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    let (head, body) = answer(&mut stream);
    assert!(head.starts_with("HTTP/1.1 201 "));
    assert_eq!(body, b"2");
    get(&mut stream, "/bye");
    let (bytes, ended) = drain(&mut stream);
    assert!(String::from_utf8_lossy(&bytes).contains("Connection: close\r\n\r\nbye"));
    assert_eq!(ended, None);
    let mut stream = connect(&server);
    get(&mut stream, "/boom");
    drain(&mut stream);
    eventually("the panicked connection is gone", || server.stats().connections_open == 0);
    assert_eq!(fetch(server.addr(), "/", "").0, 201);
}

#[test]
fn head_requests_get_no_body() {
    let server = FaultServer::start().unwrap();
    let mut stream = connect(&server);
    for mode in [Mode::Ok, Mode::HugeBody { bytes: 99 }, Mode::Drip { bytes: 9, every_ms: 1 }] {
        server.set(mode);
        stream.write_all(b"HEAD / HTTP/1.1\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(String::from_utf8_lossy(&head).contains("Content-Length: "));
    }
    assert!(is_silent(&mut stream));
}

#[test]
fn bad_clients_get_a_status_or_a_close_and_never_the_server() {
    let server = FaultServer::start().unwrap();
    let mut oversized = b"GET / HTTP/1.1\r\nX: ".to_vec();
    oversized.resize(200_000, b'x');
    let inputs: [(&[u8], &str); 5] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "HTTP/1.1 400 "),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 "),
        (&oversized, "HTTP/1.1 431 "),
        (b"GET / HTTP/1.1\r\nContent-Length: 9000000\r\n\r\n", "HTTP/1.1 413 "),
        (b"GET / HTTP/1.1\r\nHos", ""),
    ];
    for (input, expected) in inputs {
        let mut stream = connect(&server);
        stream.write_all(input).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let (bytes, _) = drain(&mut stream);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with(expected), "{text:?} is not {expected:?}");
        assert!(expected.is_empty() == bytes.is_empty());
    }
    assert_eq!(fetch(server.addr(), "/", "").0, 200);
    eventually("bad connections are gone", || server.stats().connections_open == 0);
}

#[test]
fn changing_modes_under_load_loses_neither_server_nor_connections() {
    let server = FaultServer::start().unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !stopped() {
                    let Ok(mut stream) = dial(server.addr()) else {
                        continue;
                    };
                    // A hang must not outlast the test.
                    let patience = Some(Duration::from_millis(20));
                    let _ = stream.set_read_timeout(patience);
                    let request = b"GET / HTTP/1.1\r\n\r\n";
                    while !stopped()
                        && stream.write_all(request).is_ok()
                        && stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0)
                    {
                    }
                }
            });
        }
        for _ in 0..40 {
            for mode in [
                Mode::Ok,
                Mode::Refuse,
                Mode::HangOnAccept,
                Mode::ResetBeforeHead,
                Mode::Refuse,
                Mode::HangBeforeHead,
            ] {
                server.set(mode);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    server.set(Mode::Ok);
    assert_eq!(fetch(server.addr(), "/", "").0, 200);
    eventually("all connections end", || server.stats().connections_open == 0);
}
