//! The connectors up to a whole connection: [`Dial`], and TLS by [`Secure`] where the URL says so; from
//! the socket on once more where a server broke off instead of declining a session.

use std::sync::Arc;

use origin_driver::tls::Tls;
use ureq::Error;
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{ConnectionDetails, Connector, Either};

use crate::secure::{Secure, SecureWire};
use crate::wire::{Dial, Wire};

/// Connects to the origin of a URL.
#[derive(Debug)]
pub(crate) struct Connect(Secure);

impl Connect {
    pub(crate) fn new(tls: Arc<Tls>) -> Connect {
        Connect(Secure(tls))
    }
}

impl Connector for Connect {
    type Out = Either<Wire, SecureWire>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, Error> {
        let Connect(secure) = self;
        let wire = Dial.connect(details, chained)?;
        match secure.connect(details, wire) {
            Err(_) if details.needs_tls() && is_owed(&secure.0, details) => {
                let details = rest(details);
                let wire = Dial.connect(&details, chained)?;
                secure.connect(&details, wire)
            }
            connected => connected,
        }
    }
}

fn is_owed(tls: &Tls, details: &ConnectionDetails<'_>) -> bool {
    let host = details.uri.host().unwrap_or_default();
    tls.once_more(host, details.uri.port_u16().unwrap_or(443))
}

/// The same connection, with what is left of its time.
fn rest<'a>(details: &ConnectionDetails<'a>) -> ConnectionDetails<'a> {
    let now = (details.current_time)();
    let mut timeout = details.timeout;
    if let (Duration::Exact(span), Instant::Exact(began), Instant::Exact(now)) =
        (timeout.after, details.now, now)
    {
        let gone = now.saturating_duration_since(began);
        timeout.after = Duration::Exact(span.saturating_sub(gone));
    }
    ConnectionDetails {
        uri: details.uri,
        addrs: details.addrs.clone(),
        config: details.config,
        request_level: details.request_level,
        resolver: details.resolver,
        now,
        timeout,
        current_time: details.current_time.clone(),
        run_connector: details.run_connector.clone(),
        register_shutdown: details.register_shutdown.clone(),
    }
}
