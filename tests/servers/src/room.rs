//! A directory that lives as long as the servers in it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process, thread};

/// A directory of its own under the system's one for temporary files. Dropped, it is removed;
/// dropped by a panic, it first shows the end of every log in it.
#[derive(Debug)]
pub struct Room {
    path: PathBuf,
}

impl Room {
    /// A new, empty one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn new(name: &str) -> io::Result<Room> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("origin-{name}-{}-{number}", process::id()));
        // An earlier process of the same number may have been killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Room { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file in it; its path.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, content)?;
        Ok(path)
    }
}

impl Drop for Room {
    #[allow(clippy::print_stderr)] // shown with the failed test
    fn drop(&mut self) {
        if thread::panicking() {
            for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
                let log = entry.path();
                if log.extension().is_some_and(|extension| extension == "log") {
                    eprintln!("--- {}\n{}", entry.file_name().display(), tail(&log));
                }
            }
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The last 15 lines of a file.
pub(crate) fn tail(file: &Path) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
