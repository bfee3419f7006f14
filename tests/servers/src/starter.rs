//! Starting processes that end with this one, whatever ends it.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::tools;

/// A command to start, and where to say what came of it.
type Order = (Command, Sender<io::Result<Child>>);

/// A command for `program` that the kernel kills when its parent is gone, in a process group of
/// its own so that what it starts ends with it, and a Ctrl-C does not reach it behind our back.
pub(crate) fn command(program: &OsStr) -> Command {
    let mut command = if let Some(setpriv) = tools::find("setpriv") {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.process_group(0);
    command
}

/// Starts it, from a thread that lives as long as the process: to the kernel, the parent of a
/// process is the thread that started it, and the threads of tests come and go.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let gone = || io::Error::other("the thread that starts processes is gone");
    let (reply, outcome) = mpsc::channel();
    let orders = starter.lock().unwrap_or_else(PoisonError::into_inner).clone();
    orders.send((command, reply)).map_err(|_| gone())?;
    outcome.recv().map_err(|_| gone())?
}
