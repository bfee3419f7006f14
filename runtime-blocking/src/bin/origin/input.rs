//! What files and stdin hold, `-` being stdin.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::exit::Refusal;

/// All of it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    let read = if is_stdin(path) {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(path)
    };
    read.map_err(|error| Refusal::file(&name(path), &error))
}

/// As it comes, and how much that will be, where that is known.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>), Refusal> {
    if is_stdin(path) {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let refuse = |error: io::Error| Refusal::file(&name(path), &error);
    let file = File::open(path).map_err(refuse)?;
    let about = file.metadata().map_err(refuse)?;
    if about.is_dir() {
        return Err(refuse(io::ErrorKind::IsADirectory.into()));
    }
    let size = about.is_file().then_some(about.len());
    Ok((Box::new(file), size))
}

/// What it is called in words.
pub(crate) fn name(path: &Path) -> String {
    if is_stdin(path) { "stdin".to_owned() } else { path.display().to_string() }
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}
