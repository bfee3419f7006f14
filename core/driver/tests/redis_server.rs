//! Redis commands against a real redis-server: from `ORIGIN_REDIS_SERVER` or the path. Without one
//! these tests say so and do nothing; with `CI=true` they fail.
#![allow(clippy::unwrap_used, clippy::panic)] // test code
#![allow(clippy::disallowed_methods, clippy::print_stderr)]

mod common;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command as Program, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use common::{assert_took, fault, ms, timed};
use origin_driver::Roots;
use origin_driver::carry::{Carrier, RedisOptions};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;
use origin_driver::core::redis::{Command, Reply};

const LONG: Duration = Duration::from_secs(10);

/// A server that ends with the test, and its folder with it.
struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn folder() -> PathBuf {
    let folder =
        env::temp_dir().join(format!("origin-redis-{}-{}", std::process::id(), free_port()));
    fs::create_dir(&folder).unwrap();
    folder
}

/// `None`, said loudly, where there is no server on this machine.
fn start(port: u16, folder: PathBuf, more: &[&str]) -> Option<Server> {
    let program = env::var_os("ORIGIN_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
    let child = Program::new(&program)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"])
        .args(["--port".to_owned(), port.to_string(), "--dir".to_owned()])
        .arg(&folder)
        .args(more)
        .stdin(Stdio::null())
        .stdout(fs::File::create(folder.join("log")).unwrap())
        .stderr(Stdio::null())
        .spawn();
    match child {
        Ok(child) => Some(Server { child, port, folder }),
        Err(e) => {
            let _ = fs::remove_dir_all(&folder);
            assert!(env::var_os("CI").is_none(), "no redis-server ({program:?}): {e}");
            eprintln!("\n*** SKIPPED: no redis-server ({program:?}): {e} ***\n");
            None
        }
    }
}

impl Server {
    fn url(&self, login: &str) -> String {
        format!("redis://{login}127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Waits until it listens.
    fn up(&self) -> &Server {
        let end = Instant::now() + LONG;
        while !self.log().contains("Ready to accept connections") {
            assert!(Instant::now() < end, "{}", self.log());
            thread::sleep(ms(10));
        }
        self
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        assert!(Program::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

fn carrier(url: String) -> Carrier {
    Carrier::with_redis(&RedisOptions::at(url), &Roots::WebPki).unwrap()
}

fn words(line: &str) -> Command {
    Command(line.split(' ').map(|word| word.to_owned().into()).collect())
}

fn outcome(carrier: &Carrier, lines: &[&str]) -> JobOutcome {
    let commands = lines.iter().map(|line| words(line)).collect();
    timed(carrier, Work::Redis(commands), LONG).0
}

fn send(carrier: &Carrier, lines: &[&str]) -> Vec<Reply> {
    match outcome(carrier, lines) {
        JobOutcome::Replies(replies) => replies,
        other => panic!("no replies: {other:?}"),
    }
}

fn text(text: &str) -> Reply {
    Reply::Text(text.to_owned().into())
}

fn refused(word: &str) -> Reply {
    Reply::Refused(word.into())
}

#[test]
fn commands_are_answered_in_their_order() {
    let Some(server) = start(free_port(), folder(), &[]) else { return };
    let carrier = carrier(server.up().url(""));
    let sent = ["SET a 1 PX 30000", "SET b x NX", "MGET a none b", "GET none", "DEL a b none"];
    assert_eq!(
        send(&carrier, &sent),
        [
            text("OK"),
            text("OK"),
            Reply::List(vec![text("1"), Reply::Nil, text("x")]),
            Reply::Nil,
            Reply::Number(2),
        ]
    );
    let sent = ["SET s x", "LPUSH s 1", "NONSENSE", "GET s"];
    assert_eq!(
        send(&carrier, &sent),
        [text("OK"), refused("WRONGTYPE"), refused("ERR"), text("x")]
    );
    let sent = ["MULTI", "INCR n", "LRANGE l 0 -1", "EXEC"];
    let done = Reply::List(vec![Reply::Number(1), Reply::List(vec![])]);
    assert_eq!(send(&carrier, &sent)[3], done);
    // Any bytes.
    let every: Vec<u8> = (0..=255).collect();
    let set = Command::new(&[b"SET", b"every", &every]);
    let work = Work::Redis(vec![set, words("GET every")]);
    let JobOutcome::Replies(replies) = timed(&carrier, work, LONG).0 else { panic!() };
    assert_eq!(replies[1], Reply::Text(every.into()));
}

#[test]
fn what_is_too_large_is_a_fault_and_the_next_job_is_served() {
    let Some(server) = start(free_port(), folder(), &[]) else { return };
    let carrier = carrier(server.up().url(""));
    let large = vec![b'x'; 9 << 20];
    let set = Work::Redis(vec![Command::new(&[b"SET", b"large", &large])]);
    assert!(matches!(timed(&carrier, set, LONG).0, JobOutcome::Replies(_)));
    assert_eq!(fault(&outcome(&carrier, &["GET large"])), Fault::BodyTooLarge);
    assert_eq!(send(&carrier, &["STRLEN large"]), [Reply::Number(9 << 20)]);
    let push = words(&format!("RPUSH list{}", " x".repeat(20_000)));
    assert!(matches!(timed(&carrier, Work::Redis(vec![push]), LONG).0, JobOutcome::Replies(_)));
    assert_eq!(fault(&outcome(&carrier, &["LRANGE list 0 -1"])), Fault::BodyTooLarge);
    let Reply::List(items) = &send(&carrier, &["LRANGE list 0 9998"])[0] else { panic!() };
    assert_eq!(items.len(), 9999);
}

#[test]
fn case_004_85_users_passwords_and_databases() {
    let acl = [
        "--requirepass",
        "pa:s/s@w%rd",
        "--user",
        "app",
        "on",
        ">secret",
        "~app:*",
        "+get",
        "+set",
        "+select",
    ];
    let Some(server) = start(free_port(), folder(), &acl) else { return };
    let to = |login: &str, database: &str| carrier(server.up().url(login) + database);
    let all = to(":pa%3As%2Fs%40w%25rd@", "/3");
    assert_eq!(send(&all, &["SET app:x three"]), [text("OK")]);
    let app = to("app:secret@", "/3");
    assert_eq!(
        send(&app, &["GET app:x", "GET other", "DEL app:x"]),
        [text("three"), refused("NOPERM"), refused("NOPERM")]
    );
    assert_eq!(send(&to("app:secret@", ""), &["GET app:x"]), [Reply::Nil], "another database");
    assert_eq!(send(&to("", ""), &["GET a", "GET b"]), [refused("NOAUTH"), refused("NOAUTH")]);
    assert_eq!(
        send(&to("app:wrong@", ""), &["GET a", "GET b"]),
        [refused("WRONGPASS"), refused("WRONGPASS")]
    );
    assert_eq!(send(&to("app:secret@", "/99"), &["GET a"]), [refused("ERR")]);
}

#[test]
fn case_004_84_a_server_that_is_stopped_paused_and_back() {
    let port = free_port();
    let Some(server) = start(port, folder(), &[]) else { return };
    let carrier = carrier(server.up().url(""));
    assert_eq!(send(&carrier, &["SET a 1"]), [text("OK")]);

    // Paused: the system accepts connections, and nobody answers.
    server.signal("-STOP");
    for _ in 0..2 {
        let (paused, took) = timed(&carrier, Work::Redis(vec![words("GET a")]), ms(200));
        assert_eq!(fault(&paused), Fault::Timeout);
        assert_took(took, ms(200));
    }
    server.signal("-CONT");
    assert_eq!(send(&carrier, &["GET a"]), [text("1")]);

    // Its connections closed, which costs no job anything.
    assert_eq!(send(&carrier, &["CLIENT KILL TYPE normal SKIPME yes"]), [Reply::Number(0)]);
    let killer = self::carrier(server.url(""));
    assert_eq!(send(&killer, &["CLIENT KILL TYPE normal SKIPME yes"]), [Reply::Number(1)]);
    assert_eq!(send(&carrier, &["GET a"]), [text("1")]);

    // Gone, and there again, empty.
    drop(server);
    assert_eq!(fault(&outcome(&carrier, &["GET a"])), Fault::Connect);
    let server = start(port, folder(), &[]).unwrap();
    server.up();
    assert_eq!(send(&carrier, &["GET a"]), [Reply::Nil]);
}

#[cfg(feature = "redis-tls")]
#[test]
fn tls_with_certificates_on_both_sides() {
    use origin_driver::Identity;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

    let folder = folder();
    let mut params = CertificateParams::new(vec![]).unwrap();
    // Without a name of its own, OpenSSL takes what it issues for its own issuer.
    params.distinguished_name.push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let (server_pem, server_key) = issue(&["localhost", "127.0.0.1"]);
    let (own_pem, own_key) = issue(&["client"]);
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (pem, key, authority) =
        (file("pem", &server_pem), file("key", &server_key), file("ca", &ca.pem()));
    let port = free_port();
    let secure = port.to_string();
    let files = ["--tls-cert-file", &pem, "--tls-key-file", &key, "--tls-ca-cert-file", &authority];
    let args = [&["--tls-port", &secure, "--tls-auth-clients", "yes"][..], &files].concat();
    let Some(server) = start(0, folder, &args) else { return };
    server.up();

    let roots = Roots::Pem(ca.pem().into_bytes());
    let to = |host: &str, identity: Option<Identity>, roots: &Roots| {
        let mut options = RedisOptions::at(format!("rediss://{host}:{port}"));
        options.identity = identity;
        Carrier::with_redis(&options, roots).unwrap()
    };
    let ours = || Some(Identity::pem(own_pem.clone(), own_key.clone()));
    for host in ["localhost", "127.0.0.1"] {
        let carrier = to(host, ours(), &roots);
        let connection = send(&carrier, &["CLIENT ID"]);
        for number in 1..4 {
            let sent = [
                format!("SETRANGE {host} 100000 x"),
                format!("GET {host}"),
                format!("INCR {host}n"),
            ];
            let sent: Vec<&str> = sent.iter().map(String::as_str).collect();
            assert_eq!(send(&carrier, &sent)[2], Reply::Number(number));
        }
        // One connection for all of it: what TLS itself sends after the handshake is no surplus.
        assert_eq!(send(&carrier, &["CLIENT ID"]), connection);
    }
    let tls = |carrier: &Carrier| fault(&outcome(carrier, &["PING"]));
    assert_eq!(tls(&to("localhost", ours(), &Roots::WebPki)), Fault::Tls, "unknown authority");
    assert_eq!(tls(&to("127.0.0.2", ours(), &roots)), Fault::Connect, "bound to one address");
    assert_eq!(tls(&to("localhost", None, &roots)), Fault::Tls, "no certificate shown");

    let mut options = RedisOptions::at("rediss://localhost");
    for (chain, key, field) in [
        ("", &*own_key, "identity.chain"),
        (&*own_pem, "", "identity.key"),
        (&*own_pem, &*server_key, "identity.key"),
    ] {
        options.identity = Some(Identity::pem(chain, key));
        assert_eq!(Carrier::with_redis(&options, &roots).unwrap_err().field, field);
    }
}
