//! `origin register` and `origin deregister` at a real agent of Consul, and what the other commands
//! see of it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use origin_servers::consul::{self, Agent, Setup};

/// What `register` makes of name, address and port.
const ID: &str = "ledger-127.0.0.1-9101";

fn origin(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command.args(arguments).env("ORIGIN_CONSUL", agent.url());
    for name in ["ORIGIN_DISCOVERY", "ORIGIN_LOCAL_CLUSTER", "ORIGIN_CONFIG"] {
        command.env_remove(name);
    }
    command
}

/// Exit code, stdout and stderr.
fn run(agent: &Agent, arguments: &[&str]) -> (i32, String, String) {
    let output = origin(agent, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_service_is_registered_seen_and_taken_back() {
    let Some(mut agent) = consul::start(&Setup::default()) else { return };
    let register = ["register", "ledger", "--address", "127.0.0.1", "--port", "9101"];
    let more = ["--check", "none", "--tag", "a", "--meta", "version=2"];
    let (code, out, errors) = run(&agent, &[&register[..], &more].concat());
    assert_eq!((code, &*out), (0, &*format!("{ID}\n")), "{errors}");
    let (code, out, errors) = run(&agent, &["services", "ledger", "--long"]);
    assert_eq!(code, 0, "{errors}");
    assert!(out.contains("http://127.0.0.1:9101"), "{out}");
    let (code, out, _) = run(&agent, &["watch", "ledger", "-n", "1"]);
    assert!(code == 0 && out.contains("1 endpoint +http://127.0.0.1:9101"), "{out}");
    assert_eq!(run(&agent, &["deregister", "nobody"]).0, 2);
    assert_eq!(run(&agent, &["deregister", ID]).0, 0);
    assert_eq!(run(&agent, &["deregister", ID]).0, 2, "it is gone");

    // Without an address it is that of the node.
    let (code, out, errors) =
        run(&agent, &["register", "ledger", "--port", "9102", "--check", "none"]);
    assert_eq!((code, &*out), (0, "ledger-9102\n"), "{errors}");
    assert_eq!(run(&agent, &["deregister", "ledger-9102"]).0, 0);

    // One that is kept reports for itself, and is taken back when it is ended.
    let mut kept = origin(&agent, &register)
        .args(["--check", "ttl", "--keep"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut id = String::new();
    BufReader::new(kept.stdout.take().unwrap()).read_line(&mut id).unwrap();
    assert_eq!(id, format!("{ID}\n"));
    Command::new("kill").args(["-TERM", &kept.id().to_string()]).status().unwrap();
    assert_eq!(kept.wait().unwrap().code(), Some(0));
    assert_eq!(run(&agent, &["deregister", id.trim()]).0, 2, "it was taken back");

    // Mistakes and an agent that is not there.
    for (wrong, words) in [
        (&["register", "Bad_Name", "--port", "1"][..], "registration.name"),
        (&["register", "a", "--port", "1", "--check", "ttl"], "--keep"),
        (&["register", "a", "--port", "1", "--meta", "x"], "no ="),
    ] {
        let (code, _, errors) = run(&agent, wrong);
        assert!(code == 1 && errors.contains(words), "{wrong:?}: {errors}");
    }
    agent.process.kill9();
    assert_eq!(run(&agent, &[&register[..], &["--wait", "1s"]].concat()).0, 4);
    assert_eq!(run(&agent, &["deregister", "x", "--wait", "1s"]).0, 3);
    assert_eq!(run(&agent, &["services"]).0, 3);
}
