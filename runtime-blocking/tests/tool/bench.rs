//! What the rooms of this test share: the tool in an environment of its own, in a world of the
//! laboratory or against the served demo; files that are removed; processes that end.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use origin_lab::{World, WorldSpec};
use serde_json::Value;

pub(crate) fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

/// The tool without anything of this environment.
pub(crate) fn origin(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// The same in a world.
pub(crate) fn at(world: &World, arguments: &[&str]) -> Command {
    let mut command = origin(arguments);
    command.env("ORIGIN_DISCOVERY", world.discovery_url());
    command.env("ORIGIN_LOCAL_CLUSTER", world.local());
    command.env("VAULT_CLIENT_TOKEN", origin_lab::DEMO_TOKEN);
    command
}

pub(crate) fn with_input(mut command: Command, input: &[u8]) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory that is removed in the end.
pub(crate) struct Room(pub(crate) PathBuf);

impl Room {
    pub(crate) fn new() -> Room {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("origin-tool-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Room(path)
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Ends a process that has not ended by itself: a test that waits for what never comes should fail.
pub(crate) struct Bounded(
    #[allow(dead_code, reason = "dropping it is the message")] std::sync::mpsc::Sender<()>,
);

impl Bounded {
    pub(crate) fn of(child: &Child) -> Bounded {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let id = child.id().to_string();
        std::thread::spawn(move || {
            let waited = receiver.recv_timeout(std::time::Duration::from_secs(60));
            if waited == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        Bounded(sender)
    }
}

pub(crate) fn signal(child: &Child, name: &str) {
    let killed = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// `origin demo --serve`, until this is dropped.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) told: Value,
}

impl Served {
    pub(crate) fn start() -> Served {
        let mut command = origin(&["demo", "--serve", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Served { child, told: serde_json::from_str(&line).expect("one JSON object") }
    }

    pub(crate) fn at(&self, mut command: Command) -> Command {
        for (variable, field) in [
            ("ORIGIN_DISCOVERY", "discovery"),
            ("ORIGIN_LOCAL_CLUSTER", "local"),
            ("VAULT_CLIENT_TOKEN", "vault_token"),
        ] {
            command.env(variable, self.told[field].as_str().unwrap());
        }
        command
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
