//! Redis commands against servers that lie, send garbage, hang, or are gone. What a real one does
//! is in `redis_server.rs`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_types)] // test code
#![allow(clippy::disallowed_methods)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{SLACK, assert_took, fault, ms, reason, timed};
use origin_driver::Roots;
use origin_driver::carry::{Carrier, Limit, RedisOptions};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;
use origin_driver::core::redis::{Command, Reply};

const LONG: Duration = Duration::from_secs(30);

/// A server that does what it is told with each connection.
struct Server {
    port: u16,
    accepted: Arc<AtomicUsize>,
    /// Everything it has read.
    heard: Arc<Mutex<Vec<u8>>>,
}

/// One connection, as such a server sees it.
struct Peer {
    stream: TcpStream,
    number: usize,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Peer {
    /// Waits for something to be said; false when the client has gone.
    fn hear(&mut self) -> bool {
        let mut piece = [0; 64 << 10];
        let count = self.stream.read(&mut piece).unwrap_or(0);
        self.heard.lock().unwrap().extend_from_slice(&piece[..count]);
        count > 0
    }

    fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }
}

fn server(serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (accepted, heard): (Arc<AtomicUsize>, Arc<Mutex<Vec<u8>>>) = Default::default();
    let server = Server { port, accepted: accepted.clone(), heard: heard.clone() };
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let number = accepted.fetch_add(1, Ordering::SeqCst);
            let (serve, heard) = (serve.clone(), heard.clone());
            thread::spawn(move || {
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                serve(&mut Peer { stream, number, heard });
            });
        }
    });
    server
}

impl Server {
    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    fn carrier(&self) -> Carrier {
        carrier(&format!("redis://127.0.0.1:{}", self.port))
    }
}

fn carrier(url: &str) -> Carrier {
    Carrier::with_redis(&RedisOptions::at(url), &Roots::WebPki).unwrap()
}

fn get(count: usize) -> Work {
    Work::Redis(vec![Command::new(&[b"GET", b"key"]); count])
}

fn replies(outcome: JobOutcome) -> Vec<Reply> {
    match outcome {
        JobOutcome::Replies(replies) => replies,
        other => panic!("no replies: {other:?}"),
    }
}

fn ok() -> Reply {
    Reply::Text("OK".into())
}

#[test]
fn one_connection_serves_job_after_job() {
    let server = server(|peer| {
        while peer.hear() {
            peer.say(b"+OK\r\n");
        }
    });
    let carrier = server.carrier();
    for _ in 0..5 {
        assert_eq!(replies(timed(&carrier, get(1), LONG).0), [ok()]);
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!(*server.heard.lock().unwrap(), b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n".repeat(5));
}

#[test]
fn a_connection_that_was_closed_or_is_not_quiet_is_not_used_again() {
    let server = server(|peer| {
        peer.hear();
        match peer.number {
            // An answer too many, a moment after the exchange.
            1 => {
                peer.say(b":1\r\n");
                thread::sleep(ms(50));
                peer.say(b":666\r\n");
                thread::sleep(Duration::from_secs(5));
            }
            number => {
                peer.say(format!(":{number}\r\n").as_bytes());
            }
        }
    });
    let carrier = server.carrier();
    for number in 0..4 {
        assert_eq!(replies(timed(&carrier, get(1), LONG).0), [Reply::Number(number)]);
        thread::sleep(ms(150));
    }
    assert_eq!(server.accepted(), 4);
}

#[test]
fn case_004_86_garbage_is_a_fault_and_the_next_job_starts_anew() {
    for (bytes, expected) in [
        (&b""[..], Fault::Reset),
        (b"+O", Fault::Reset),
        (b"$5\r\nhel", Fault::Reset),
        (b"*2\r\n:1\r\n", Fault::Reset),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Fault::Protocol),
        (b"\x15\x03\x03\x00\x02\x02\x50", Fault::Protocol),
        (b"$-5\r\n", Fault::Protocol),
        (b"%1\r\n+a\r\n+b\r\n", Fault::Protocol),
        (b"+OK\r\n+OK\r\n", Fault::Protocol),
        (b"$9223372036854775807\r\n", Fault::BodyTooLarge),
        (b"*2147483647\r\n", Fault::BodyTooLarge),
    ] {
        let server = server(move |peer| {
            peer.hear();
            if peer.number == 0 {
                peer.say(bytes);
            } else {
                peer.say(b"+OK\r\n");
            }
        });
        let carrier = server.carrier();
        let (outcome, took) = timed(&carrier, get(1), LONG);
        assert_eq!(fault(&outcome), expected, "{:?}", String::from_utf8_lossy(bytes));
        assert!(took < SLACK);
        assert_eq!(replies(timed(&carrier, get(1), LONG).0), [ok()]);
    }
}

#[test]
fn hostile_replies_are_not_read_to_their_end() {
    const ALL: usize = 256 << 20;
    for (head, piece) in [
        (&b"$8000000000\r\n"[..], vec![b'x'; 64 << 10]),
        (b"*2147483648\r\n", b":1\r\n".repeat(16 << 10)),
        // Nothing too large is announced here: it just does not end.
        (b"*9000\r\n", b"*9000\r\n".repeat(8 << 10)),
        (b"", b":1\r\n".repeat(16 << 10)),
        (b"+", vec![b'x'; 64 << 10]),
        (b"*8\r\n", [b"$8000000\r\n", &[b'x'; 8_000_000][..], b"\r\n"].concat()),
    ] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let server = server(move |peer| {
            peer.hear();
            peer.say(head);
            while counted.load(Ordering::SeqCst) < ALL {
                match peer.stream.write(&piece) {
                    Ok(count) => counted.fetch_add(count, Ordering::SeqCst),
                    Err(_) => return,
                };
            }
        });
        let (outcome, took) = timed(&server.carrier(), get(20_000 / 2 - 1), LONG);
        assert!(matches!(fault(&outcome), Fault::BodyTooLarge | Fault::Protocol), "{outcome:?}");
        assert!(took < SLACK, "{took:?}");
        thread::sleep(ms(50));
        // 8 MiB, and what the system's buffers hold.
        let sent = sent.load(Ordering::SeqCst);
        assert!(sent < 32 << 20, "{sent} bytes were taken after {head:?}");
    }
}

#[test]
fn a_server_that_hangs_or_drips_does_not_move_the_limit() {
    let hanging = server(|peer| while peer.hear() {});
    let (outcome, took) = timed(&hanging.carrier(), get(1), ms(200));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(200));

    let dripping = server(|peer| {
        peer.hear();
        peer.say(b"$5000\r\n");
        while peer.say(b"x") {
            thread::sleep(ms(20));
        }
    });
    let (outcome, took) = timed(&dripping.carrier(), get(1), ms(300));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(300));

    // It does not even read.
    let deaf = server(|_| thread::sleep(Duration::from_secs(5)));
    let large = Command::new(&[b"SET", b"key", &vec![b'x'; 64 << 20]]);
    let (outcome, took) = timed(&deaf.carrier(), Work::Redis(vec![large]), ms(300));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(300));
}

#[test]
fn work_that_nobody_waits_for_any_more_ends_soon() {
    let server = server(|peer| while peer.hear() {});
    let carrier = server.carrier();
    let life = Arc::new(());
    let limit = Limit::within(Duration::from_secs(60)).while_alive(&life);
    let begun = Instant::now();
    let thread = thread::spawn(move || carrier.carry(get(1), &limit));
    thread::sleep(ms(150));
    assert!(!thread.is_finished());
    drop(life);
    assert_eq!(fault(&thread.join().unwrap()), Fault::Timeout);
    assert!(begun.elapsed() < SLACK);
}

#[test]
fn no_server_and_no_address_are_said() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (outcome, took) = timed(&carrier(&format!("redis://{gone}")), get(1), LONG);
    assert_eq!(fault(&outcome), Fault::Connect);
    assert!(took < SLACK);

    // A resolver may take its time to say so, but not more than connecting may take.
    let (outcome, took) = timed(&carrier("redis://no-such-host.invalid"), get(1), LONG);
    assert!(matches!(fault(&outcome), Fault::Resolve | Fault::ConnectTimeout), "{outcome:?}");
    assert!(took < Duration::from_secs(1) + SLACK);
    let (outcome, _) = timed(&carrier("redis://no-such-host.invalid"), get(1), ms(1));
    assert!(matches!(fault(&outcome), Fault::Resolve | Fault::Timeout), "{outcome:?}");

    assert!(reason(&timed(&Carrier::default(), get(1), LONG).0).contains("no Redis"));
}

#[test]
fn who_we_are_comes_first_and_the_commands_only_when_that_was_accepted() {
    let login = b"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$2\r\npw\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n";
    for (answer, expected) in [
        (&b"+OK\r\n+OK\r\n"[..], vec![ok(), ok()]),
        (b"-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n", refused("WRONGPASS")),
        (b"+OK\r\n-ERR DB index is out of range\r\n", refused("ERR")),
    ] {
        let server = server(move |peer| {
            peer.hear();
            peer.say(answer);
            while peer.hear() {
                peer.say(b"+OK\r\n+OK\r\n");
            }
        });
        let carrier = carrier(&format!("redis://app:pw@127.0.0.1:{}/7", server.port));
        let accepted = expected == [ok(), ok()];
        for _ in 0..2 {
            assert_eq!(replies(timed(&carrier, get(2), LONG).0), expected);
        }
        let heard = server.heard.lock().unwrap().clone();
        let commands = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n".repeat(4);
        if accepted {
            assert_eq!(server.accepted(), 1);
            assert_eq!(heard, [&login[..], &commands].concat());
        } else {
            assert_eq!(server.accepted(), 2, "such a connection is not kept");
            assert_eq!(heard, login.repeat(2));
        }
    }
}

fn refused(word: &str) -> Vec<Reply> {
    vec![Reply::Refused(word.into()); 2]
}

#[test]
fn a_login_that_hangs_is_a_connection_that_takes_too_long() {
    let server = server(|peer| while peer.hear() {});
    let mut options = RedisOptions::at(format!("redis://:pw@127.0.0.1:{}", server.port));
    options.connect_timeout = ms(150);
    let carrier = Carrier::with_redis(&options, &Roots::WebPki).unwrap();
    let (outcome, took) = timed(&carrier, get(1), LONG);
    assert_eq!(fault(&outcome), Fault::ConnectTimeout);
    assert_took(took, ms(150));
    let (outcome, took) = timed(&carrier, get(1), ms(50));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(50));
}

#[test]
fn what_would_not_be_answered_is_not_sent() {
    let server = server(|peer| while peer.hear() {});
    let carrier = server.carrier();
    let empty = vec![Command::new(&[b"GET", b"a"]), Command(Vec::new())];
    assert_eq!(fault(&timed(&carrier, Work::Redis(empty), LONG).0), Fault::Request);
    assert_eq!(fault(&timed(&carrier, get(10_001), LONG).0), Fault::Request);
    assert_eq!(replies(timed(&carrier, get(0), LONG).0), []);
    assert_eq!(fault(&timed(&carrier, get(1), Duration::ZERO).0), Fault::Timeout);
    assert_eq!(server.accepted(), 0);
}

#[test]
fn a_primary_that_is_none_any_more_is_looked_for_again() {
    let server = server(|peer| {
        while peer.hear() {
            peer.say(match peer.number {
                0 => b"-READONLY You can't write against a read only replica.\r\n",
                _ => b"+OK\r\n",
            });
        }
    });
    let carrier = server.carrier();
    assert_eq!(replies(timed(&carrier, get(1), LONG).0), [Reply::Refused("READONLY".into())]);
    assert_eq!(replies(timed(&carrier, get(1), LONG).0), [ok()]);
    assert_eq!(server.accepted(), 2);
}

#[test]
fn jobs_at_the_same_time_have_a_connection_each_and_few_are_kept() {
    let server = server(|peer| {
        while peer.hear() {
            thread::sleep(ms(100));
            peer.say(b"+OK\r\n");
        }
    });
    let carrier = server.carrier();
    let round = || {
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| assert_eq!(replies(timed(&carrier, get(1), LONG).0), [ok()]));
            }
        });
    };
    round();
    assert_eq!(server.accepted(), 10);
    round();
    assert_eq!(server.accepted(), 16, "four were kept");
}

#[cfg(feature = "redis-tls")]
#[test]
fn a_server_without_tls_is_not_spoken_to_in_plain_text() {
    let server = server(|peer| {
        peer.hear();
        peer.say(b"-ERR Protocol error: unbalanced quotes in request\r\n");
    });
    let carrier = carrier(&format!("rediss://:hunter2@127.0.0.1:{}", server.port));
    assert_eq!(fault(&timed(&carrier, get(1), LONG).0), Fault::Tls);
    let heard = server.heard.lock().unwrap().clone();
    assert_eq!(heard[..2], [0x16, 0x03], "a handshake");
    assert!(!heard.windows(7).any(|part| part == b"hunter2"));

    // Nor does one that hangs in its handshake hold anybody up.
    let hanging = self::server(|peer| while peer.hear() {});
    let carrier = self::carrier(&format!("rediss://127.0.0.1:{}", hanging.port));
    let (outcome, took) = timed(&carrier, get(1), ms(200));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(200));
}
