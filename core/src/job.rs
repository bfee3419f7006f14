//! Jobs: background work as data. A machine hands out what is to be done over the wire; a driver
//! does it and brings the result back. A job is a lease: one that never comes back is issued
//! again after its deadline.
//!
//! Two kinds: a [`Job`] brings discovery data or looks after what is cached or registered (a call
//! may carry it), a [`Check`] asks an endpoint how it is (only a background does that).

use core::fmt;
use core::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::outcome::Fault;
use crate::policy::health::ProbeId;
use crate::redis::{Command, Reply};
use crate::time::Time;

/// Names one issue of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub(crate) u64);

/// Who issued a job, told by the topmost bits of its number: results find their way back by them.
/// In one place, so that no two machines have the same. Discovery has none.
pub(crate) mod mark {
    /// Consul as applications use it.
    pub(crate) const REGISTRY: u64 = 1 << 63;
    /// What is followed in Consul beside services; together with the one above, its files.
    pub(crate) const FOLLOWED: u64 = 1 << 62;
    /// The token of Vault.
    pub(crate) const VAULT: u64 = 1 << 61;
    /// The files of an identity.
    pub(crate) const IDENTITY: u64 = 1 << 60;
    /// The files of storage.
    pub(crate) const STORAGE: u64 = 1 << 59;
    /// The file of what was learnt.
    pub(crate) const STATE: u64 = 1 << 58;
    /// All of them.
    pub(crate) const ALL: u64 = REGISTRY | FOLLOWED | VAULT | IDENTITY | STORAGE | STATE;
}

/// Background work to be done.
#[derive(Clone, Debug)]
pub struct Job {
    /// To be given back with the result.
    pub id: JobId,
    /// What to do.
    pub work: Work,
    /// To be given up at this time, reported as [`Fault::Timeout`].
    pub deadline: Time,
}

impl Job {
    /// The request, where this is an HTTP exchange.
    #[must_use]
    pub fn http(&self) -> Option<&http::Request<Bytes>> {
        match &self.work {
            Work::Http { request, .. } => Some(request),
            _ => None,
        }
    }
}

/// What a job does. One exchange each, without retries, redirects or fallbacks: those are
/// decided by whoever made the job. `Debug` shows neither headers nor content: a login has its
/// secret in the body.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // in a box already: see Poll
pub enum Work {
    /// One HTTP exchange; the request has an absolute URI.
    Http {
        /// The request.
        request: http::Request<Bytes>,
        /// Largest body to read, in bytes.
        max_body: usize,
    },
    /// One DNS message to be sent to a server, and its answer: over UDP one datagram of at most
    /// 64 KiB, from that server only; over TCP with the length in front (RFC 1035 §4.2.2).
    Dns {
        /// The server.
        server: SocketAddr,
        /// The message, without the length.
        query: Bytes,
        /// Whether over TCP.
        tcp: bool,
    },
    /// Redis commands, sent together; as many replies, in their order.
    Redis(Vec<Command>),
    /// A file to be read.
    Read {
        /// Its path.
        path: Arc<str>,
        /// Largest file to read, in bytes; a larger one is [`Fault::BodyTooLarge`].
        most: usize,
    },
    /// A file to be replaced as a whole: written beside it, then renamed.
    Write {
        /// Its path.
        path: Arc<str>,
        /// Its new content.
        content: Bytes,
    },
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Http { request, .. } => {
                let (uri, bytes) = (request.uri(), request.body().len());
                let (scheme, authority) = (uri.scheme_str(), uri.authority());
                let (scheme, host) = (scheme.unwrap_or(""), authority.map_or("", |a| a.as_str()));
                let (method, path) = (request.method(), uri.path());
                write!(f, "Http({method} {scheme}://{host}{path}, {bytes} body bytes)")
            }
            Work::Dns { server, query, tcp } => {
                write!(f, "Dns({server}, {} bytes, tcp: {tcp})", query.len())
            }
            Work::Redis(commands) => f.debug_tuple("Redis").field(commands).finish(),
            Work::Read { path, most } => write!(f, "Read({path:?}, at most {most} bytes)"),
            Work::Write { path, content } => write!(f, "Write({path:?}, {} bytes)", content.len()),
        }
    }
}

/// What came of a job. `Debug` shows no content: a login is answered with a token, and a file may
/// hold one.
#[derive(Clone)]
pub enum JobOutcome {
    /// A response, body and all.
    Answered {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: HeaderMap,
        /// Its body.
        body: Bytes,
    },
    /// The answer to a DNS message, without a length in front.
    Datagram(Bytes),
    /// The replies of Redis.
    Replies(Vec<Reply>),
    /// The content of a file; `None` when there is none.
    Content(Option<Bytes>),
    /// The file is written.
    Written,
    /// No usable response.
    Failed(Fault),
    /// The file cannot be read or written, or the work is none for this adapter (built without
    /// Redis, say): the reason, for people.
    Impossible(Arc<str>),
    /// The driver gave it up (its task was dropped); says nothing about the peer.
    Dropped,
}

impl fmt::Debug for JobOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobOutcome::Answered { status, headers, body } => {
                let (headers, bytes) = (headers.len(), body.len());
                write!(f, "Answered({status}, {headers} headers, {bytes} body bytes)")
            }
            JobOutcome::Datagram(bytes) => write!(f, "Datagram({} bytes)", bytes.len()),
            JobOutcome::Replies(replies) => f.debug_tuple("Replies").field(replies).finish(),
            JobOutcome::Content(Some(bytes)) => write!(f, "Content({} bytes)", bytes.len()),
            JobOutcome::Content(None) => f.write_str("Content(none)"),
            JobOutcome::Written => f.write_str("Written"),
            JobOutcome::Failed(fault) => f.debug_tuple("Failed").field(fault).finish(),
            JobOutcome::Impossible(why) => f.debug_tuple("Impossible").field(why).finish(),
            JobOutcome::Dropped => f.write_str("Dropped"),
        }
    }
}

/// Who asks for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker<'a> {
    /// A call on a service, which can carry a job until this time.
    Call {
        /// The service.
        service: &'a str,
        /// The deadline of the call.
        until: Time,
    },
    /// A background task, which promises to ask again at the time it is told.
    Background,
}

/// The answer to one who asks for a job.
#[derive(Clone, Debug)]
#[must_use]
pub enum Poll<T = Job> {
    /// Do this now.
    Run(Box<T>),
    /// Nothing to do before this time.
    Wait(Time),
}

/// Names one health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CheckId(pub(crate) ProbeId);

/// One health check to be done.
#[derive(Clone, Debug)]
pub struct Check {
    /// To be given back with the result.
    pub id: CheckId,
    /// What to do.
    pub how: How,
    /// The endpoint that is checked.
    pub address: Address,
    /// To be given up at this time, reported as [`Fault::Timeout`].
    pub deadline: Time,
}

/// What a health check does.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // in a box already: see Poll
pub enum How {
    /// One HTTP exchange, by the version the request names: HTTP/1.1, or HTTP/2 for gRPC.
    Http {
        /// The request, with its absolute URI.
        request: http::Request<Bytes>,
        /// Largest body to read, in bytes.
        max_body: usize,
    },
    /// A connection to the address, closed at once.
    Connect,
    /// The check that the application has registered under this name.
    Custom(Arc<str>),
}

/// What came of a health check.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // handed on once
pub enum CheckOutcome {
    /// A response.
    Answered {
        /// Its status.
        status: u16,
        /// Its headers.
        headers: HeaderMap,
        /// Its body.
        body: Bytes,
        /// Its trailers, if any.
        trailers: Option<HeaderMap>,
    },
    /// The connection was made.
    Connected,
    /// A custom check ended: 0 is healthy, 1 degraded, anything else unhealthy; `None` when it
    /// was killed.
    Ended(Option<i32>),
    /// No usable response.
    Failed(Fault),
    /// The driver gave it up, or cannot do it; says nothing about the endpoint.
    Dropped,
}
