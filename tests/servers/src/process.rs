//! One server process: started, watched until it is ready, paused, killed, started again.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::room::{Room, tail};
use crate::{TICK, eventually, starter};

/// How long a server may take until it is ready.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the server does what it is there for.
type Probe = Box<dyn Fn() -> bool + Send + Sync>;

/// A server process. Dropped, it is killed together with what it started.
pub struct Process {
    name: &'static str,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    probe: Probe,
    child: Option<Child>,
    ready_in: Duration,
    // Last: the directory goes after the process that uses it.
    room: Arc<Room>,
}

impl Process {
    /// Starts `program` in `room`, its output going to `{name}.log` there; not yet ready.
    pub(crate) fn start(
        room: &Arc<Room>,
        name: &'static str,
        program: &Path,
        args: Vec<OsString>,
        probe: impl Fn() -> bool + Send + Sync + 'static,
    ) -> io::Result<Process> {
        let mut process = Process {
            name,
            program: program.to_owned(),
            args,
            log: room.file(&format!("{name}.log")),
            probe: Box::new(probe),
            child: None,
            ready_in: Duration::ZERO,
            room: Arc::clone(room),
        };
        process.launch()?;
        Ok(process)
    }

    fn launch(&mut self) -> io::Result<()> {
        // Appended: what it said before a restart stays readable.
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = starter::command(self.program.as_os_str());
        command
            .args(&self.args)
            .current_dir(self.room.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.child = Some(starter::spawn(command)?);
        Ok(())
    }

    /// Waits until the server answers.
    pub(crate) fn ready(&mut self) -> io::Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            if (self.probe)() {
                break;
            }
            if start.elapsed() > PATIENCE {
                return Err(self.failure("was not ready in time"));
            }
            std::thread::sleep(TICK);
        }
        self.ready_in = start.elapsed();
        Ok(())
    }

    fn failure(&self, what: &str) -> io::Error {
        io::Error::other(format!("{} {what}:\n{}", self.name, tail(&self.log)))
    }

    /// How it ended, if it did.
    fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// Its number, while it runs or is paused.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// From its last start to its first good answer; exact to the 50 ms of the polling.
    #[must_use]
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The directory it runs in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.room.path()
    }

    /// Ends it at once, as a power cut would (SIGKILL), and waits until it is gone. Harmless if
    /// it does not run.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Asks it to end (SIGTERM) and waits 5 s for that; then it is killed.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        eventually(Duration::from_secs(5), || !matches!(self.ended(), Ok(None)));
        self.kill9();
    }

    /// Freezes it (SIGSTOP): its ports still accept connections, nothing is answered. Returns
    /// once it stands still.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        eventually(Duration::from_secs(1), || self.state().is_none_or(|state| state == 'T'));
    }

    /// Lets it go on (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        eventually(Duration::from_secs(1), || self.state().is_none_or(|state| state != 'T'));
    }

    /// Kills it if it runs, starts it again with the same ports and directory, and waits until
    /// it is ready. What it remembers is what it wrote to its disk.
    ///
    /// # Errors
    /// It ended, or was not ready within 20 s; with the end of its log.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill9();
        self.launch()?;
        self.ready()
    }

    /// Replaces its arguments, for the next start.
    pub(crate) fn set_args(&mut self, args: Vec<OsString>) {
        self.args = args;
    }

    /// Asks it to read its configuration again, where it knows that (SIGHUP).
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// To it and to what it started. A child that was not waited for keeps its number, so this
    /// never reaches a stranger.
    fn signal(&self, signal: Signal) {
        let id = self.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            let _ = kill_process_group(id, signal);
        }
    }

    /// The letter the kernel has for what it is doing: `T` is stopped.
    fn state(&self) -> Option<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()?)).ok()?;
        // The name in parentheses before it may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
