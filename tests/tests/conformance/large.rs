//! Large request bodies: a server that takes one slowly is not silent, and one that answers before it
//! has taken all of it is heard.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use origin_core::Response;
use origin_driver::{Client, Roots};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::{Authority, Setup};
use crate::subject::{Subject, eventually, get, of};

on_every_runtime! {
    an_answer_that_comes_before_the_body_is_out_is_heard
    a_large_body_is_neither_copied_nor_moved_while_it_is_taken
    an_endpoint_that_takes_a_large_body_is_not_suspect_and_one_that_stops_is
}

on_every_async_runtime! {
    an_early_answer_is_heard_though_nobody_takes_the_body
}

/// What comes after an early answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The connection is closed at once: what is still on its way is answered with a reset.
    Close,
    /// No more is sent, and what comes is read for a while, as nginx does.
    Linger,
    /// Nothing: neither is anything read, nor is the connection closed.
    Stall,
}

/// A server that answers with this status as soon as it has the head.
struct Early {
    port: u16,
    requests: Arc<AtomicU64>,
}

impl Early {
    fn start(status: u16, after: After, tls: Option<Arc<ServerConfig>>) -> Early {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicU64::new(0));
        let count = requests.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                // What it says must be out before it closes, and not wait for an acknowledgement.
                tcp.set_nodelay(true).unwrap();
                let (tls, count) = (tls.clone(), count.clone());
                thread::spawn(move || match tls {
                    None => early(&tcp, &mut &tcp, status, after, &count),
                    Some(config) => {
                        let session = ServerConnection::new(config).unwrap();
                        let raw = tcp.try_clone().unwrap();
                        let mut stream = StreamOwned::new(session, tcp);
                        early(&raw, &mut stream, status, after, &count);
                    }
                });
            }
        });
        Early { port, requests }
    }
}

fn early(
    tcp: &TcpStream,
    stream: &mut (impl Read + Write),
    status: u16,
    after: After,
    count: &AtomicU64,
) {
    if head(stream).is_none() {
        return;
    }
    count.fetch_add(1, Ordering::SeqCst);
    let close = if after == After::Stall { "" } else { "Connection: close\r\n" };
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 8\r\n{close}\r\ntoo much");
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
    match after {
        After::Close => (),
        After::Linger => {
            let _ = tcp.shutdown(Shutdown::Write);
            let _ = tcp.set_read_timeout(Some(Duration::from_secs(2)));
            let (mut tcp, mut rest) = (tcp, vec![0; 1 << 16]);
            while matches!(tcp.read(&mut rest), Ok(1..)) {}
        }
        // Until the client has gone: an empty read comes of that alone.
        After::Stall => {
            let _ = tcp.set_read_timeout(Some(Duration::from_secs(20)));
            let gone = Duration::from_millis(20);
            for _ in 0..500 {
                thread::sleep(gone);
                if tcp.take_error().ok().flatten().is_some() {
                    return;
                }
            }
        }
    }
}

/// The head of a request, and what has come of its body.
fn head(stream: &mut impl Read) -> Option<(String, usize)> {
    let (mut all, mut piece) = (Vec::new(), [0; 1_024]);
    loop {
        if let Some(at) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            return Some((String::from_utf8_lossy(&all[..at]).into_owned(), all.len() - at - 4));
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => all.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
}

fn send<S: Subject>(client: &Client<S>, size: usize) -> Result<Response, origin_core::Error> {
    let upstream = client.service("lab").unwrap();
    S::wait(upstream.post("/").body(vec![7_u8; size]).send())
}

fn refused<S: Subject>(client: &Client<S>, status: u16, size: usize, what: &str) {
    let reply = send(client, size).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (status, "too much"), "{what}");
    assert_eq!(reply.report.attempts.len(), 1, "{what}");
}

fn client_of<S: Subject>(url: &str, roots: Option<Roots>) -> Client<S> {
    let builder = Client::<S>::builder().endpoint("lab", url).timeout(Duration::from_secs(10));
    let builder = roots.into_iter().fold(builder, |builder, roots| builder.roots(roots));
    builder.seed(7).build().unwrap()
}

fn an_answer_that_comes_before_the_body_is_out_is_heard<S: Subject>() {
    let ours = Authority::new();
    for after in [After::Close, After::Linger] {
        for (status, secure) in [(413, false), (403, true), (413, true)] {
            let tls = secure.then(|| Setup::of(ours.leaf(&["localhost"])).config());
            let server = Early::start(status, after, tls);
            let scheme = if secure { "https" } else { "http" };
            let url = format!("{scheme}://localhost:{}", server.port);
            let client = client_of::<S>(&url, secure.then(|| ours.roots()));
            for size in [100 << 10, 1 << 20, 8 << 20] {
                for _ in 0..5 {
                    refused(&client, status, size, &format!("{after:?} {url} {size}"));
                }
            }
            assert_eq!(server.requests.load(Ordering::SeqCst), 15);
            // An answer, whatever it says: nothing is wrong with the endpoint.
            let service = of(&client, "lab");
            assert_eq!((service.failed_attempts, service.answered), (0, 15));
        }
    }
}

/// The client cannot get rid of its body, and has the answer all the same, without waiting until
/// its time is up. A blocking one writes first and reads then, so there it is a timeout.
fn an_early_answer_is_heard_though_nobody_takes_the_body<S: Subject>() {
    let ours = Authority::new();
    for secure in [false, true] {
        let tls = secure.then(|| Setup::of(ours.leaf(&["localhost"])).config());
        let server = Early::start(413, After::Stall, tls);
        let scheme = if secure { "https" } else { "http" };
        let url = format!("{scheme}://localhost:{}", server.port);
        let client = client_of::<S>(&url, secure.then(|| ours.roots()));
        for _ in 0..2 {
            refused(&client, 413, 32 << 20, "stalls");
        }
        assert_eq!(server.requests.load(Ordering::SeqCst), 2);
    }
}

/// A server that takes bodies slowly, and stops where it is told to.
struct Slow {
    url: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    /// Bodies that it has begun to take, and their sizes when they were whole.
    begun: AtomicU64,
    whole: Mutex<Vec<usize>>,
}

impl Slow {
    fn start() -> Slow {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                let shared = own.clone();
                thread::spawn(move || while take(&shared, &mut &tcp).is_some() {});
            }
        });
        Slow { url, shared }
    }

    fn stop(&self, stop: bool) {
        self.shared.stopped.store(stop, Ordering::SeqCst);
    }
}

/// One request with its body, 16 MiB in a second at most.
fn take(shared: &Shared, stream: &mut (impl Read + Write)) -> Option<()> {
    let (head, mut taken) = head(stream)?;
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
    shared.begun.fetch_add(u64::from(length > 0), Ordering::SeqCst);
    let mut piece = vec![0; 64 << 10];
    while taken < length {
        while shared.stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        match stream.read(&mut piece) {
            Ok(count @ 1..) => taken += count,
            _ => return None,
        }
        thread::sleep(Duration::from_millis(4));
    }
    if length > 0 {
        shared.whole.lock().unwrap().push(length);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()
}

/// A client that knows how long answers of these take.
fn acquainted<S: Subject>(servers: &[&Slow]) -> Client<S> {
    let builder = Client::<S>::builder().configure(|config| {
        let service = config.services.entry("lab".into()).or_default();
        for server in servers {
            service.endpoints.push(origin_core::config::EndpointConfig::at(server.url.clone()));
        }
        config.policy.hedge.delay = Some(Duration::from_millis(50));
        config.policy.hedge.enabled = true;
    });
    let client = builder.timeout(Duration::from_secs(30)).seed(7).build().unwrap();
    for _ in 0..60 {
        assert_eq!(get(&client, "lab", "/").unwrap().status, 200);
    }
    client
}

fn a_large_body_is_neither_copied_nor_moved_while_it_is_taken<S: Subject>() {
    let servers = [Slow::start(), Slow::start()];
    let client = acquainted::<S>(&servers.each_ref());
    let upstream = client.service("lab").unwrap();
    for size in [2 << 20, 8 << 20] {
        let put = upstream.request(http::Method::PUT, "/").body(vec![7_u8; size]);
        let reply = S::wait(put.send()).unwrap();
        assert_eq!((reply.status.as_u16(), reply.report.attempts.len()), (200, 1));
        assert!(reply.report.elapsed > Duration::from_millis(100), "{:?}", reply.report.elapsed);
    }
    let begun = servers.iter().map(|server| server.shared.begun.load(Ordering::SeqCst));
    assert_eq!(begun.sum::<u64>(), 2, "each went to one server alone");
    // How long they took is not taken for the usual time.
    let endpoints = of(&client, "lab").endpoints;
    for endpoint in &endpoints {
        let latency = endpoint.latency.unwrap();
        assert!(latency < Duration::from_millis(100), "{latency:?}");
    }
}

fn an_endpoint_that_takes_a_large_body_is_not_suspect_and_one_that_stops_is<S: Subject>() {
    let server = Slow::start();
    let client = acquainted::<S>(&[&server]);
    let view = || {
        let endpoint = of(&client, "lab").endpoints.remove(0);
        (endpoint.suspect, endpoint.outstanding)
    };
    let size = 48 << 20;
    thread::scope(|scope| {
        let put = scope.spawn(|| {
            let upstream = client.service("lab").unwrap();
            let put = upstream.request(http::Method::PUT, "/").body(vec![7_u8; size]);
            S::wait(put.send())
        });
        eventually("it has begun", || server.shared.begun.load(Ordering::SeqCst) == 1);
        for _ in 0..2 {
            server.stop(true);
            eventually("it is suspect, since nothing moves", || view() == (true, 1));
            server.stop(false);
            eventually("it is not, since bytes move", || view() == (false, 1));
        }
        assert_eq!(put.join().unwrap().unwrap().status, 200);
    });
    assert_eq!(*server.shared.whole.lock().unwrap(), [size]);
}
