//! Files: read as a whole, replaced as a whole. There is no half of either.
//!
//! What stands in such files may be secret (tokens, keys, rendered configuration), so a written
//! one belongs to its user alone. Work on files cannot be given a limit; it is looked at between
//! pieces, and before the new file takes the place of the old one: work that was given up
//! changes nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process;

use origin_core::job::JobOutcome;
use origin_core::outcome::Fault;

use super::Tried;
use super::net::Limit;

/// How much is read or written between two looks at the limit.
const PIECE: usize = 64 << 10;

/// Reads a file of at most `most` bytes. What is no file is not opened: a pipe would keep this
/// thread until somebody writes to it.
pub(super) fn read(path: &str, most: usize, limit: &Limit) -> Tried<JobOutcome> {
    limit.left()?;
    match content(Path::new(path), most, limit) {
        Ok(content) => content.map(|content| JobOutcome::Content(Some(content.into()))),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(JobOutcome::Content(None)),
        Err(e) => Ok(JobOutcome::Impossible(format!("{path:?} cannot be read: {e}").into())),
    }
}

fn content(path: &Path, most: usize, limit: &Limit) -> io::Result<Tried<Vec<u8>>> {
    let about = fs::metadata(path)?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if about.len() > most as u64 {
        return Ok(Err(Fault::BodyTooLarge));
    }
    let file = File::open(path)?;
    let mut content = Vec::new();
    loop {
        if let Err(fault) = limit.left() {
            return Ok(Err(fault));
        }
        // It may grow meanwhile, and some files have no length before they are read.
        let room = most.saturating_add(1).saturating_sub(content.len()).min(PIECE);
        let count = (&file).take(room as u64).read_to_end(&mut content)?;
        if content.len() > most {
            return Ok(Err(Fault::BodyTooLarge));
        }
        if count < room {
            return Ok(Ok(content));
        }
    }
}

/// Replaces a file, or makes it, readable for its user alone. The new content is on the disk
/// before it takes the old one's name; a link is replaced, not followed; folders are not made.
pub(super) fn write(path: &str, content: &[u8], limit: &Limit) -> Tried<JobOutcome> {
    limit.left()?;
    match replace(Path::new(path), content, limit) {
        Ok(done) => done.map(|()| JobOutcome::Written),
        Err(e) => Ok(JobOutcome::Impossible(format!("{path:?} cannot be written: {e}").into())),
    }
}

fn replace(path: &Path, content: &[u8], limit: &Limit) -> io::Result<Tried<()>> {
    let name = path.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
    if path.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    // Not the number of the process: containers that share a folder are often all number 1.
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(format!(".{:016x}.new", RandomState::new().hash_one(process::id())));
    let beside = path.with_file_name(beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    let beside = Beside(beside);
    for piece in content.chunks(PIECE) {
        if let Err(fault) = limit.left() {
            return Ok(Err(fault));
        }
        file.write_all(piece)?;
    }
    file.sync_all()?;
    drop(file);
    beside.take_place(path, limit)
}

/// The new file before it has its name: gone with whatever goes wrong.
struct Beside(PathBuf);

impl Beside {
    /// Takes the place of `path`, unless nobody waits for that any more: a newer content may be
    /// there by now.
    fn take_place(self, path: &Path, limit: &Limit) -> io::Result<Tried<()>> {
        if let Err(fault) = limit.left() {
            return Ok(Err(fault));
        }
        fs::rename(&self.0, path)?;
        // Otherwise a power failure could undo the change of names. Not every system can do it,
        // and the file is whole in either case.
        #[cfg(unix)]
        if let Ok(folder) = File::open(path.parent().filter(|p| *p != "").unwrap_or(Path::new(".")))
        {
            let _ = folder.sync_all();
        }
        Ok(Ok(()))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Not there any more when it has its name.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn content_that_took_too_long_to_write_does_not_replace_what_is_there() {
        let folder = std::env::temp_dir();
        let name = |what| folder.join(format!("origin-place-{}-{what}", process::id()));
        let (path, new) = (name("old"), name("new"));
        fs::write(&path, "old").unwrap();
        for (limit, expected) in [(Duration::ZERO, "old"), (Duration::from_secs(60), "new")] {
            fs::write(&new, "new").unwrap();
            let done = Beside(new.clone()).take_place(&path, &Limit::within(limit)).unwrap();
            assert_eq!(done.is_ok(), expected == "new");
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
            assert!(!new.exists());
        }
        fs::remove_file(&path).unwrap();
    }
}
