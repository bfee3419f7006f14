//! A terminal of its own for the tool: a pseudo-terminal, with the tool as leader of its session, so
//! that Ctrl-C is a signal, and the modes of the terminal can be compared.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::bench::Bounded;
use crate::screen::Screen;

/// What a plain terminal has.
pub(crate) const USUAL: (u16, u16) = (80, 24);

/// The tool on a terminal.
pub(crate) struct Pty {
    pub(crate) child: Child,
    _bounded: Bounded,
    master: File,
    /// Columns and lines.
    size: (u16, u16),
    /// All that was written to the terminal.
    seen: Vec<u8>,
    before: Termios,
}

/// Which of the three streams are not the terminal.
#[derive(Default)]
pub(crate) struct Besides {
    pub(crate) stdin: Option<Stdio>,
    pub(crate) stdout: Option<Stdio>,
}

impl Pty {
    /// Starts a command with everything on the terminal.
    pub(crate) fn start(command: &Command, size: (u16, u16)) -> Pty {
        Pty::start_besides(command, size, Besides::default())
    }

    /// The same with some streams elsewhere.
    pub(crate) fn start_besides(command: &Command, size: (u16, u16), besides: Besides) -> Pty {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let winsize = Winsize { ws_col: size.0, ws_row: size.1, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, winsize).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let terminal = || Stdio::from(slave.try_clone().unwrap());
        // Without unsafe code only another program can begin a session.
        let mut leader = Command::new("setsid");
        if besides.stdin.is_none() {
            leader.arg("--ctty");
        }
        leader.arg(command.get_program()).args(command.get_args()).env_clear();
        leader.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.stdin(besides.stdin.unwrap_or_else(terminal));
        leader.stdout(besides.stdout.unwrap_or_else(terminal)).stderr(terminal());
        let child = leader.spawn().expect("`setsid` of util-linux");
        let _bounded = Bounded::of(&child);
        Pty { child, _bounded, master: master.into(), size, seen: Vec::new(), before }
    }

    /// Reads until the screen shows this. Once the last program has closed the terminal nothing
    /// more comes.
    pub(crate) fn until(&mut self, words: &str) -> Screen {
        loop {
            let screen = Screen::of(&self.seen, self.size);
            if screen.text().contains(words) {
                return screen;
            }
            assert!(self.read(), "{words:?} never came: {}", screen.text());
        }
    }

    fn read(&mut self) -> bool {
        let mut piece = [0; 4096];
        // Linux says EIO where others say that it is the end.
        let count = self.master.read(&mut piece).unwrap_or(0);
        self.seen.extend_from_slice(&piece[..count]);
        count > 0
    }

    /// Presses keys.
    pub(crate) fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// The modes of the terminal, as far as programs change them.
    fn modes(of: &Termios) -> String {
        format!("{:?} {:?} {:?}", of.input_modes, of.output_modes, of.local_modes)
    }

    /// Whether the terminal is as the tool found it.
    pub(crate) fn is_given_back(&self) -> bool {
        Pty::modes(&tcgetattr(&self.master).unwrap()) == Pty::modes(&self.before)
    }

    /// Reads to the end. The exit code, what the screen shows, and the bytes that made it.
    pub(crate) fn end(mut self) -> (i32, Screen, String) {
        while self.read() {}
        let code = self.child.wait().unwrap().code().expect("ended by itself");
        assert!(self.is_given_back());
        let screen = Screen::of(&self.seen, self.size);
        (code, screen, String::from_utf8_lossy(&self.seen).into_owned())
    }
}

/// Runs a command on a terminal of the usual size to its end.
pub(crate) fn shown(command: &Command) -> (i32, Screen, String) {
    Pty::start(command, USUAL).end()
}
