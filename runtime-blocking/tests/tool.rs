//! The commands of the tool as a script sees them, against the laboratory's servers and against
//! mistakes: configuration from all its sources, exit codes, pipes that close, signals, names that
//! mean harm. `origin call` and the demo itself are in `cli.rs`.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use origin_lab::{Document, Mode, Place, Role, World, WorldSpec};
use serde_json::Value;

#[path = "../examples/report.rs"]
#[allow(dead_code, reason = "its `main` is for the command line")]
mod report;

fn world() -> World {
    World::start(WorldSpec::default()).unwrap()
}

/// The tool without anything of this environment.
fn origin(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME", "TMPDIR"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// The same in a world.
fn at(world: &World, arguments: &[&str]) -> Command {
    let mut command = origin(arguments);
    command.env("ORIGIN_DISCOVERY", world.discovery_url());
    command.env("ORIGIN_LOCAL_CLUSTER", world.local());
    command.env("VAULT_CLIENT_TOKEN", origin_lab::DEMO_TOKEN);
    command
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("ended by itself")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A directory that is removed in the end.
struct Room(PathBuf);

impl Room {
    fn new() -> Room {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("origin-tool-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Room(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
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
struct Bounded(
    #[allow(dead_code, reason = "dropping it is the message")] std::sync::mpsc::Sender<()>,
);

impl Bounded {
    fn of(child: &Child) -> Bounded {
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

fn signal(child: &Child, name: &str) {
    let killed = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

/// `origin demo --serve`, until this is dropped.
struct Served {
    child: Child,
    told: Value,
}

impl Served {
    fn start() -> Served {
        let mut command = origin(&["demo", "--serve", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Served { child, told: serde_json::from_str(&line).expect("one JSON object") }
    }

    fn at(&self, mut command: Command) -> Command {
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

#[test]
fn services_are_listed_as_a_table_and_as_json() {
    let world = world();
    let output = at(&world, &["services"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.contains("billing  6          beta (2), alpha (2), gamma (2)"), "{told}");
    let output = at(&world, &["services", "storage", "--json"]).output().unwrap();
    let out: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(out["services"].as_array().unwrap().len(), 1);
    assert_eq!(out["services"][0]["endpoints"][0]["cluster"], "beta");
    let output = at(&world, &["services", "--long", "billing"]).output().unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 7);
    let output = at(&world, &["services", "biling"]).output().unwrap();
    assert_eq!(code(&output), 2);
    world.registry().server().set(Mode::Refuse);
    assert_eq!(code(&at(&world, &["services"]).output().unwrap()), 7);
}

#[test]
fn the_exit_code_of_status_is_the_worst_health() {
    let world = world();
    let status = |more: &[&str]| {
        let output = at(&world, &[&["status"], more].concat()).output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (code, table, errors) = status(&[]);
    assert_eq!(code, 0, "{table}{errors}");
    assert!(table.contains("billing  healthy  -            6/6"), "{table}");
    let (_, long, _) = status(&["--long"]);
    assert_eq!(long.lines().count(), 19, "{long}");

    world.server("billing", "beta", 0).unwrap().set(Mode::status(503));
    let (code, table, _) = status(&["--wait", "8s"]);
    assert_eq!(code, 9, "{table}");
    assert!(table.contains("5/6") && table.contains("1 unhealthy"), "{table}");
    // The others are as they were.
    assert_eq!(status(&["storage"]).0, 0);

    world.service("billing").set(Mode::Refuse);
    let (code, table, _) = status(&["--wait", "8s"]);
    assert_eq!(code, 10, "{table}");
    assert!(table.contains("billing  unhealthy"), "{table}");
    assert_eq!(status(&["biling"]).0, 2);
    world.registry().server().set(Mode::status(500));
    assert_eq!(status(&["--wait", "1s"]).0, 7);
}

#[test]
fn the_state_of_another_process_is_read_from_a_file_a_pipe_or_a_url() {
    let served = Served::start();
    let url = served.told["snapshot"].as_str().unwrap().to_owned();
    let run = |arguments: &[&str]| {
        let output = origin(arguments).output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    let (code_, table, errors) = run(&["status", "billing", "--from", &url]);
    assert_eq!(code_, 0, "{table}{errors}");
    assert!(table.contains("healthy  beta"), "{table}");
    // Services that the other process has not called are no trouble of it.
    let (code_, json, _) = run(&["status", "--json", "--from", &url]);
    assert_eq!(code_, 0, "{json}");
    let room = Room::new();
    let file = room.file("snapshot.json", &json);
    for from in [&url, &file] {
        let (code, frame, errors) = run(&["top", "--once", "--from", from]);
        assert_eq!(code, 0, "{errors}");
        assert_eq!(frame.lines().count(), 24, "{frame}");
        assert!(frame.starts_with("origin top  5 services") && !frame.contains('\x1b'), "{frame}");
    }
    let piped = with_input(origin(&["status", "billing", "--from", "-"]), json.as_bytes());
    assert_eq!((code(&piped), text(&piped.stderr)), (0, String::new()));
    // Whoever is not there, or speaks of something else, is told apart.
    let broken = room.file("broken.json", "{\"at\": 1}");
    for (from, expected) in
        [("/no/such/file", 1), (&*broken, 8), ("http://127.0.0.1:9/snapshot", 3)]
    {
        for command in [&["status"][..], &["top", "--once"]] {
            let (code, out, errors) = run(&[command, &["--from", from]].concat());
            assert_eq!((code, out), (expected, String::new()), "{from}: {errors}");
            assert_eq!(errors.lines().count(), 2, "{errors}");
        }
    }
}

/// What a peer says of itself cannot steer the terminal.
#[test]
fn hostile_names_are_shown_and_not_obeyed() {
    let world = world();
    let json = at(&world, &["status", "--json"]).output().unwrap().stdout;
    let mut snapshot: Value = serde_json::from_slice(&json).unwrap();
    let hostile = "\x1b[2J\x1b]0;owned\x07\u{202e}evil\r\n";
    snapshot["services"][0]["name"] = hostile.into();
    snapshot["services"][0]["endpoints"][0]["cluster"] = hostile.into();
    snapshot["services"][0]["endpoints"][0]["address"] = hostile.into();
    snapshot["discovery"][0]["source"] = hostile.into();
    let room = Room::new();
    let file = room.file("hostile.json", &snapshot.to_string());
    for command in [
        &["status"][..],
        &["status", "--long"],
        &["services"],
        &["services", "--long"],
        &["top", "--once", "--size", "200x60"],
    ] {
        let output = origin(command).args(["--from", &file]).output().unwrap();
        let told = text(&output.stdout) + &text(&output.stderr);
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!told.contains(steers), "{command:?}: {told:?}");
        assert!(told.contains("evil"), "{command:?}: {told}");
    }
    let unknown = at(&world, &["call", "x\x1b[31m", "/"]).output().unwrap();
    assert!(!text(&unknown.stderr).contains('\x1b'), "{}", text(&unknown.stderr));
}

#[test]
fn the_file_the_environment_and_flags_win_in_that_order() {
    let room = Room::new();
    let file = room.file(
        "origin.toml",
        "local_cluster = \"of-the-file\"\n\n[policy]\npreset = \"omninode\"\n\
         deadline.total = \"20s\"\ndeadline.attempt = \"2s\"\n\
         [discovery]\nurl = \"http://127.0.0.1:9/\"\n",
    );
    let effective = |command: &mut Command| {
        let output = command.args(["--effective", "--json"]).output().unwrap();
        assert_eq!(code(&output), 0, "{}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["effective"].take()
    };
    let said = |value: &str, origin: &str| serde_json::json!({"value": value, "origin": origin});
    let out = effective(&mut origin(&["check-config", &file]));
    assert_eq!(out["local_cluster"], said("of-the-file", &format!("{file}:1")));
    assert_eq!(out["policy.deadline.total"], said("20s", &format!("{file}:5")));
    assert_eq!(out["policy.breaker.open"], said("1m", &format!("preset at {file}:4")));
    assert_eq!(out["limits.idle_timeout"], said("1m", "default"));

    let mut command = origin(&["check-config", &file]);
    let environment = |command: &mut Command| {
        command.env("ORIGIN_LOCAL_CLUSTER", "of-the-environment");
        command.env("ORIGIN__POLICY__DEADLINE__TOTAL", "15s");
    };
    environment(&mut command);
    let out = effective(&mut command);
    assert_eq!(out["local_cluster"], said("of-the-environment", "$ORIGIN_LOCAL_CLUSTER"));
    assert_eq!(out["policy.deadline.total"], said("15s", "$ORIGIN__POLICY__DEADLINE__TOTAL"));
    assert_eq!(out["policy.deadline.attempt"], said("2s", &format!("{file}:6")));

    let mut command = origin(&["check-config", &file, "--local", "of-a-flag"]);
    command.args(["--set", "policy.deadline.total=10s", "--set", "policy.retry.max_attempts=2"]);
    environment(&mut command);
    let out = effective(&mut command);
    assert_eq!(out["local_cluster"], said("of-a-flag", "--local"));
    assert_eq!(out["policy.deadline.total"], said("10s", "--set policy.deadline.total"));
    assert_eq!(out["policy.retry.max_attempts"]["value"], 2);

    // The usual file, and one that a variable names.
    let mut command = origin(&["check-config"]);
    let out = effective(command.current_dir(&room.0));
    assert_eq!(out["local_cluster"], said("of-the-file", "origin.toml:1"));
    let out = effective(origin(&["check-config"]).env("ORIGIN_CONFIG", &file));
    assert_eq!(out["local_cluster"]["value"], "of-the-file");
}

#[test]
fn mistakes_in_the_configuration_are_told_with_their_place() {
    let room = Room::new();
    let unknown = room.file("a.toml", "seed = 1\n[policy.retry]\nmax_attemps = 3\n");
    let broken = room.file("b.toml", "seed = \n");
    let odd = room.file("c.toml", "[policy.deadline]\ntotal = \"500ms\"\nattempt = \"250ms\"\n[discovery]\nurl = \"http://127.0.0.1:9/\"\n");
    let refused = room.file("d.toml", "[policy.deadline]\ntotal = \"0s\"\n");
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        (code(&output), text(&output.stdout), text(&output.stderr))
    };
    for (file, place) in [
        (&unknown, ":3: unknown field `max_attemps`"),
        (&broken, ":1: "),
        (&refused, "policy.deadline.total"),
    ] {
        // Every command reads it the same way.
        for command in
            [&["check-config"][..], &["status", "--config"], &["call", "a", "/", "--config"]]
        {
            let (code, out, errors) =
                run(origin(command).arg(file).args(if command[0] == "check-config" {
                    &[][..]
                } else {
                    &["--discovery", "http://127.0.0.1:9"]
                }));
            assert_eq!((code, out), (1, String::new()), "{command:?} {errors}");
            assert!(errors.contains(place), "{command:?} {file}: {errors}");
        }
    }
    let (code, _, errors) = run(&mut origin(&["check-config", "/no/such/origin.toml"]));
    assert!(code == 1 && errors.contains("/no/such/origin.toml"), "{errors}");
    let (code, out, _) = run(&mut origin(&["check-config", &odd]));
    assert_eq!(code, 0);
    assert!(out.starts_with("warning: policy.retry.max_attempts"), "{out}");
    assert_eq!(run(&mut origin(&["check-config", "--strict", &odd])).0, 1);
    for (name, value, words) in [
        ("ORIGIN__POLICY__NOPE", "1", "$ORIGIN__POLICY__NOPE: unknown field `nope`"),
        ("ORIGIN__SEED", "soon", "$ORIGIN__SEED: invalid type"),
        ("ORIGIN__SEED__X", "1", "$ORIGIN__SEED__X: "),
    ] {
        let (code, _, errors) = run(origin(&["check-config"]).env(name, value));
        assert!(code == 1 && errors.contains(words), "{name}: {errors}");
    }
    for (set, words) in [
        ("policy.nope=1", "--set policy.nope: unknown field `nope`"),
        ("secret", "a --set has no ="),
        ("a..b=1", "is not a key"),
        ("=1", "is not a key"),
    ] {
        let (code, _, errors) = run(&mut origin(&["check-config", "--set", set]));
        assert!(code == 1 && errors.contains(words), "{set}: {errors}");
    }
    let (code, out, _) = run(&mut origin(&["check-config", "--schema"]));
    let schema: Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && schema["properties"]["policy"].is_object());
}

#[test]
fn objects_go_to_storage_and_come_back() {
    let world = world();
    let room = Room::new();
    // More than one piece, and more than text.
    let content: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let put = with_input(at(&world, &["object", "put", "b", "dir/ä 1", "-"]), &content);
    assert_eq!(code(&put), 0, "{}", text(&put.stderr));
    let got = at(&world, &["object", "get", "b", "dir/ä 1"]).output().unwrap();
    assert_eq!((code(&got), got.stdout == content), (0, true));
    assert!(got.stderr.is_empty(), "no progress where no terminal is: {}", text(&got.stderr));
    let file = room.0.join("out");
    let to = file.display().to_string();
    let got = at(&world, &["object", "get", "b", "dir/ä 1", "-o", &to]).output().unwrap();
    assert_eq!((code(&got), fs::read(&file).unwrap() == content), (0, true));
    let listed = at(&world, &["object", "ls", "b", "dir/"]).output().unwrap();
    assert_eq!(text(&listed.stdout), "      300000  dir/ä 1\n");
    assert_eq!(code(&at(&world, &["object", "rm", "b", "dir/ä 1"]).output().unwrap()), 0);
    let listed = at(&world, &["object", "ls", "b", "--json"]).output().unwrap();
    assert_eq!((code(&listed), listed.stdout.len()), (0, 0));
    // What is not there leaves no file, whole or in part.
    let none = room.0.join("none");
    let to = none.display().to_string();
    let missing = at(&world, &["object", "get", "b", "missing", "-o", &to]).output().unwrap();
    assert_eq!(code(&missing), 5, "{}", text(&missing.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1);
    let no_file = at(&world, &["object", "put", "b", "k", "/no/such/file"]).output().unwrap();
    assert_eq!(code(&no_file), 1);
    // A body that breaks off half-way: the part that had come is removed.
    world.service("storage").set(Mode::CloseMidBody { after: 200_000 });
    let mut cut = at(&world, &["object", "get", "b", "k", "-o", &to, "--set", "storage.resumes=0"]);
    let cut = cut.output().unwrap();
    assert_eq!((code(&cut), cut.stdout.len()), (8, 0), "{}", text(&cut.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1, "{}", text(&cut.stderr));
    world.service("storage").set(Mode::Refuse);
    let down = at(&world, &["object", "get", "b", "k", "-o", &to]).output().unwrap();
    assert_eq!(code(&down), 3, "{}", text(&down.stderr));
    assert_eq!(fs::read_dir(&room.0).unwrap().count(), 1);
}

#[test]
fn a_secret_goes_to_stdout_and_nowhere_else() {
    let world = world();
    let get = |more: &[&str]| at(&world, &[&["secret", "get"], more].concat()).output().unwrap();
    let output = get(&["app/db", "--field", "value"]);
    assert_eq!((code(&output), text(&output.stdout)), (0, "secret of app/db".to_owned()));
    assert!(output.stderr.is_empty());
    let all: Value = serde_json::from_slice(&get(&["app/db"]).stdout).unwrap();
    assert_eq!(all["value"], "secret of app/db");
    let output = get(&["app/db", "--field", "nope"]);
    assert_eq!((code(&output), output.stdout.len()), (8, 0));
    assert!(!text(&output.stderr).contains("secret of app"), "{}", text(&output.stderr));
    assert_eq!(code(&get(&["missing"])), 5);
    let mut wrong = at(&world, &["secret", "get", "app/db"]);
    let output = wrong.env("VAULT_CLIENT_TOKEN", "planted-token").output().unwrap();
    assert_eq!(code(&output), 5);
    assert!(!text(&output.stderr).contains("planted-token"), "{}", text(&output.stderr));
    let mut none = at(&world, &["secret", "get", "app/db"]);
    assert_eq!(code(&none.env_remove("VAULT_CLIENT_TOKEN").output().unwrap()), 1);
}

#[test]
fn files_are_stamped_and_validated() {
    let spec = WorldSpec::default().only(&["metadata-stamping", "onextree"]);
    let world = World::start(spec).unwrap();
    let room = Room::new();
    let good = room.file("good.md", "some text");
    let bad = room.file("bad.md", "tampered text");
    let output = at(&world, &["stamp", &good, "--json", "-d", "kind=x"]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let stamp: Value = serde_json::from_slice(&output.stdout).unwrap();
    let hash = at(&world, &["stamp", "--hash", &good]).output().unwrap();
    let expected = format!("{}  {good}\n", stamp["hash"].as_str().unwrap());
    assert_eq!(text(&hash.stdout), expected);
    let output = at(&world, &["stamp", "--validate", &good]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let output = at(&world, &["stamp", "--validate", &good, &bad]).output().unwrap();
    assert_eq!(code(&output), 1);
    assert!(text(&output.stdout).contains("NOT VALID"), "{}", text(&output.stdout));
    assert_eq!(code(&at(&world, &["stamp", "/no/such/file"]).output().unwrap()), 1);
}

#[test]
fn a_watch_prints_a_line_per_change() {
    let world = world();
    let mut child = at(&world, &["watch", "billing", "-n", "2", "--set", "discovery.ttl=200ms"])
        .args(["--set", "discovery.negative_ttl=100ms", "--set", "discovery.refresh_ahead=100ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let _bounded = Bounded::of(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("billing version 1: 6 endpoints +http"), "{first}");
    // One instance goes away; more at once would be kept in reserve until the registry insists.
    let url = |cluster, index| world.server("billing", cluster, index).unwrap().url();
    let place = |cluster, count| {
        let urls: Vec<String> = (0..count).map(|index| url(cluster, index)).collect();
        Place::new(cluster, &urls, "/health")
    };
    let places = vec![place("alpha", 2), place("beta", 2), place("gamma", 1)];
    let document = Document::new()
        .cluster("alpha", "", &url("alpha", 0), Role::Primary)
        .cluster("beta", "", &url("beta", 0), Role::Backup)
        .cluster("gamma", "", &url("gamma", 0), Role::Backup)
        .service("billing", "", places);
    world.registry().publish(&document);
    let second = lines.next().unwrap().unwrap();
    assert_eq!(second, format!("billing version 2: 5 endpoints -{} (gamma)", url("gamma", 1)));
    assert!(child.wait().unwrap().success());
    assert_eq!(code(&at(&world, &["watch", "biling"]).output().unwrap()), 2);
    world.registry().server().set(Mode::Refuse);
    assert_eq!(code(&at(&world, &["watch", "billing"]).output().unwrap()), 7);
}

/// Reads a line and closes the pipe: what `| head -1` does.
fn head(mut command: Command) -> (i32, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _bounded = Bounded::of(&child);
    let mut line = [0];
    let _ = child.stdout.take().unwrap().read(&mut line);
    let output = child.wait_with_output().unwrap();
    (code(&output), text(&output.stderr))
}

#[test]
fn a_pipe_that_closes_is_no_error_and_no_panic() {
    let world = world();
    let json = at(&world, &["status", "--json"]).output().unwrap().stdout;
    let room = Room::new();
    let file = room.file("snapshot.json", &text(&json));
    // One that goes on for ever ends with its reader.
    let top = origin(&["top", "--interval", "20ms", "--from", &file]);
    assert_eq!(head(top), (0, String::new()));
    let big: Vec<u8> = vec![b'x'; 4 << 20];
    let put = with_input(at(&world, &["object", "put", "b", "big", "-"]), &big);
    assert_eq!(code(&put), 0);
    assert_eq!(head(at(&world, &["object", "get", "b", "big"])), (0, String::new()));
    for command in [&["man"][..], &["completions", "bash"], &["check-config", "--schema"]] {
        assert_eq!(head(origin(command)), (0, String::new()), "{command:?}");
    }
}

#[test]
fn signals_end_what_goes_on_for_ever_in_good_order() {
    let world = world();
    let mut child = at(&world, &["watch", "billing"]).stdout(Stdio::piped()).spawn().unwrap();
    let _bounded = Bounded::of(&child);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut served = Served::start();
    signal(&served.child, "-TERM");
    assert_eq!(served.child.wait().unwrap().code(), Some(0));
}

/// On a terminal of its own, which `script` makes.
#[cfg(target_os = "linux")]
#[test]
fn top_gives_the_terminal_back() {
    let script = Command::new("script").arg("--version").output();
    if script.is_err() {
        assert!(std::env::var_os("CI").is_none(), "no `script`: nothing was tested");
        let _ = writeln!(std::io::stderr(), "no `script` here: NOTHING WAS TESTED");
        return;
    }
    let world = world();
    let room = Room::new();
    let (modes, pid) = (room.0.join("modes"), room.0.join("pid"));
    // The modes of the terminal before and after, and the tool in between.
    let inside = format!(
        "stty -g >{modes}; sh -c 'echo $$ >{pid}; exec {tool} top --interval 100ms'; echo code $?; \
         stty -g >>{modes}",
        modes = modes.display(),
        pid = pid.display(),
        tool = env!("CARGO_BIN_EXE_origin"),
    );
    for by_signal in [false, true] {
        let _ = fs::remove_file(&pid);
        let mut command = Command::new("script");
        command.args(["-qec", &inside, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
        command.env("ORIGIN_DISCOVERY", world.discovery_url());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _bounded = Bounded::of(&child);
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = Vec::new();
        // Until the first frame is there to its last line.
        while !text_of(&seen).contains("q quit") {
            let mut piece = [0; 4096];
            let count = output.read(&mut piece).unwrap();
            assert!(count > 0, "{}", text_of(&seen));
            seen.extend_from_slice(&piece[..count]);
        }
        if by_signal {
            let pid = fs::read_to_string(&pid).unwrap();
            Command::new("kill").args(["-INT", pid.trim()]).status().unwrap();
        } else {
            input.write_all(b"jkpq").unwrap();
        }
        output.read_to_end(&mut seen).unwrap();
        drop(input);
        assert!(child.wait().unwrap().success());
        let seen = text_of(&seen);
        assert!(seen.contains("code 0"), "{seen:?}");
        for (there, back) in [("\x1b[?1049h", "\x1b[?1049l"), ("\x1b[?25l", "\x1b[?25h")] {
            assert!(seen.contains(there) && seen.rfind(back) > seen.rfind(there), "{seen:?}");
        }
        let modes = fs::read_to_string(&modes).unwrap();
        let modes: Vec<&str> = modes.lines().collect();
        assert_eq!(modes[0], modes[1], "by signal: {by_signal}");
    }
}

#[cfg(target_os = "linux")]
fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn colours_are_for_terminals_only_and_help_is_whole() {
    let output = origin(&["--help"]).output().unwrap();
    let help = text(&output.stdout);
    for command in [
        "call",
        "services",
        "status",
        "top",
        "watch",
        "register",
        "deregister",
        "object",
        "secret",
        "stamp",
        "check-config",
        "demo",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("  {command} ")), "{command}: {help}");
        let page = origin(&["man", command]).output().unwrap();
        assert!(code(&page) == 0 && text(&page.stdout).contains(".SH NAME"), "{command}");
    }
    assert!(help.contains("ORIGIN__POLICY__DEADLINE__TOTAL") && help.contains("Exit codes"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = origin(&["completions", shell]).output().unwrap();
        assert!(code(&output) == 0 && text(&output.stdout).contains("check-config"), "{shell}");
    }
    let page = text(&origin(&["man"]).output().unwrap().stdout);
    assert!(page.contains(".TH origin 1") && page.contains("Exit codes"), "{page}");
    assert_eq!(code(&origin(&["man", "nope"]).output().unwrap()), 1);
}

#[test]
fn both_examples_do_their_work_against_the_served_demo() {
    let served = Served::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/report.sh");
    let mut command = served.at(Command::new("sh"));
    let output = command.arg(script).env("ORIGIN", env!("CARGO_BIN_EXE_origin")).output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("stamp-0  "), "{}", text(&output.stdout));

    let told = |field: &str| served.told[field].as_str().unwrap();
    let client = origin_blocking::Client::builder()
        .discovery(told("discovery"))
        .local_cluster(told("local"))
        .vault_token(told("vault_token"))
        .build()
        .unwrap();
    let done = report::report(&client, 1..=5).unwrap();
    assert!(done.starts_with("reports/invoices.tsv: ") && done.len() > 80, "{done}");
    let listed = served.at(origin(&["object", "ls", "reports"])).output().unwrap();
    assert!(text(&listed.stdout).ends_with("  invoices.tsv\n"), "{}", text(&listed.stdout));
}

/// What docs/TOOL.md says is what the tool has: its commands, and its exit codes in the same words.
#[test]
fn the_page_of_the_tool_has_every_command_and_exit_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/TOOL.md");
    let page = fs::read_to_string(page).unwrap();
    let help = text(&origin(&["--help"]).output().unwrap().stdout);
    let words = |text: &str| text.replace('`', "").split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, codes) = help.split_once("Exit codes:").unwrap();
    let (codes, _) = codes.split_once("\n\n").unwrap();
    let mut rows = Vec::new();
    for line in codes.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split_once(' ').map(|(first, rest)| (first.parse::<u8>(), rest)) {
            Some((Ok(code), rest)) => rows.push(format!("| {code} | {}", rest.trim())),
            // The second line of a code.
            _ => rows.last_mut().unwrap().push_str(&format!(" {line}")),
        }
    }
    assert_eq!(rows.len(), 11);
    for row in rows {
        assert!(page.lines().any(|line| words(line) == words(&format!("{row} |"))), "{row}");
    }
    let (_, commands) = help.split_once("Commands:").unwrap();
    for line in commands.lines().skip(1).take_while(|line| line.starts_with("  ")) {
        let command = line.split_whitespace().next().unwrap();
        let known =
            page.contains(&format!("`{command}`")) || page.contains(&format!("`{command} "));
        assert!(known || command == "help", "{command} is not in the page");
    }
}
