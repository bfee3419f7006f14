//! The protocol of S3 as data: what a request looks like, what signs it, what a reply means. It
//! knows MinIO, which the systems behind Origin run, and whatever else speaks the same. Typed
//! operations over it are in [`crate::ops::storage`].
//!
//! | file | what lives there |
//! |---|---|
//! | `credentials.rs` | who signs, from where |
//! | `rotation.rs` | the files of credentials, read again |
//! | `canonical.rs`, `sign.rs`, `date.rs` | Signature Version 4, in headers and URLs |
//! | `ask.rs` | requests |
//! | `xml.rs` | a small bounded reader of XML |
//! | `error.rs`, `list.rs`, `object.rs` | what replies say |
//! | `download.rs` | reading an object to its end over broken connections |
//! | `multipart.rs` | writing in parts: requests, and what replies say |
//! | `upload.rs` | writing an object of any size, part by part |

pub(crate) mod ask;
mod canonical;
pub mod credentials;
pub(crate) mod date;
pub mod download;
pub mod error;
pub mod list;
pub mod multipart;
pub mod object;
pub mod rotation;
pub mod sign;
pub mod upload;
mod xml;

pub use ask::{GetOptions, PutOptions};
pub use credentials::{Credentials, Place, Settings};
pub use download::{Download, Then};
pub use error::{Code, StorageError};
pub use list::{Entry, ListOptions, Page};
pub use object::{ByteRange, ETag, Info};
pub use sign::Signer;
pub use upload::{Upload, UploadOptions, Uploaded};
pub use xml::BadXml;
