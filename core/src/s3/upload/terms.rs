//! What an upload is told and what it tells: options, limits, wants, and the object in the end.

use std::time::Duration;

use super::super::ask::PutOptions;
use super::super::object::ETag;
use crate::request::{Report, Request};

/// Smallest part, in bytes, but for the last one.
pub const SMALLEST_PART: u64 = 5 << 20;
/// Largest part, in bytes.
pub const LARGEST_PART: u64 = 5 << 30;
/// Most parts of an object.
pub const MOST_PARTS: usize = 10_000;
/// What is written, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadOptions {
    /// Media type, metadata and the condition, which is put to the test at the end.
    pub object: PutOptions,
    /// Bytes of a part, 5 MiB to 5 GiB; default 8 MiB. So much memory is used. After 900 parts
    /// they are twice as large, after 1 800 four times, and so on.
    pub part_size: u64,
    /// How large the object will be, where that is known: parts are then made so large that they
    /// suffice, and need not grow. It may turn out otherwise.
    pub size: Option<u64>,
}

impl Default for UploadOptions {
    fn default() -> Self {
        UploadOptions { object: PutOptions::default(), part_size: 8 << 20, size: None }
    }
}

/// An object that was written.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// Its entity tag.
    pub etag: Option<ETag>,
    /// Which version it is, where the bucket has versions.
    pub version: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// In how many parts it was written; 0: as a whole.
    pub parts: usize,
    /// How the last call went.
    pub report: Report,
}

/// What an upload wants.
#[allow(clippy::large_enum_variant)] // moved once
#[derive(Debug)]
pub enum Want {
    /// More bytes, or to be told that there are none.
    More,
    /// This request to be sent after this pause, and [`Upload::answered`](crate::s3::Upload::answered) or
    /// [`Upload::failed`](crate::s3::Upload::failed).
    Send(Request, Duration),
    /// Nothing: the object is there.
    Done(Uploaded),
}
