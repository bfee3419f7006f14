//! A program that calls a service and shows how that goes: `/metrics` for Prometheus, `/health` for
//! whoever asks whether the program is well, `/state` with everything the client knows.
//!
//! ```sh
//! cargo run -p origin-tokio --example metrics -- http://127.0.0.1:8080 http://127.0.0.1:8081
//! curl http://127.0.0.1:9464/metrics
//! ```
#![allow(clippy::print_stdout, reason = "what it prints is its purpose")]

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use origin_tokio::Client;
use origin_tokio::core::metrics::Format;
use tokio::net::TcpListener;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut builder = Client::builder();
    for address in std::env::args().skip(1) {
        builder = builder.endpoint("demo", address);
    }
    let client = builder.build()?;
    let listener = TcpListener::bind("127.0.0.1:9464").await?;
    println!("http://{}/metrics", listener.local_addr()?);
    tokio::spawn(serve(client.clone(), listener));
    let demo = client.service("demo")?;
    loop {
        // How it went is in the metrics.
        let _ = demo.get("/").send().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Answers on `listener` for as long as the runtime lives.
pub(crate) async fn serve(client: Client, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let client = client.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let reply = answer(&client, &request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(client: &Client, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = match request.uri().path() {
        "/metrics" => {
            let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::wanted(accept.unwrap_or_default());
            (200, format.content_type(), client.metrics_as(format))
        }
        "/health" => {
            let health = client.health();
            let body = serde_json::to_string(&health).unwrap_or_default();
            (health.http_status(), "application/json", body)
        }
        "/state" => {
            let body = serde_json::to_string(&client.snapshot()).unwrap_or_default();
            (200, "application/json", body)
        }
        _ => (404, "text/plain", "/metrics, /health or /state\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
