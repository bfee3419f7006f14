//! The discovery endpoint: a server that publishes a registry document the
//! way a static nginx does, with validators, a redirect from the old path and
//! HTML for everything it does not know.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::document::Document;
use crate::http::{Answer, Request};
use crate::server::FaultServer;

/// A running discovery endpoint.
#[derive(Debug)]
pub struct Registry {
    server: FaultServer,
    published: Arc<RwLock<Published>>,
}

#[derive(Debug)]
struct Published {
    json: String,
    etag: String,
}

impl Published {
    fn new(document: &Document) -> Published {
        let json = document.to_json();
        let etag = etag_of(json.as_bytes());
        Published { json, etag }
    }
}

impl Registry {
    /// Starts to serve the document.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn start(document: &Document) -> io::Result<Registry> {
        let published = Arc::new(RwLock::new(Published::new(document)));
        let source = Arc::clone(&published);
        let server = FaultServer::named_with_handler(
            "discovery",
            "registry-0",
            Arc::new(move |request| respond(&source, request)),
        )?;
        Ok(Registry { server, published })
    }

    /// Replaces the document; the next request gets the new one.
    pub fn publish(&self, document: &Document) {
        let fresh = Published::new(document);
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// The URL of the document.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/api/v1/services", self.server.url())
    }

    /// The entity tag of the document now, with its quotes.
    #[must_use]
    pub fn etag(&self) -> String {
        read(&self.published, |published| published.etag.clone())
    }

    /// The server, to break it and to count what it was asked.
    #[must_use]
    pub fn server(&self) -> &FaultServer {
        &self.server
    }
}

fn read<T>(published: &RwLock<Published>, look: impl FnOnce(&Published) -> T) -> T {
    look(&published.read().unwrap_or_else(PoisonError::into_inner))
}

fn respond(published: &RwLock<Published>, request: &Request) -> Answer {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return Answer::html(405, &page("405 Not Allowed")).header("Allow", "GET, HEAD");
    }
    match request.route() {
        "/api/v1/services" | "/api/v1/discovery" => read(published, |now| {
            let answer = if request.has_match(&now.etag) {
                Answer::new(304)
            } else {
                Answer::bytes(200, "application/json", now.json.as_bytes())
            };
            answer.header("Cache-Control", "max-age=300").header("ETag", &now.etag)
        }),
        "/services" => {
            Answer::html(301, &page("301 Moved Permanently")).header("Location", "/api/v1/services")
        }
        "/health" => Answer::bytes(200, "application/json", "{\"status\":\"healthy\"}"),
        _ => Answer::html(404, &page("404 Not Found")),
    }
}

fn page(title: &str) -> String {
    format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n\
         <center><h1>{title}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
}

/// A strong entity tag: FNV-1a of the content. Not cryptographic, which a
/// validator does not need to be.
pub(crate) fn etag_of(content: &[u8]) -> String {
    let hash = content.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::Mode;
    use crate::probe::fetch;

    #[test]
    fn serves_validates_redirects_and_replaces() {
        let document = Document::new().last_updated("2026-01-01T00:00:00Z");
        let registry = Registry::start(&document).unwrap();
        let addr = registry.server().addr();
        for path in ["/api/v1/services", "/api/v1/discovery"] {
            let (status, head, body) = fetch(addr, path, "");
            assert_eq!(status, 200);
            assert!(head.contains("Cache-Control: max-age=300\r\n"), "{head}");
            assert_eq!(body, document.to_json().as_bytes());
        }
        let validator = format!("If-None-Match: {}\r\n", registry.etag());
        let (status, head, body) = fetch(addr, "/api/v1/services", &validator);
        assert_eq!((status, body.len()), (304, 0));
        assert!(!head.contains("Content-Length"), "{head}");

        let (status, head, _) = fetch(addr, "/services", "");
        assert_eq!(status, 301);
        assert!(head.contains("Location: /api/v1/services\r\n"), "{head}");
        let (status, head, _) = fetch(addr, "/api/v1/services/billing", "");
        assert_eq!(status, 404);
        assert!(head.contains("Content-Type: text/html"), "{head}");
        let (_, _, body) = fetch(addr, "/health", "");
        assert_eq!(body, b"{\"status\":\"healthy\"}");

        registry.publish(&document.environment("staging"));
        let (status, _, body) = fetch(addr, "/api/v1/services", &validator);
        assert_eq!(status, 200);
        assert!(String::from_utf8_lossy(&body).contains("staging"));

        registry.server().set(Mode::status(500));
        assert_eq!(fetch(addr, "/api/v1/services", "").0, 500);
    }
}
