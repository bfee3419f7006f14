//! A client in a program made of tower services: a server in front, calls made for its requests.
#![cfg(feature = "tower")]
#![allow(clippy::unwrap_used)] // test code

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use origin_lab::{FaultServer, Mode};
use origin_tokio::core::config::DeadlineHeader;
use origin_tokio::tower::{Carry, Outgoing};
use origin_tokio::trace::TraceContext;
use origin_tokio::{Client, Error};
use tower_layer::Layer as _;
use tower_service::Service;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Asks `billing` for every request that it gets.
#[derive(Clone)]
struct Front(Client);

impl Service<Request<Incoming>> for Front {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Incoming>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            // Some of the time has passed when it asks.
            tokio::time::sleep(Duration::from_millis(30)).await;
            let answer = client.service("billing").unwrap().get("/x").send().await;
            let text = match answer {
                Ok(_) => "answered".to_owned(),
                Err(Error::Deadline(_)) => "late".to_owned(),
                Err(error) => error.to_string(),
            };
            Ok(Response::new(Full::new(text.into())))
        })
    }
}

fn client(server: &FaultServer, accept: bool) -> Client {
    Client::builder()
        .endpoint("billing", server.url())
        .configure(|config| {
            config.policy.propagate.header = DeadlineHeader::Custom("x-left-ms".to_owned());
            config.policy.propagate.accept = accept;
        })
        .build()
        .unwrap()
}

/// Serves it behind a [`Carry`], and yields its address.
async fn serve(client: &Client) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Carry::with(client).layer(Front(client.clone()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn case_x_04_what_comes_in_goes_out_and_the_deadline_shrinks() {
    let server = FaultServer::start().unwrap();
    let front = serve(&client(&server, true)).await;
    let caller = Client::builder().endpoint("front", &front).build().unwrap();
    let ask = |left: &'static str| {
        let call = caller.service("front").unwrap().get("/").correlation("order-4711");
        let call = call.header("traceparent", TRACE).header("tracestate", "vendor=1");
        call.header("x-left-ms", left).send()
    };
    assert_eq!(ask("2000").await.unwrap().text(), "answered");
    let seen = server.requests().pop().unwrap();
    assert_eq!(seen.header("x-correlation-id"), Some("order-4711"));
    let told = TraceContext::parse(seen.header("traceparent").unwrap().as_bytes()).unwrap();
    let came = TraceContext::parse(TRACE.as_bytes()).unwrap();
    assert_eq!(told.trace_id(), came.trace_id());
    assert_ne!(told.span_id(), came.span_id());
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));
    let left: u64 = seen.header("x-left-ms").unwrap().parse().unwrap();
    assert!((1..=1_970).contains(&left), "{left}");
    // Nobody waits any more when it asks: it does not.
    assert_eq!(ask("10").await.unwrap().text(), "late");
    assert_eq!(server.request_count(), 1);
    // And it gives up when its caller does.
    server.set(Mode::HangBeforeHead);
    assert_eq!(ask("150").await.unwrap().text(), "late");
    // What is not sound is left out.
    server.set(Mode::Ok);
    let call = caller.service("front").unwrap().get("/").header("traceparent", "00-0-0-00");
    let call = call.header("x-left-ms", "soon").header("tracestate", "vendor=1").send();
    assert_eq!(call.await.unwrap().text(), "answered");
    let seen = server.requests().pop().unwrap();
    assert!(TraceContext::parse(seen.header("traceparent").unwrap().as_bytes()).is_ok());
    assert_eq!(seen.header("tracestate"), None);
}

#[tokio::test]
async fn a_deadline_is_believed_only_where_that_is_configured() {
    let server = FaultServer::start().unwrap();
    let front = serve(&client(&server, false)).await;
    let caller = Client::builder().endpoint("front", &front).build().unwrap();
    let call = caller.service("front").unwrap().get("/").header("x-left-ms", "1").send();
    assert_eq!(call.await.unwrap().text(), "answered");
}

#[tokio::test]
async fn what_is_given_to_a_call_itself_counts_more_and_a_handle_goes_into_other_tasks() {
    let server = FaultServer::start().unwrap();
    let client = client(&server, true);
    let mut headers = http::HeaderMap::new();
    headers.insert("x-correlation-id", "order-4711".parse().unwrap());
    headers.insert("x-left-ms", "60000".parse().unwrap());
    let carried = client.carried(&headers);
    assert_eq!(carried.correlation().unwrap().as_str(), "order-4711");
    assert!(carried.left().is_some_and(|left| left <= Duration::from_secs(60)));
    let billing = client.service("billing").unwrap();
    let task = tokio::spawn(billing.get("/x").carried(&carried).send());
    assert_eq!(task.await.unwrap().unwrap().report.ids.correlation.unwrap().as_str(), "order-4711");
    // The policy's 30 s are less than the caller's minute.
    let left = server.requests().pop().unwrap().header("x-left-ms").unwrap().parse::<u64>();
    assert!(left.unwrap() <= 30_000);
    let own = billing.get("/x").carried(&carried).correlation("own").send().await.unwrap();
    assert_eq!(own.report.ids.correlation.unwrap().as_str(), "own");
}

#[tokio::test]
async fn a_client_is_a_tower_service() {
    let (bad, good) = (FaultServer::start().unwrap(), FaultServer::start().unwrap());
    bad.set(Mode::status(503));
    good.set(Mode::Echo);
    let client = Client::builder()
        .endpoint("billing", bad.url())
        .endpoint("billing", good.url())
        .configure(|config| config.limits.body = 4_096)
        .build()
        .unwrap();
    let mut by_host = Outgoing::by_host(&client);
    for _ in 0..4 {
        let request = Request::put("http://billing/invoices/7?a=b")
            .header("x-mine", "1")
            .body(Full::new(Bytes::from_static(b"paid")))
            .unwrap();
        let response = by_host.call(request).await.unwrap();
        assert_eq!(response.status(), 200, "another endpoint answers");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let echo: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(echo["path"], "/invoices/7?a=b");
        assert_eq!((&echo["body"], &echo["method"]), (&"paid".into(), &"PUT".into()));
        assert_eq!(good.requests().pop().unwrap().header("x-mine"), Some("1"));
    }
    let mut fixed = Outgoing::to(&client, "billing");
    let request = Request::get("/x").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(fixed.call(request).await.unwrap().status(), 200);
    let refused = [
        Request::get("http://nobody/x").body(Full::default()),
        Request::get("/x").body(Full::default()),
        Request::put("http://billing/x").body(Full::new(Bytes::from(vec![0; 5_000]))),
    ];
    let count = bad.request_count() + good.request_count();
    for request in refused {
        let error = by_host.call(request.unwrap()).await.unwrap_err();
        assert!(error.downcast_ref::<Error>().is_some(), "{error}");
    }
    assert_eq!(bad.request_count() + good.request_count(), count);
}
