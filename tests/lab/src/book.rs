//! What a server remembers of its visitors: counts, and the last requests.
//! Raw heads are kept and parsed only when somebody asks, because a server
//! under a benchmark is asked never.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::http::{Request, route_of};
use crate::lock;
use crate::wire::parse_head;

/// How many of the last requests a server remembers.
pub const SEEN_LIMIT: usize = 1024;
/// How many different paths are counted one by one; a benchmark that asks for
/// a new path each time must not fill the memory.
const PATH_LIMIT: usize = 4096;

/// One request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Header lines in order.
    pub headers: Vec<(String, String)>,
    /// Length of the body, chunked framing removed.
    pub body_len: usize,
    /// When the request was complete.
    pub at: Instant,
}

impl Seen {
    /// The first header of that name, compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        crate::http::find(&self.headers, name)
    }
}

/// The counters of a server at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections accepted since the start or the last reset.
    pub connections_accepted: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Complete requests since the start or the last reset.
    pub requests: u64,
    /// Requests per path without query; at most 4096 different ones.
    pub paths: BTreeMap<String, u64>,
}

impl Stats {
    /// Requests for that path (without query).
    #[must_use]
    pub fn path(&self, path: &str) -> u64 {
        self.paths.get(path).copied().unwrap_or(0)
    }
}

#[derive(Debug, Default)]
struct Pages {
    paths: HashMap<String, u64>,
    last: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    head: Vec<u8>,
    body_len: usize,
    at: Instant,
}

/// The visitors' book of one server.
#[derive(Debug, Default)]
pub(crate) struct Book {
    accepted: AtomicU64,
    requests: AtomicU64,
    pages: Mutex<Pages>,
}

impl Book {
    /// A connection was accepted.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A complete request arrived.
    pub(crate) fn arrived(&self, head: &[u8], request: &Request) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let at = Instant::now();
        let mut pages = lock(&self.pages);
        let route = route_of(&request.path);
        if let Some(count) = pages.paths.get_mut(route) {
            *count += 1;
        } else if pages.paths.len() < PATH_LIMIT {
            pages.paths.insert(route.to_owned(), 1);
        }
        // The oldest entry's buffer is used again: no allocation once full.
        let mut entry = match pages.last.len() {
            SEEN_LIMIT.. => pages.last.pop_front(),
            _ => None,
        }
        .unwrap_or_else(|| Entry { head: Vec::new(), body_len: 0, at });
        entry.head.clear();
        entry.head.extend_from_slice(head);
        entry.body_len = request.body.len();
        entry.at = at;
        pages.last.push_back(entry);
    }

    /// The counters, with the number of open connections that the caller
    /// knows.
    pub(crate) fn stats(&self, open: u64) -> Stats {
        Stats {
            connections_accepted: self.accepted.load(Ordering::Relaxed),
            connections_open: open,
            requests: self.requests.load(Ordering::Relaxed),
            paths: lock(&self.pages)
                .paths
                .iter()
                .map(|(path, count)| (path.clone(), *count))
                .collect(),
        }
    }

    /// Complete requests so far: cheaper than the whole statistics.
    pub(crate) fn requests_so_far(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The remembered requests, oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let pages = lock(&self.pages);
        pages
            .last
            .iter()
            .filter_map(|entry| {
                // Every head in the book was parsed once already.
                let (request, _) = parse_head(&entry.head).ok()?;
                Some(Seen {
                    method: request.method,
                    path: request.path,
                    headers: request.headers,
                    body_len: entry.body_len,
                    at: entry.at,
                })
            })
            .collect()
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        let mut pages = lock(&self.pages);
        pages.paths.clear();
        pages.last.clear();
        self.accepted.store(0, Ordering::Relaxed);
        self.requests.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(book: &Book, path: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (request, _) = parse_head(head.as_bytes()).unwrap();
        book.arrived(head.as_bytes(), &request);
    }

    #[test]
    fn counts_by_path_without_query_and_remembers_in_order() {
        let book = Book::default();
        arrive(&book, "/a?1");
        arrive(&book, "/a?2");
        arrive(&book, "/b");
        let stats = book.stats(7);
        assert_eq!((stats.path("/a"), stats.path("/b")), (2, 1));
        assert_eq!((stats.requests, stats.connections_open), (3, 7));
        let seen = book.seen();
        assert_eq!(seen[1].path, "/a?2");
        assert_eq!(seen[0].header("HOST"), Some("x"));
        book.reset();
        assert_eq!(book.stats(0), Stats::default());
        assert!(book.seen().is_empty());
    }

    #[test]
    fn both_memories_are_bounded() {
        let book = Book::default();
        for number in 0..PATH_LIMIT + 50 {
            arrive(&book, &format!("/{number}"));
        }
        let seen = book.seen();
        assert_eq!(seen.len(), SEEN_LIMIT);
        assert_eq!(seen[SEEN_LIMIT - 1].path, format!("/{}", PATH_LIMIT + 49));
        assert_eq!(book.stats(0).paths.len(), PATH_LIMIT);
        assert_eq!(book.stats(0).requests, (PATH_LIMIT + 50) as u64);
    }
}
