//! `origin object`: objects of storage, to and from files and pipes. How far a transfer is shows a
//! `bar`.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use origin_blocking::core::s3::{GetOptions, ListOptions, PutOptions, UploadOptions};
use origin_blocking::{Client, Download, Error};
use serde_json::json;

use crate::bar::Bar;
use crate::content::Content;
use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::{input, signal, text};

/// Read at a time.
const PIECE: usize = 64 << 10;

/// The command line of `origin object`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Read an object, to stdout or a file.
    Get {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// Write to this file. It appears when it is complete, and not before.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
        #[command(flatten)]
        place: Where,
    },
    /// Write an object, from a file or stdin.
    Put {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The file, or - for stdin.
        file: PathBuf,
        /// Its media type.
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// Only if there is none of this key yet.
        #[arg(long)]
        only_new: bool,
        #[command(flatten)]
        place: Where,
    },
    /// List the keys of a bucket.
    Ls {
        /// The bucket.
        bucket: String,
        /// Only keys that begin so.
        #[arg(default_value = "")]
        prefix: String,
        /// Print JSON, an object on a line.
        #[arg(long)]
        json: bool,
        /// Stop after so many.
        #[arg(long, short = 'n', value_name = "KEYS", default_value_t = 100_000)]
        count: usize,
        #[command(flatten)]
        place: Where,
    },
    /// Delete an object. One that is not there is no error.
    Rm {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        #[command(flatten)]
        place: Where,
    },
}

pub(crate) fn run(args: &Args) -> Result<u8, Refusal> {
    match &args.what {
        What::Get { bucket, key, output, place } => {
            let client = place.client()?.build()?;
            get(&client, bucket, key, output.as_deref())
        }
        What::Put { bucket, key, file, content_type, only_new, place } => {
            let client = place.client()?.build()?;
            let options = PutOptions {
                content_type: content_type.clone(),
                only_new: *only_new,
                ..PutOptions::default()
            };
            put(&client, (bucket, key), file, options)
        }
        What::Ls { bucket, prefix, json, count, place } => {
            let client = place.client()?.build()?;
            list(&client, bucket, prefix, *json, *count)
        }
        What::Rm { bucket, key, place } => {
            place.client()?.build()?.storage().delete_object(bucket, key)?;
            Ok(exit::OK)
        }
    }
}

/// Writes an object piece by piece: memory does not grow with it.
fn put(client: &Client, at: (&str, &str), file: &Path, object: PutOptions) -> Result<u8, Refusal> {
    let (mut source, size) = input::open(file)?;
    let options = UploadOptions { object, size, ..UploadOptions::default() };
    let mut upload = client.storage().upload_with(at.0, at.1, options);
    let mut bar = Bar::new(at.1, size);
    let mut piece = vec![0; PIECE];
    loop {
        let count = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Refusal::file(&input::name(file), &error)),
        };
        upload.write_all(piece.get(..count).unwrap_or_default()).map_err(broken)?;
        bar.moved_to(upload.stored(), size);
        if upload.stored() > 0 {
            // There are parts by now, and whoever is ended takes them away.
            signal::heed();
        }
        goes_on()?;
    }
    let written = upload.finish()?;
    drop(bar);
    if let Some(etag) = written.etag {
        text::print(format!("{}\n", text::clean(&etag.to_string())).as_bytes())?;
    }
    Ok(exit::OK)
}

/// Refuses to go on once the transfer was ended from outside.
fn goes_on() -> Result<(), Refusal> {
    match signal::came() {
        true => Err(Refusal::Unusable("interrupted".to_owned(), "nothing was left behind")),
        false => Ok(()),
    }
}

fn get(client: &Client, bucket: &str, key: &str, to: Option<&Path>) -> Result<u8, Refusal> {
    let mut download = client.storage().download(bucket, key, GetOptions::default());
    // A bar beside the content itself would be written into it.
    let mut bar = (to.is_some() || !io::stdout().is_terminal()).then(|| Bar::new(key, None));
    // The first piece decides: what is not there leaves no file behind.
    let mut piece = vec![0; PIECE];
    let first = next(&mut download, &mut piece)?;
    let copied = match to {
        None => {
            let mut out = Content::to_stdout();
            let copied = copy(&mut download, &mut piece, first, &mut bar, |bytes| out.write(bytes));
            copied.and_then(|()| out.end())
        }
        Some(path) => {
            let refuse = |error: io::Error| Refusal::file(&path.display().to_string(), &error);
            let part = PathBuf::from(format!("{}.part", path.display()));
            // Whoever is ended takes it away.
            signal::heed();
            let written = File::create(&part).map_err(refuse).and_then(|mut file| {
                copy(&mut download, &mut piece, first, &mut bar, |bytes| {
                    file.write_all(bytes).map_err(refuse)
                })?;
                file.sync_all().and_then(|()| fs::rename(&part, path)).map_err(refuse)
            });
            if written.is_err() {
                let _ = fs::remove_file(&part);
            }
            written
        }
    };
    copied.map(|()| exit::OK)
}

/// Hands on what comes, beginning with what has come already.
fn copy(
    download: &mut Download,
    piece: &mut [u8],
    first: usize,
    bar: &mut Option<Bar>,
    mut write: impl FnMut(&[u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let (mut count, mut done) = (first, 0);
    while count > 0 {
        write(piece.get(..count).unwrap_or_default())?;
        done += count as u64;
        if let Some(bar) = bar {
            bar.moved_to(done, total(download));
        }
        goes_on()?;
        count = next(download, piece)?;
    }
    Ok(())
}

fn total(download: &Download) -> Option<u64> {
    download.info().and_then(|info| info.size)
}

/// The next bytes; none at the end.
fn next(download: &mut Download, piece: &mut [u8]) -> Result<usize, Refusal> {
    download.read(piece).map_err(broken)
}

/// The error of the library, whole, where it is one.
fn broken(error: io::Error) -> Refusal {
    let unusable = |error: io::Error| {
        Refusal::Unusable(format!("the transfer broke off: {error}"), "try again")
    };
    match error.downcast::<Error>() {
        Ok(error) => Refusal::Error(error),
        Err(error) => unusable(error),
    }
}

fn list(
    client: &Client,
    bucket: &str,
    prefix: &str,
    json: bool,
    most: usize,
) -> Result<u8, Refusal> {
    let storage = client.storage();
    let page = u16::try_from(most.clamp(1, 1000)).unwrap_or(1000);
    let options = ListOptions { page, ..ListOptions::prefix(prefix) };
    let (mut after, mut seen) = (None, 0);
    loop {
        let page = storage.list_page(bucket, &options, after.as_deref())?;
        let objects = page.objects.iter().take(most - seen);
        seen += objects.len();
        if json {
            for one in objects {
                let etag = one.etag.as_ref().map(ToString::to_string);
                text::print_json(&json!({"key": one.key, "size": one.size, "etag": etag}))?;
            }
        } else {
            let mut lines = String::new();
            for one in objects {
                lines.push_str(&format!("{:>12}  {}\n", one.size, text::clean(&one.key)));
            }
            text::print(lines.as_bytes())?;
        }
        if page.next.is_none() || seen >= most {
            return Ok(exit::OK);
        }
        if page.next == after {
            let what = "storage gives the same page again".to_owned();
            return Err(Refusal::Unusable(what, "see whether it is S3-compatible"));
        }
        after = page.next;
    }
}
