//! The Origin document over HTTP: a conditional `GET`, redirects on the same host, `max-age`.
//! A malformed document is a failed fetch and never replaces a good one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::super::document::Document;
use super::super::feed::MIN_TTL;
use super::{Data, DiscoveryError, Progress, unexpected};
use crate::address::Address;
use crate::config::{ConfigError, DiscoveryConfig};
use crate::headers;
use crate::job::{JobOutcome, Work};

/// Redirects followed, on the same host only.
const MOST_HOPS: u8 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::discovery) struct DocumentFetch {
    source: Address,
    max_bytes: usize,
    etag: Option<String>,
    detour: Option<(String, u8)>,
}

impl DocumentFetch {
    pub(in crate::discovery) fn new(
        config: &DiscoveryConfig,
    ) -> Result<DocumentFetch, ConfigError> {
        let source = Address::parse(&config.url)
            .ok()
            .filter(Address::is_http)
            .ok_or_else(|| ConfigError::new("discovery.url", "is not an absolute http URL"))?;
        let max_bytes = config.max_bytes;
        Ok(DocumentFetch { source, max_bytes, etag: None, detour: None })
    }

    pub(super) fn target(&self) -> Arc<str> {
        self.source.as_str().into()
    }

    pub(super) fn work(&self) -> Work {
        let mut request = http::Request::new(Bytes::new());
        let detour = self.detour.as_ref().and_then(|(uri, _)| uri.parse().ok());
        *request.uri_mut() = detour.or_else(|| self.source.uri()).unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*;q=0.1"));
        let etag = self.etag.as_deref();
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(IF_NONE_MATCH, etag);
        }
        Work::Http { request, max_body: self.max_bytes }
    }

    pub(super) fn done(
        &mut self,
        outcome: JobOutcome,
        held: bool,
        config: &DiscoveryConfig,
    ) -> Progress {
        let hops = self.detour.take().map_or(0, |(_, hops)| hops);
        match outcome {
            JobOutcome::Answered { status: 304, headers, .. } if held => {
                Progress::Same { ttl: ttl(&headers, config) }
            }
            JobOutcome::Answered { status: 200, headers, body } => {
                match Document::parse(&body, self.max_bytes) {
                    Ok(document) => {
                        self.etag = headers::etag(&headers);
                        let data = Data::Document(Arc::new(document));
                        Progress::Fresh { data, ttl: ttl(&headers, config) }
                    }
                    Err(bad) => Progress::Failed(DiscoveryError::Document(bad)),
                }
            }
            JobOutcome::Answered { status: status @ (301 | 302 | 307 | 308), headers, .. } => {
                match self.same_host(&headers) {
                    Some(uri) if hops < MOST_HOPS => {
                        self.detour = Some((uri, hops + 1));
                        Progress::More
                    }
                    _ => Progress::Failed(DiscoveryError::Redirect(status)),
                }
            }
            other => Progress::Failed(unexpected(other)),
        }
    }

    pub(super) fn dropped(&mut self) {
        self.detour = None;
    }

    pub(super) fn forget(&mut self) {
        (self.detour, self.etag) = (None, None);
    }

    /// The target of a redirect, if it stays on the host and scheme of the source.
    fn same_host(&self, headers: &HeaderMap) -> Option<String> {
        let target = headers.get(LOCATION)?.to_str().ok()?;
        let source = self.source.uri()?;
        let origin = format!("{}://{}", source.scheme_str()?, source.authority()?);
        let path = match target.strip_prefix(&origin) {
            Some(path) => path,
            None if target.starts_with('/') && !target.starts_with("//") => target,
            None => return None,
        };
        if !path.starts_with('/') || path.len() > 2048 {
            return None;
        }
        let uri: Uri = format!("{origin}{path}").parse().ok()?;
        Some(uri.to_string())
    }
}

/// `max-age` may shorten the configured time to live, not lengthen it.
fn ttl(headers: &HeaderMap, config: &DiscoveryConfig) -> Duration {
    headers::max_age(headers)
        .map_or(config.ttl, |age| age.clamp(MIN_TTL.min(config.ttl), config.ttl))
}
