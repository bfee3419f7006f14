//! The connector: hyper's TCP connector, and TLS as the client wants it for each target at the moment
//! of connecting.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use origin_driver::hyper::ConnectError;
use origin_driver::last_words::LastWords;
use origin_driver::tls::{self, Tls};
use origin_driver::watched::Watched;
use tokio::net::TcpStream;
use tower_service::Service;

/// An open connection, plain or secured.
type Link = LastWords<MaybeHttpsStream<TokioIo<TcpStream>>>;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Connects to the origin of a URL.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    tls: Arc<Tls>,
}

impl Connector {
    pub(crate) fn new(tls: Arc<Tls>) -> Connector {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        Connector { tcp, tls }
    }
}

impl Service<Uri> for Connector {
    type Response = Watched<Link>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() != Some(&Scheme::HTTPS) {
            let tcp = self.tcp.call(uri);
            return Box::pin(async {
                let link = LastWords::new(MaybeHttpsStream::Http(tcp.await?));
                Ok(Watched::new(link, None))
            });
        }
        let (tcp, tls) = (self.tcp.clone(), self.tls.clone());
        Box::pin(async move {
            let (host, port) = (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(443));
            match secured(&tcp, &tls, &uri).await {
                Err(_) if tls.once_more(host, port) => secured(&tcp, &tls, &uri).await,
                stream => stream,
            }
        })
    }
}

/// A secured connection to the origin of `uri`.
async fn secured(
    tcp: &HttpConnector,
    tls: &Arc<Tls>,
    uri: &Uri,
) -> Result<Watched<Link>, BoxError> {
    let port = uri.port_u16().unwrap_or(443);
    let secured = tls.target(uri.host().unwrap_or_default(), port);
    let secured = secured.map_err(|fault| ConnectError { fault })?;
    let name = Arc::new(FixedServerNameResolver::new(secured.name));
    let mut https = HttpsConnector::new(tcp.clone(), secured.config, true, name);
    match https.call(uri.clone()).await {
        Ok(stream) => Ok(Watched::new(LastWords::new(stream), Some(secured.watch))),
        Err(error) => {
            if let Some(cause) = tls::cause(&*error) {
                secured.watch.note(cause);
            }
            Err(error)
        }
    }
}
