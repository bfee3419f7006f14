//! Redis: times to live, who is let in, what happens when memory is short, silence.

use std::time::Duration;

use origin_servers::redis::{self, Setup};
use origin_servers::resp::{Link, Value};

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

#[test]
fn a_value_lives_as_long_as_it_was_told_to() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    eprintln!("redis ready in {:?}", redis.process.ready_in());
    let mut link = redis.link().unwrap();
    assert_eq!(link.call(&["SET", "k", "v", "PX", "400"]).unwrap(), text("OK"));
    assert_eq!(link.call(&["GET", "k"]).unwrap(), text("v"));
    let Value::Number(left) = link.call(&["PTTL", "k"]).unwrap() else { panic!("no number") };
    assert!((1..=400).contains(&left), "{left}");
    std::thread::sleep(Duration::from_millis(450));
    assert_eq!(link.call(&["GET", "k"]).unwrap(), Value::Nil);
    assert_eq!(link.call(&["PTTL", "k"]).unwrap(), Value::Number(-2), "no such key");
    link.call(&["SET", "k", "v"]).unwrap();
    assert_eq!(link.call(&["PTTL", "k"]).unwrap(), Value::Number(-1), "lives for ever");
    // What is no positive number is refused, and changes nothing.
    let Value::Refused(word) = link.call(&["SET", "k", "w", "PX", "0"]).unwrap() else {
        panic!("not refused")
    };
    assert!(word.starts_with("ERR invalid expire"), "{word}");
    assert_eq!(link.call(&["GET", "k"]).unwrap(), text("v"));
    link.call(&["LPUSH", "list", "a"]).unwrap();
    let Value::Refused(word) = link.call(&["GET", "list"]).unwrap() else { panic!("not refused") };
    assert!(word.starts_with("WRONGTYPE "), "{word}");
}

#[test]
fn nobody_is_let_in_without_the_password() {
    let setup = Setup { password: Some("open-sesame".into()), ..Setup::default() };
    let Some(redis) = redis::start(&setup) else { return };
    let mut link = Link::open(redis.address(), None, Duration::from_secs(2)).unwrap();
    let Value::Refused(word) = link.call(&["GET", "k"]).unwrap() else { panic!("let in") };
    assert!(word.starts_with("NOAUTH "), "{word}");
    let Value::Refused(word) = link.call(&["AUTH", "wrong"]).unwrap() else { panic!("let in") };
    assert!(word.starts_with("WRONGPASS "), "{word}");
    assert_eq!(link.call(&["AUTH", "open-sesame"]).unwrap(), text("OK"));
    assert_eq!(link.call(&["GET", "k"]).unwrap(), Value::Nil);
    assert_eq!(redis.call(&["PING"]).unwrap(), text("PONG"));
}

#[test]
fn over_tls_only_certificates_of_its_authority_are_let_in() {
    let setup = Setup { tls: true, password: Some("both".into()), ..Setup::default() };
    let Some(redis) = redis::start(&setup) else { return };
    eprintln!("redis over TLS ready in {:?}", redis.process.ready_in());
    assert_eq!(redis.call(&["PING"]).unwrap(), text("PONG"));
    let wait = Duration::from_secs(2);
    let papers = redis.papers.as_ref().unwrap();
    let anonymous = Link::open(redis.address(), Some(&papers.anonymous()), wait);
    assert!(anonymous.and_then(|mut link| link.call(&["PING"])).is_err(), "no certificate");
    let plain = Link::open(redis.address(), None, wait);
    assert!(plain.and_then(|mut link| link.call(&["PING"])).is_err(), "no TLS");
}

#[test]
fn when_memory_is_short_the_oldest_go() {
    let setup = Setup { max_memory: Some("3mb".into()), ..Setup::default() };
    let Some(redis) = redis::start(&setup) else { return };
    let mut link = redis.link().unwrap();
    let large = "x".repeat(50_000);
    for number in 0..100 {
        let stored = link.call(&["SET", &number.to_string(), &large]).unwrap();
        assert_eq!(stored, text("OK"));
    }
    let Value::Number(left) = link.call(&["DBSIZE"]).unwrap() else { panic!("no number") };
    assert!((1..100).contains(&left), "{left}");
}

#[test]
fn a_restart_empties_it_unless_it_is_durable() {
    for durable in [false, true] {
        let Some(mut redis) = redis::start(&Setup { durable, ..Setup::default() }) else { return };
        redis.call(&["SET", "k", "v"]).unwrap();
        redis.process.kill9();
        assert!(redis.call(&["GET", "k"]).is_err());
        redis.process.restart().unwrap();
        let expected = if durable { text("v") } else { Value::Nil };
        assert_eq!(redis.call(&["GET", "k"]).unwrap(), expected, "durable {durable}");
    }
}

#[test]
fn a_paused_server_accepts_and_says_nothing() {
    let Some(redis) = redis::start(&Setup::default()) else { return };
    redis.process.pause();
    let mut link = Link::open(redis.address(), None, Duration::from_millis(300)).unwrap();
    assert!(link.call(&["PING"]).is_err());
    redis.process.resume();
    assert_eq!(redis.call(&["PING"]).unwrap(), text("PONG"));
}
