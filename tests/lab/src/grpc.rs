//! A server of the gRPC health protocol (`grpc.health.v1.Health/Check`), over
//! HTTP/2 by prior knowledge, that says what it is told to say. Every other
//! path is answered with 200 by the same port, in HTTP/1.1 as well, so that an
//! endpoint can be called and checked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::sync::oneshot;

use crate::lock;

const PATH: &str = "/grpc.health.v1.Health/Check";

/// What the server says about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serving {
    /// It serves.
    Serving,
    /// It does not.
    NotServing,
    /// There is no health service: `grpc-status` 12.
    Unimplemented,
    /// The answer ends after its message, without a `grpc-status`.
    NoTrailers,
    /// The answer is longer than any answer of this protocol.
    Huge,
    /// There is no answer.
    Hang,
}

/// A gRPC health server on loopback.
pub struct GrpcHealth {
    addr: SocketAddr,
    shared: Arc<Shared>,
    // Dropped to end the thread.
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    says: Mutex<BTreeMap<String, Serving>>,
    checks: AtomicU64,
    calls: AtomicU64,
    open: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

impl std::fmt::Debug for GrpcHealth {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("GrpcHealth").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl GrpcHealth {
    /// Starts a server that serves, as a whole (the empty service name), on a
    /// free port of 127.0.0.1.
    ///
    /// # Errors
    /// When the system has no port, descriptor or thread left.
    pub fn start() -> io::Result<GrpcHealth> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        lock(&shared.says).insert(String::new(), Serving::Serving);
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = {
            let shared = shared.clone();
            let serve = async move {
                tokio::spawn(accept(listener, shared));
                // Ends with an error when the sender is dropped; the runtime ends the rest.
                let _ = stopped.await;
            };
            thread::Builder::new().name("lab-grpc".into()).spawn(move || runtime.block_on(serve))?
        };
        Ok(GrpcHealth { addr, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The address as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it says from now on about the server as a whole.
    pub fn set(&self, serving: Serving) {
        self.set_service("", serving);
    }

    /// What it says from now on about a service. About one it was never told
    /// of, it says NOT_FOUND.
    pub fn set_service(&self, service: &str, serving: Serving) {
        lock(&self.shared.says).insert(service.to_owned(), serving);
    }

    /// Health checks that arrived.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.shared.checks.load(Ordering::Relaxed)
    }

    /// All other requests that arrived.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Connections open now.
    #[must_use]
    pub fn connections_open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// What was wrong with the checks that arrived; nothing as a rule.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.shared.wrong).clone()
    }
}

impl Drop for GrpcHealth {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        shared.open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, shared.clone()));
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != PATH {
        shared.calls.fetch_add(1, Ordering::Relaxed);
        return Ok(Response::new(Full::from("an answer").boxed()));
    }
    shared.checks.fetch_add(1, Ordering::Relaxed);
    let service = match service_of(request).await {
        Ok(service) => service,
        Err(wrong) => {
            lock(&shared.wrong).push(wrong);
            let mut response = Response::new(Empty::new().boxed());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(response);
        }
    };
    let says = lock(&shared.says).get(&service).copied();
    let message = |body: &'static [u8]| {
        // A message and its end: `grpc-status` comes in the trailers.
        Full::from(body).with_trailers(async { Some(Ok(status("0"))) }).boxed()
    };
    let (headers, body) = match says {
        Some(Serving::Serving) => (HeaderMap::new(), message(&[0, 0, 0, 0, 2, 8, 1])),
        Some(Serving::NotServing) => (HeaderMap::new(), message(&[0, 0, 0, 0, 2, 8, 2])),
        Some(Serving::NoTrailers) => {
            (HeaderMap::new(), Full::from(&[0, 0, 0, 0, 2, 8, 1][..]).boxed())
        }
        Some(Serving::Huge) => (HeaderMap::new(), message(&[0; 64 << 10])),
        Some(Serving::Unimplemented) => (status("12"), Empty::new().boxed()),
        None => (status("5"), Empty::new().boxed()),
        Some(Serving::Hang) => std::future::pending().await,
    };
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

fn status(code: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("grpc-status", HeaderValue::from_static(code));
    headers
}

/// The service a check asks about, if it is a request of the protocol.
async fn service_of(request: Request<Incoming>) -> Result<String, String> {
    let (head, body) = request.into_parts();
    let has = |name, value: &str| head.headers.get(name).is_some_and(|found| found == value);
    if head.method != Method::POST || head.version != Version::HTTP_2 {
        return Err(format!("{} in {:?}", head.method, head.version));
    }
    if !has(CONTENT_TYPE, "application/grpc") || !has(TE, "trailers") {
        return Err(format!("headers {:?}", head.headers));
    }
    let body = Limited::new(body, 4096).collect().await.map_err(|e| e.to_string())?.to_bytes();
    let wrong = || format!("message {body:?}");
    let (frame, message) = body.split_at_checked(5).ok_or_else(wrong)?;
    if frame[0] != 0 || frame[1..] != u32::try_from(message.len()).unwrap_or(0).to_be_bytes() {
        return Err(wrong());
    }
    match message {
        [] => Ok(String::new()),
        // Field 1, as text of less than 128 bytes.
        [0x0a, length, name @ ..] if usize::from(*length) == name.len() => {
            String::from_utf8(name.to_vec()).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}
