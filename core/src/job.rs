//! Jobs: background work as data. A machine hands out what is to be done over the wire; a driver
//! does it and brings the result back. A job is a lease: one that never comes back is issued
//! again after its deadline.

use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};

use crate::outcome::Fault;
use crate::time::Time;

/// Names one issue of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub(crate) u64);

/// One HTTP exchange to be done: a `GET`.
#[derive(Clone, Debug)]
pub struct Job {
    /// To be given back with the result.
    pub id: JobId,
    /// Absolute URI.
    pub uri: Uri,
    /// Request headers.
    pub headers: HeaderMap,
    /// To be given up at this time.
    pub deadline: Time,
    /// Largest body to read, in bytes.
    pub max_body: usize,
}

/// What came of a job.
#[derive(Clone, Debug)]
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
    /// No usable response.
    Failed(Fault),
    /// The driver gave it up (its task was dropped); says nothing about the peer.
    Dropped,
}

/// Who asks for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A call, which can carry a job until this time.
    Call(Time),
    /// A background task, which promises to ask again at the time it is told.
    Background,
}

/// The answer to one who asks for a job.
#[derive(Clone, Debug)]
#[must_use]
pub enum Poll {
    /// Do this now.
    Run(Box<Job>),
    /// Nothing to do before this time.
    Wait(Time),
}
