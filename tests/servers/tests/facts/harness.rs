//! What the harness promises: nothing stays behind, whatever ends a test.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use origin_servers::{eventually, find, free_ports, redis};
use rustix::process::{Pid, Signal, kill_process};

const MOMENT: Duration = Duration::from_secs(5);

#[test]
fn a_panic_ends_the_server_and_removes_its_directory() {
    let Some(redis) = redis::start(&redis::Setup::default()) else { return };
    let (address, directory) = (redis.address(), redis.process.directory().to_owned());
    assert!(directory.is_dir());
    let ended = std::thread::spawn(move || {
        let _held = redis;
        panic!("on purpose");
    });
    assert!(ended.join().is_err());
    assert!(TcpStream::connect(address).is_err());
    assert!(!directory.exists());
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let started = std::thread::spawn(|| redis::start(&redis::Setup::default()));
    let Some(redis) = started.join().unwrap() else { return };
    std::thread::sleep(Duration::from_millis(100));
    assert!(redis.call(&["PING"]).is_ok());
}

#[test]
fn faults_can_be_repeated_in_any_order() {
    let Some(mut redis) = redis::start(&redis::Setup::default()) else { return };
    let process = &mut redis.process;
    process.kill9();
    process.kill9();
    process.pause();
    process.resume();
    assert_eq!(process.id(), None);
    process.restart().unwrap();
    process.pause();
    // Killed while it stands still, and restarted although it runs.
    process.kill9();
    process.restart().unwrap();
    process.restart().unwrap();
    process.stop();
    assert_eq!(process.id(), None);
    process.restart().unwrap();
    assert!(redis.call(&["PING"]).is_ok());
}

#[test]
fn a_start_that_fails_says_what_the_server_said() {
    let setup = redis::Setup { max_memory: Some("much".into()), ..redis::Setup::default() };
    if find("redis-server").is_none() {
        return;
    }
    let panic = std::thread::spawn(move || redis::start(&setup)).join().err().unwrap();
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("redis ended with") && text.contains("maxmemory much"), "{text}");
}

#[test]
fn ports_are_free_and_each_is_given_once() {
    let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
    let mut all = Vec::new();
    for _ in 0..10 {
        all.extend(free_ports(&addresses, 6).unwrap());
    }
    let given = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!((given, all.len()), (60, 60));
}

/// The binary with a server in it, its output until it is ready, and what it said of itself.
fn binary(args: &[&str]) -> (Child, u32, PathBuf) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_origin-servers"))
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok)
        .take_while(|line| line != "READY=1")
        .collect();
    let value = |key: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(key));
        line.unwrap_or_else(|| panic!("no {key} in {lines:?}")).to_owned()
    };
    let id = value("PID=").parse().unwrap();
    (child, id, PathBuf::from(value("DIR=")))
}

/// Whether a process runs. One that has ended may wait a while for `init` to take note (`Z`).
fn runs(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn the_binary_tidies_up_when_it_is_asked_to_end() {
    if find("redis-server").is_none() {
        return;
    }
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, server, directory) = binary(&["redis", "--password", "x"]);
        assert!(runs(server));
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(!runs(server));
        assert!(!directory.exists());
    }
}

#[test]
fn the_servers_of_a_killed_process_end_with_it() {
    if find("redis-server").is_none() || find("named").is_none() || find("setpriv").is_none() {
        return;
    }
    for server in ["redis", "bind", "dnsmasq", "consul"] {
        if server == "consul" && find("consul").is_none() {
            continue;
        }
        let (mut child, id, directory) = binary(&[server]);
        assert!(runs(id));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(eventually(MOMENT, || !runs(id)), "{server}, process {id}, is still there");
        // Only the directory stays: nobody is left to remove it.
        std::fs::remove_dir_all(directory).unwrap();
    }
}
