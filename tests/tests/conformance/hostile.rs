//! Peers that send anything: documents and answers that are huge, broken, nested, of another
//! kind or not text at all. Each is a typed error that names its source; the last good document
//! stays in use; nothing panics.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use origin_core::Error;
use origin_driver::Client;
use origin_lab::{World, WorldSpec};

use crate::subject::{Subject, eventually, get, story};

on_every_runtime! {
    case_000_35_and_x_11_a_hostile_document_is_a_typed_error_that_names_its_source
    case_000_35_and_x_11_a_hostile_document_leaves_the_last_good_one_in_place
    case_x_11_hostile_answers_of_a_service_are_typed_errors_that_name_their_endpoint
    case_x_11_header_values_that_are_not_text_are_bytes
}

/// What a wire server says to a request, whatever the request is.
#[derive(Clone)]
pub(crate) enum Script {
    /// These bytes, then a close.
    Bytes(Vec<u8>),
    /// These bytes, then the piece again and again until this much was sent, then the end.
    Repeated { head: Vec<u8>, piece: Vec<u8>, total: usize, end: Vec<u8> },
}

impl Script {
    /// A 200 with this body and its length.
    pub(crate) fn document(body: impl AsRef<[u8]>) -> Script {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        Script::Bytes(bytes)
    }

    /// A 200 whose chunked body has this many bytes and says so nowhere.
    pub(crate) fn chunked(total: usize) -> Script {
        let piece = [b"1000\r\n".as_slice(), &[b'x'; 0x1000], b"\r\n"].concat();
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        Script::Repeated { head, piece, total, end: b"0\r\n\r\n".to_vec() }
    }

    /// A 200 whose head has about this many bytes.
    pub(crate) fn headers(total: usize) -> Script {
        let piece = [b"X-Padding: ".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        let end = b"Content-Length: 0\r\n\r\n".to_vec();
        Script::Repeated { head: b"HTTP/1.1 200 OK\r\n".to_vec(), piece, total, end }
    }

    fn write(&self, to: &mut TcpStream) -> std::io::Result<()> {
        match self {
            Script::Bytes(bytes) => to.write_all(bytes),
            Script::Repeated { head, piece, total, end } => {
                to.write_all(head)?;
                for _ in 0..total / piece.len() {
                    to.write_all(piece)?;
                }
                to.write_all(end)
            }
        }
    }
}

/// A server below HTTP: it reads a request head and plays its script, byte for byte. The fault
/// server cannot say what is not HTTP text.
pub(crate) struct Wire {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
}

impl Wire {
    pub(crate) fn start(script: Script) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script));
        let held = Arc::downgrade(&script);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Some(script), Ok(stream)) = (held.upgrade(), stream) else { return };
                let script = script.lock().unwrap_or_else(PoisonError::into_inner).clone();
                thread::spawn(move || converse(stream, &script));
            }
        });
        Wire { address, script }
    }

    pub(crate) fn set(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Its last visitor finds nothing to play, and the listener goes with the thread.
        self.script = Arc::new(Mutex::new(Script::Bytes(Vec::new())));
        let _ = TcpStream::connect(self.address);
    }
}

/// Any error means that the client has gone away, as it should.
fn converse(mut stream: TcpStream, script: &Script) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
    let _ = stream.set_write_timeout(Some(Duration::from_secs(5)));
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(count) if count > 0 && seen.len() < 1 << 16 => {
                seen.extend_from_slice(&buffer[..count])
            }
            _ => return,
        }
    }
    if script.write(&mut stream).is_ok() && stream.shutdown(std::net::Shutdown::Write).is_ok() {
        // Closing with unread input would reset what the client has not read yet.
        while matches!(stream.read(&mut buffer), Ok(1..)) {}
    }
}

fn garbage() -> Script {
    Script::Bytes((0..512_u32).map(|n| (n * 31 % 251) as u8 | 0x80).collect())
}

/// A head with a header name that is not one.
fn broken_header() -> Script {
    Script::Bytes(b"HTTP/1.1 200 OK\r\nX-\xff\xfe: 1\r\nContent-Length: 0\r\n\r\n".to_vec())
}

/// What a source may say instead of a document, and what has to be said about it.
fn hostile_documents() -> Vec<(&'static str, Script, &'static str)> {
    let nested = "[".repeat(200_000);
    let nested_inside = format!("{{\"services\":{{\"x\":{}", "{\"endpoints\":".repeat(50_000));
    vec![
        ("10 MB of headers", Script::headers(10 << 20), "response head exceeds limits.head"),
        ("garbage", garbage(), "answer is not valid HTTP"),
        ("a header that is none", broken_header(), "answer is not valid HTTP"),
        ("100 MB by length", huge_by_length(), "response body exceeds the body limit"),
        ("100 MB in chunks", Script::chunked(100 << 20), "response body exceeds the body limit"),
        ("nested", Script::document(nested), "the document was refused"),
        ("nested inside", Script::document(nested_inside), "the document was refused"),
        (
            "HTML",
            Script::document("<!doctype html><html><body>Welcome</body></html>"),
            "it looks like an HTML page",
        ),
        ("not UTF-8", Script::document(b"{\"services\":{\"\xff\xfe\":{}}}"), "not valid JSON"),
        ("cut off", Script::document("{\"services\":{\"billing\":{"), "not valid JSON"),
        ("another shape", Script::document("[1,2,3]"), "JSON of another shape"),
        ("wrong types", Script::document("{\"services\":7}"), "JSON of another shape"),
        ("huge numbers", Script::document("{\"services\":1e999999}"), "the document was refused"),
        ("nothing", Script::document(""), "not valid JSON"),
    ]
}

fn huge_by_length() -> Script {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 << 20);
    let (head, piece) = (head.into_bytes(), vec![b' '; 1 << 16]);
    Script::Repeated { head, piece, total: 100 << 20, end: Vec::new() }
}

fn client<S: Subject>(source: &str) -> Client<S> {
    Client::<S>::builder()
        .discovery(source)
        .local_cluster("beta")
        .timeout(Duration::from_secs(8))
        .configure(|config| {
            let discovery = config.discovery.as_mut().unwrap();
            discovery.ttl = Duration::from_millis(20);
            discovery.refresh_ahead = Duration::from_millis(1);
            discovery.backoff = Duration::from_millis(5);
            discovery.backoff_max = Duration::from_millis(20);
        })
        .build()
        .unwrap()
}

fn case_000_35_and_x_11_a_hostile_document_is_a_typed_error_that_names_its_source<S: Subject>() {
    for (what, script, said) in hostile_documents() {
        let source = Wire::start(script);
        let client = client::<S>(&source.url());
        let began = Instant::now();
        let error = get(&client, "billing", "/x").unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(8), "{what}: {:?}", began.elapsed());
        let Error::Discovery { source_url, .. } = &error else { panic!("{what}: {error:?}") };
        assert_eq!(source_url.trim_end_matches('/'), source.url(), "{what}");
        let text = error.to_string();
        assert!(text.contains(&source.url()) && text.contains(said), "{what}: {text}");
        assert!(text.len() < 1000, "{what}: an error of {} characters", text.len());
    }
}

fn case_000_35_and_x_11_a_hostile_document_leaves_the_last_good_one_in_place<S: Subject>() {
    let world = World::start(WorldSpec::default().only(&["billing"])).unwrap();
    let good = Script::document(world.document().to_json());
    let source = Wire::start(good.clone());
    let client = client::<S>(&source.url());
    assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
    for (what, script, said) in hostile_documents() {
        source.set(script);
        let mut told = String::new();
        eventually(what, || {
            // A blocking client looks after discovery with its calls, an async one beside them.
            // Either way calls go on with the document they have.
            let reply = get(&client, "billing", "/x");
            assert_eq!(reply.unwrap_or_else(|e| panic!("{what}: {e}")).status, 200, "{what}");
            told = client.snapshot().discovery[0].last_error.clone().unwrap_or_default();
            told.contains(said)
        });
        source.set(good.clone());
        eventually("a good document is taken again", || {
            assert_eq!(get(&client, "billing", "/x").unwrap().status, 200, "{what}");
            client.snapshot().discovery[0].last_error.is_none()
        });
        assert_eq!(client.snapshot().service("billing").unwrap().endpoints.len(), 6, "{what}");
    }
}

fn case_x_11_hostile_answers_of_a_service_are_typed_errors_that_name_their_endpoint<S: Subject>() {
    let huge_length =
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n".to_vec();
    let bad_chunk =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\nx\r\n0\r\n\r\n".to_vec();
    let answers = [
        ("10 MB of headers", Script::headers(10 << 20), "response head exceeds limits.head"),
        ("garbage", garbage(), "answer is not valid HTTP"),
        ("a header that is none", broken_header(), "answer is not valid HTTP"),
        ("a length beyond numbers", Script::Bytes(huge_length), "answer is not valid HTTP"),
        ("a chunk of no size", Script::Bytes(bad_chunk), ""),
        ("nothing", Script::Bytes(Vec::new()), "connection broke"),
        ("half a head", Script::Bytes(b"HTTP/1.1 200 OK\r\nConte".to_vec()), ""),
    ];
    for (what, script, said) in answers {
        let endpoint = Wire::start(script);
        let client = Client::<S>::builder()
            .endpoint("billing", endpoint.url())
            .timeout(Duration::from_secs(8))
            .configure(|config| config.policy.retry.max_attempts = 1)
            .build()
            .unwrap();
        let error = get(&client, "billing", "/x").unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Exhausted(_)), "{what}: {error:?}");
        assert!(text.contains(&endpoint.url()) && text.contains(said), "{what}: {text}");
        let service = client.snapshot();
        let service = service.service("billing").unwrap();
        assert_eq!((service.failed_attempts, service.endpoints[0].outstanding), (1, 0), "{what}");
        // The client is as good as before.
        endpoint.set(Script::document("fine"));
        let reply = get(&client, "billing", "/x").unwrap();
        assert_eq!(reply.text(), "fine", "{what}");
    }
}

/// RFC 9110 §5.5: bytes above 0x7f in a value are opaque, not an error.
fn case_x_11_header_values_that_are_not_text_are_bytes<S: Subject>() {
    let world = World::start(WorldSpec::default().only(&["billing"])).unwrap();
    let json = world.document().to_json();
    let odd = |body: &str| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nETag: \"\xff\xfe\"\r\nCache-Control: max-age=\xff\r\n\
            Retry-After: \xfe\xff\r\nX-Odd: a\xff\xfeb\r\nConnection: close\r\n"
            .to_vec();
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        Script::Bytes(bytes)
    };
    let source = Wire::start(odd(&json));
    let endpoint = Wire::start(odd("fine"));
    let client = client::<S>(&source.url());
    for _ in 0..5 {
        assert_eq!(get(&client, "billing", "/x").unwrap().status, 200);
        thread::sleep(Duration::from_millis(25));
    }
    assert_eq!(client.snapshot().discovery[0].failures, 0);
    let client = Client::<S>::builder().endpoint("billing", endpoint.url()).build().unwrap();
    let reply = get(&client, "billing", "/x").unwrap();
    let odd = reply.headers.get("x-odd").map(|value| value.as_bytes().to_vec());
    assert_eq!(odd.as_deref(), Some(b"a\xff\xfeb".as_slice()));
    assert!(!story(&client.snapshot(), &client.notices()).is_empty());
}
