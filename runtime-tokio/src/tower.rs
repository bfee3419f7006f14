//! A client in a program made of tower services: [`Outgoing`] is the client as a
//! `tower_service::Service`, [`Carry`] a layer for the server side that hands the id, the trace and
//! the deadline of an incoming request on to the calls made for it.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http::uri::PathAndQuery;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use origin_core::ops::{Caller as _, Flow, Step};
use origin_core::{Error, Request, Response};
use origin_driver::Carried;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Client, Tokio};

/// Any error.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

tokio::task_local! {
    /// For whom the present task works.
    static CARRIED: Carried<Tokio>;
}

/// For whom the present task works: what [`Carry`] has put there, if anything.
pub(crate) fn present() -> Option<Carried<Tokio>> {
    CARRIED.try_with(Clone::clone).ok()
}

/// A client as a tower service. Which of its services a request is for says the host of the
/// request's URI, or the one name it was made for.
///
/// The bodies of requests and responses are collected within `limits.body`, because an attempt may
/// have to be repeated; trailers of a response, which gRPC puts its status in, are passed on with its
/// body. A call of gRPC is one request and one answer then, no stream. A status is a response,
/// whatever it is, as long as it is not one that is repeated.
///
/// ```
/// # use origin_lab::FaultServer;
/// # let server = FaultServer::start().unwrap();
/// # let url = server.url();
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use http_body_util::Empty;
/// use origin_tokio::Client;
/// use origin_tokio::tower::Outgoing;
/// use tower_service::Service;
///
/// let client = Client::builder().endpoint("billing", url).build()?;
/// let mut service = Outgoing::by_host(&client);
/// let request = http::Request::get("http://billing/invoices/7").body(Empty::<bytes::Bytes>::new())?;
/// assert_eq!(service.call(request).await?.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Outgoing {
    client: Client,
    service: Option<Arc<str>>,
}

impl Outgoing {
    /// Every request goes to this service; the host of its URI does not matter.
    #[must_use]
    pub fn to(client: &Client, service: &str) -> Outgoing {
        Outgoing { client: client.clone(), service: Some(service.into()) }
    }

    /// A request goes to the service that is named by the host of its URI.
    #[must_use]
    pub fn by_host(client: &Client) -> Outgoing {
        Outgoing { client: client.clone(), service: None }
    }
}

impl<B> Service<http::Request<B>> for Outgoing
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = http::Response<Whole>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // What has to wait, waits in its call, where its deadline counts.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let Outgoing { client, service } = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let service = service.or_else(|| head.uri.host().map(Arc::from));
            let refused = |reason: &str| Error::Request {
                service: service.clone().unwrap_or_default(),
                reason: reason.to_owned(),
            };
            let Some(service) = service.clone() else {
                return Err(refused("the URI has no host that would name a service").into());
            };
            let body = collected(body, client.config().limits.body).await?;
            let path = head.uri.path_and_query().cloned();
            let path = path.unwrap_or(PathAndQuery::from_static("/"));
            let mut outgoing = Request::new(head.method, path);
            outgoing.headers = head.headers;
            // Of the connection it came over, and of a host that is a name here.
            for name in [http::header::HOST, http::header::CONNECTION] {
                outgoing.headers.remove(name);
            }
            // The one thing about a connection that goes through it: gRPC asks for it.
            if outgoing.headers.get(http::header::TE).is_some_and(|te| te != "trailers") {
                outgoing.headers.remove(http::header::TE);
            }
            outgoing.body = body.ok_or_else(|| refused("its body exceeds limits.body"))?;
            let answer = client.run(Once { service, request: Some(outgoing) }).await?;
            let mut response = http::Response::new(Whole {
                data: Some(answer.body).filter(|data| !data.is_empty()),
                trailers: answer.trailers,
            });
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            // It is collected now, and whole.
            response.headers_mut().remove(http::header::TRANSFER_ENCODING);
            Ok(response)
        })
    }
}

/// The body of a response: collected, in one piece, and the trailers after it.
#[derive(Debug, Default)]
pub struct Whole {
    data: Option<Bytes>,
    trailers: Option<Box<HeaderMap>>,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.data.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(|them| Frame::trailers(*them)));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}

/// The whole body; `None` when it is too large.
async fn collected<B>(body: B, most: u64) -> Result<Option<Bytes>, BoxError>
where
    B: http_body::Body + Send,
    B::Error: Into<BoxError>,
{
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    if body.is_end_stream() {
        return Ok(Some(Bytes::new()));
    }
    match Limited::new(std::pin::pin!(body), most).collect().await {
        Ok(whole) => Ok(Some(whole.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(error),
    }
}

/// One request and its response.
struct Once {
    service: Arc<str>,
    request: Option<Request>,
}

impl Flow for Once {
    type Output = Response;

    fn service(&self) -> &str {
        &self.service
    }

    fn next(&mut self, reply: Option<Response>) -> Result<Step<Response>, Error> {
        let over = || Error::Request {
            service: self.service.clone(),
            reason: "the request has been sent".to_owned(),
        };
        match reply {
            Some(response) => Ok(Step::Done(response)),
            None => self.request.take().map(Step::Send).ok_or_else(over),
        }
    }
}

/// A layer around a server's service: every call that a client on tokio makes while a request is
/// served, in the same task, goes under the correlation id of that request, in its trace, and for
/// as long as its caller waits at most (where `policy.propagate.accept` of the client says so). What
/// a call is given itself counts more. A task that is spawned works for nobody; hand it
/// [`Client::carried`] and use [`RequestBuilder::carried`](crate::RequestBuilder::carried).
///
/// With axum: `Router::new().route(…).layer(Carry::with(&client))`.
#[derive(Clone, Debug)]
pub struct Carry {
    client: Client,
}

impl Carry {
    /// Reads incoming requests by the configuration of this client.
    #[must_use]
    pub fn with(client: &Client) -> Carry {
        Carry { client: client.clone() }
    }
}

impl<S> Layer<S> for Carry {
    type Service = Carrying<S>;

    fn layer(&self, inner: S) -> Carrying<S> {
        Carrying { client: self.client.clone(), inner }
    }
}

/// A service in a [`Carry`].
#[derive(Clone, Debug)]
pub struct Carrying<S> {
    client: Client,
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Carrying<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = tokio::task::futures::TaskLocalFuture<Carried<Tokio>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let carried = self.client.carried(request.headers());
        let future = CARRIED.sync_scope(carried.clone(), || self.inner.call(request));
        CARRIED.scope(carried, future)
    }
}
