//! The server of the laboratory: one port, one mode at a time, a thread per
//! connection. This room is its life (start, change, end) and its bookkeeping;
//! what a mode does to a request lives in `conduct`.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::accept::{Listening, Port};
use crate::book::{Book, Seen, Stats};
use crate::conduct;
use crate::connection::{Connection, End};
use crate::http::{Answer, Request};
use crate::lock;
use crate::mode::{Mode, Plan};

/// A test's own logic: what `Mode::Ok` answers instead of the default body.
pub type Handler = Arc<dyn Fn(&Request) -> Answer + Send + Sync>;

/// More open connections than this are closed as soon as they are accepted:
/// a runaway client must not exhaust the machine's threads.
const CONNECTION_LIMIT: usize = 4096;
/// How long a drop waits for connection threads that run a slow handler.
const DROP_PATIENCE: Duration = Duration::from_secs(5);
/// Small, because there may be many; large enough for JSON in a debug build.
const STACK: usize = 256 * 1024;

/// An HTTP/1.1 server on loopback that misbehaves on command.
pub struct FaultServer {
    port: Port,
    shared: Arc<Shared>,
    // Also serialises mode changes: a change is complete when `set` returns.
    listening: Mutex<Option<Listening>>,
}

impl std::fmt::Debug for FaultServer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("FaultServer")
            .field("addr", &self.port.addr())
            .field("cluster", &self.shared.cluster)
            .field("instance", &self.shared.instance)
            .field("mode", &self.mode())
            .finish_non_exhaustive()
    }
}

impl FaultServer {
    /// Starts a server in `Mode::Ok` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When the system has no port, descriptor or thread left.
    pub fn start() -> io::Result<FaultServer> {
        FaultServer::build("lab", "lab-0", None)
    }

    /// Starts a server that names this cluster and instance in its answers.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn named(cluster: &str, instance: &str) -> io::Result<FaultServer> {
        FaultServer::build(cluster, instance, None)
    }

    /// Starts a server whose `Mode::Ok` (and `Slow`, and the healthy turns of
    /// `Flaky` and `Sequence`) calls the handler. A handler that panics
    /// closes its connection.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn with_handler(handler: Handler) -> io::Result<FaultServer> {
        FaultServer::build("lab", "lab-0", Some(handler))
    }

    /// Name and handler together.
    ///
    /// # Errors
    /// As [`FaultServer::start`].
    pub fn named_with_handler(
        cluster: &str,
        instance: &str,
        handler: Handler,
    ) -> io::Result<FaultServer> {
        FaultServer::build(cluster, instance, Some(handler))
    }

    fn build(cluster: &str, instance: &str, handler: Option<Handler>) -> io::Result<FaultServer> {
        let server = FaultServer {
            port: Port::reserve()?,
            shared: Arc::new(Shared {
                cluster: cluster.to_owned(),
                instance: instance.to_owned(),
                handler,
                book: Book::default(),
                plan: RwLock::new(Arc::new(Plan::new(Mode::Ok))),
                visitors: Mutex::new(Visitors::default()),
                left: Condvar::new(),
            }),
            listening: Mutex::new(None),
        };
        *lock(&server.listening) = Some(server.listen()?);
        Ok(server)
    }

    fn listen(&self) -> io::Result<Listening> {
        let shared = Arc::clone(&self.shared);
        self.port.listen(move |stream| shared.admit(stream))
    }

    /// The address, the same for the whole life of the server.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The address as a URL without a path.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// Changes the mode; complete when it returns. Should the system refuse
    /// to let the port listen again, the server stays in `Mode::Refuse`, as
    /// [`FaultServer::mode`] then says; [`FaultServer::try_set`] tells why.
    pub fn set(&self, mode: Mode) {
        let _ = self.try_set(mode);
    }

    /// Changes the mode; complete when it returns.
    ///
    /// # Errors
    /// When the port cannot listen again after `Mode::Refuse`. The server is
    /// then still refusing.
    pub fn try_set(&self, mode: Mode) -> io::Result<()> {
        let mut listening = lock(&self.listening);
        let refuse = mode == Mode::Refuse;
        let kills = mode.kills();
        self.shared.enter(mode);
        if refuse {
            *listening = None;
        } else if listening.is_none() {
            match self.listen() {
                Ok(started) => *listening = Some(started),
                Err(error) => {
                    self.shared.enter(Mode::Refuse);
                    return Err(error);
                }
            }
        }
        // After the listener is gone, so that nobody slips in between.
        if kills {
            self.shared.end_all(End::Reset);
        }
        Ok(())
    }

    /// The mode as it was set.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.plan().mode().clone()
    }

    /// The counters now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let open = lock(&self.shared.visitors).open;
        self.shared.book.stats(open as u64)
    }

    /// Complete requests since the start or the last reset, without the cost
    /// of the whole statistics.
    #[must_use]
    pub fn request_count(&self) -> u64 {
        self.shared.book.requests_so_far()
    }

    /// The last requests, oldest first, at most [`crate::SEEN_LIMIT`].
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.book.seen()
    }

    /// Forgets the counts and the requests; open connections stay counted.
    pub fn reset_counts(&self) {
        self.shared.book.reset();
    }

    /// Closes every open connection without changing the mode, as an idle
    /// timeout of a proxy does.
    pub fn close_connections(&self) {
        self.shared.end_all(End::Close);
    }
}

impl Drop for FaultServer {
    fn drop(&mut self) {
        *lock(&self.listening) = None;
        self.shared.end_all(End::Close);
        self.shared.wait_until_empty(DROP_PATIENCE);
    }
}

/// What the server and its connection threads share.
pub(crate) struct Shared {
    pub(crate) cluster: String,
    pub(crate) instance: String,
    pub(crate) handler: Option<Handler>,
    pub(crate) book: Book,
    plan: RwLock<Arc<Plan>>,
    visitors: Mutex<Visitors>,
    left: Condvar,
}

#[derive(Default)]
struct Visitors {
    next: u64,
    // Threads whose socket is not closed yet; at least as many as listed.
    open: usize,
    listed: HashMap<u64, Arc<Connection>>,
}

impl Shared {
    /// The plan in force.
    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether that plan is still the one in force.
    pub(crate) fn follows(&self, plan: &Arc<Plan>) -> bool {
        Arc::ptr_eq(&self.plan(), plan)
    }

    fn enter(&self, mode: Mode) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Plan::new(mode));
        // Connections held by HangOnAccept watch for a change of plan.
        for connection in lock(&self.visitors).listed.values() {
            connection.nudge();
        }
    }

    fn end_all(&self, how: End) {
        // Under the lock: a listed connection cannot be closed meanwhile.
        for connection in lock(&self.visitors).listed.values() {
            connection.end(how);
        }
    }

    fn wait_until_empty(&self, patience: Duration) {
        let give_up = Instant::now() + patience;
        let mut visitors = lock(&self.visitors);
        while visitors.open > 0 {
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            visitors =
                self.left.wait_timeout(visitors, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn admit(self: &Arc<Shared>, stream: TcpStream) {
        self.book.accepted();
        let connection = Arc::new(Connection::new(stream));
        let id = {
            let mut visitors = lock(&self.visitors);
            if visitors.open >= CONNECTION_LIMIT {
                return;
            }
            visitors.next += 1;
            visitors.open += 1;
            let id = visitors.next;
            visitors.listed.insert(id, Arc::clone(&connection));
            id
        };
        let visit = Visit { shared: Arc::clone(self), connection: Some(connection), id };
        // Should the thread not start, dropping the visit cleans up.
        let _ = thread::Builder::new().name("lab-connection".into()).stack_size(STACK).spawn(
            move || {
                if let Some(connection) = &visit.connection {
                    conduct::serve(&visit.shared, connection);
                }
            },
        );
    }
}

/// One connection's stay. Its drop takes it off the list, closes the socket,
/// and only then counts it as left, also when a handler panics.
struct Visit {
    shared: Arc<Shared>,
    connection: Option<Arc<Connection>>,
    id: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        lock(&self.shared.visitors).listed.remove(&self.id);
        self.connection = None;
        lock(&self.shared.visitors).open -= 1;
        self.shared.left.notify_all();
    }
}
