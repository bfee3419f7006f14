//! `origin object`: objects of storage, to and from files and pipes. How far a long transfer is
//! shows on stderr, if that is a terminal.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use origin_blocking::core::s3::{GetOptions, ListOptions, PutOptions};
use origin_blocking::{Client, Download, Error};
use serde_json::json;

use crate::exit::{self, Refusal};
use crate::settings::Where;
use crate::text;

/// Read at a time.
const PIECE: usize = 64 << 10;
/// A transfer that is over sooner needs no progress bar.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);

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
        /// The file, or - for stdin. It is read into memory.
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
            let bytes = read(file)?;
            let options = PutOptions {
                content_type: content_type.clone(),
                only_new: *only_new,
                ..PutOptions::default()
            };
            let written = client.storage().put_object_with(bucket, key, bytes, &options)?;
            if let Some(etag) = written.etag {
                text::print(format!("{}\n", text::clean(&etag.to_string())).as_bytes())?;
            }
            Ok(exit::OK)
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

fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    let name = path.display().to_string();
    let read = if name == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| Refusal::file(&name, &error))
}

fn get(client: &Client, bucket: &str, key: &str, to: Option<&Path>) -> Result<u8, Refusal> {
    let mut download = client.storage().download(bucket, key, GetOptions::default());
    // The first piece decides: what is not there leaves no file behind.
    let mut piece = vec![0; PIECE];
    let mut count = next(&mut download, &mut piece)?;
    let Some(path) = to else {
        let mut out = io::stdout().lock();
        let mut bar = Bar::new(key, io::stderr().is_terminal() && !io::stdout().is_terminal());
        while count > 0 {
            out.write_all(&piece[..count]).map_err(|error| Refusal::output(&error))?;
            bar.moved(count, total(&download));
            count = next(&mut download, &mut piece)?;
        }
        return out.flush().map_err(|error| Refusal::output(&error)).map(|()| exit::OK);
    };
    let name = path.display().to_string();
    let part = PathBuf::from(format!("{name}.part"));
    let refuse = |error: io::Error| Refusal::file(&name, &error);
    let written = (|| {
        let mut file = File::create(&part).map_err(refuse)?;
        let mut bar = Bar::new(key, io::stderr().is_terminal());
        while count > 0 {
            file.write_all(&piece[..count]).map_err(refuse)?;
            bar.moved(count, total(&download));
            count = next(&mut download, &mut piece)?;
        }
        file.sync_all().map_err(refuse)?;
        fs::rename(&part, path).map_err(refuse)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written.map(|()| exit::OK)
}

fn total(download: &Download) -> Option<u64> {
    download.info().and_then(|info| info.size)
}

/// The next bytes; none at the end. The error of the library, whole, where it is one.
fn next(download: &mut Download, piece: &mut [u8]) -> Result<usize, Refusal> {
    download.read(piece).map_err(|error| {
        match error.get_ref().is_some_and(|inner| inner.is::<Error>()) {
            true => match error.into_inner().map(|inner| inner.downcast::<Error>()) {
                Some(Ok(error)) => Refusal::Error(*error),
                _ => Refusal::Unusable("the object cannot be read".to_owned(), "try again"),
            },
            false => Refusal::Unusable(format!("the object cannot be read: {error}"), "try again"),
        }
    })
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

/// How far a transfer is.
struct Bar {
    name: String,
    shown: bool,
    began: Instant,
    drawn: Option<Instant>,
    done: u64,
}

impl Bar {
    fn new(name: &str, shown: bool) -> Bar {
        let shown = shown && !text::dumb();
        Bar { name: text::clean(name), shown, began: Instant::now(), drawn: None, done: 0 }
    }

    fn moved(&mut self, by: usize, total: Option<u64>) {
        self.done += by as u64;
        let due = self.drawn.is_none_or(|at| at.elapsed() >= TICK);
        if self.shown && due && self.began.elapsed() >= PATIENCE {
            self.drawn = Some(Instant::now());
            let line = bar(&self.name, self.done, total, self.began.elapsed());
            let _ = write!(io::stderr(), "\r{line}\x1b[K").and_then(|()| io::stderr().flush());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K").and_then(|()| io::stderr().flush());
        }
    }
}

fn bar(name: &str, done: u64, total: Option<u64>, took: Duration) -> String {
    let rate = done as f64 / took.as_secs_f64().max(1e-3);
    let name = text::fit(name, 24);
    match total.filter(|total| *total > 0) {
        Some(total) => {
            let part = (done as f64 / total as f64).clamp(0.0, 1.0);
            let filled = (part * 20.0) as usize;
            let bar = format!("{}{}", "#".repeat(filled), ".".repeat(20 - filled));
            let left = Duration::from_secs((total.saturating_sub(done) as f64 / rate) as u64);
            format!(
                "{name} [{bar}] {:>3.0}% {}/s, {} left",
                (part * 100.0).floor(),
                size(rate as u64),
                crate::services::age(left)
            )
        }
        None => format!("{name} {} {}/s", size(done), size(rate as u64)),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", bytes as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_and_how_fast() {
        let second = Duration::from_secs(1);
        let text = bar("a/b", 1 << 20, Some(4 << 20), second);
        assert_eq!(text, "a/b                      [#####...............]  25% 1.0 MiB/s, 3s left");
        assert!(bar("k", 10, None, second).ends_with(" 10 B 10 B/s"));
        let over = bar("k", 9, Some(3), second);
        assert!(over.contains("[####################] 100%"), "{over}");
    }
}
