//! DNS messages over real sockets, against servers that lie, break off, or say nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_types)] // test code
#![allow(clippy::disallowed_methods)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{SLACK, assert_took, fault, ms, timed};
use origin_driver::carry::{Carrier, Limit};
use origin_driver::core::job::{JobOutcome, Work};
use origin_driver::core::outcome::Fault;

/// A question with the number 0x1234.
const QUERY: &[u8] = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03web\x04test\0\0\x21\0\x01";

/// An answer to it of `length` bytes.
fn answer(length: usize) -> Vec<u8> {
    let mut message = vec![0xab; length];
    message[..4].copy_from_slice(b"\x12\x34\x81\x80");
    message
}

fn ask(server: SocketAddr, tcp: bool, limit: Duration) -> (JobOutcome, Duration) {
    let work = Work::Dns { server, query: Bytes::from_static(QUERY), tcp };
    timed(&Carrier::default(), work, limit)
}

fn message(outcome: &JobOutcome) -> &[u8] {
    match outcome {
        JobOutcome::Datagram(message) => message,
        other => panic!("no answer: {other:?}"),
    }
}

/// A UDP server for one question.
fn udp(serve: impl FnOnce(&UdpSocket, SocketAddr) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        let (count, from) = socket.recv_from(&mut query).unwrap();
        assert_eq!(&query[..count], QUERY);
        serve(&socket, from);
        // The socket stays open: what comes to a closed one would be refused.
        thread::sleep(Duration::from_secs(3));
    });
    address
}

/// A TCP server for one question, which must come in one piece.
fn tcp(serve: impl FnOnce(&mut TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut query = [0; 512];
        let count = stream.read(&mut query).unwrap();
        assert_eq!(query[..2], u16::try_from(QUERY.len()).unwrap().to_be_bytes());
        assert_eq!(&query[2..count], QUERY);
        serve(&mut stream);
    });
    address
}

#[test]
fn an_answer_over_udp_is_handed_on_as_it_is() {
    for length in [12, 100, 4096, 65_507] {
        let server = udp(move |socket, from| {
            socket.send_to(&answer(length), from).unwrap();
        });
        let (outcome, _) = ask(server, false, Duration::from_secs(5));
        assert_eq!(message(&outcome), answer(length));
    }
}

#[test]
fn an_answer_from_elsewhere_is_not_heard() {
    let server = udp(|socket, from| {
        let forged = [answer(12), vec![0; 20]].concat();
        // The same machine, another port; and another address of it, the same port.
        let port = socket.local_addr().unwrap().port();
        for liar in ["127.0.0.1:0".to_owned(), format!("127.0.0.2:{port}")] {
            if let Ok(liar) = UdpSocket::bind(liar) {
                let _ = liar.send_to(&forged, from);
            }
        }
        thread::sleep(ms(50));
        socket.send_to(&answer(30), from).unwrap();
    });
    let (outcome, _) = ask(server, false, Duration::from_secs(5));
    assert_eq!(message(&outcome), answer(30));
}

#[test]
fn what_is_no_answer_to_this_question_does_not_end_the_waiting() {
    let server = udp(|socket, from| {
        let mut other = answer(40);
        other[1] ^= 1;
        let short = &answer(12)[..11];
        for wrong in [&b""[..], b"\x12", short, &other, QUERY] {
            socket.send_to(wrong, from).unwrap();
        }
        socket.send_to(&answer(40), from).unwrap();
    });
    let (outcome, _) = ask(server, false, Duration::from_secs(5));
    assert_eq!(message(&outcome), answer(40));
}

#[test]
fn silence_and_a_flood_of_nonsense_end_at_the_limit() {
    let server = udp(|_, _| {});
    let (outcome, took) = ask(server, false, ms(200));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(200));

    let server = udp(|socket, from| {
        let end = Instant::now() + ms(800);
        while Instant::now() < end {
            let _ = socket.send_to(b"nonsense", from);
        }
    });
    let (outcome, took) = ask(server, false, ms(300));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(300));
}

#[test]
fn nobody_there_is_said_at_once() {
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for tcp in [false, true] {
        let (outcome, took) = ask(gone, tcp, Duration::from_secs(30));
        assert_eq!(fault(&outcome), Fault::Connect);
        assert!(took < SLACK, "{took:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_refused_before_anything_is_sent() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = socket.local_addr().unwrap();
    for length in [0, 11, 65_536, 1 << 20] {
        for tcp in [false, true] {
            let work = Work::Dns { server, query: vec![0; length].into(), tcp };
            let (outcome, _) = timed(&Carrier::default(), work, Duration::from_secs(30));
            assert_eq!(fault(&outcome), Fault::Request, "{length} {tcp}");
        }
    }
    // A message, but not one that fits into a datagram.
    let work = Work::Dns { server, query: vec![0; 65_535].into(), tcp: false };
    let (outcome, _) = timed(&Carrier::default(), work, Duration::from_secs(30));
    assert_eq!(fault(&outcome), Fault::Request);
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 8]).is_err(), "something was sent");
    let (outcome, _) = ask(server, false, Duration::ZERO);
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert!(socket.recv(&mut [0; 8]).is_err(), "something was sent");
}

#[test]
fn an_answer_over_tcp_comes_in_any_pieces() {
    for (length, piece) in [(12, 1), (300, 7), (65_535, 1000), (65_535, 70_000)] {
        let server = tcp(move |stream| {
            let length = u16::try_from(length).unwrap();
            let all = [&length.to_be_bytes()[..], &answer(length.into())].concat();
            for piece in all.chunks(piece) {
                stream.write_all(piece).unwrap();
            }
        });
        let (outcome, _) = ask(server, true, Duration::from_secs(5));
        assert_eq!(message(&outcome), answer(length));
    }
}

#[test]
fn a_broken_answer_over_tcp_is_none() {
    let mut other = [&[0, 40][..], &answer(40)].concat();
    other[3] ^= 1;
    let question = [&[0, u8::try_from(QUERY.len()).unwrap()][..], QUERY].concat();
    let whole = [&[0, 40][..], &answer(40)].concat();
    for (sent, expected) in [
        (Vec::new(), Fault::Reset),
        (vec![0], Fault::Reset),
        (vec![0, 40], Fault::Reset),
        (whole[..41].to_vec(), Fault::Reset),
        (vec![0, 0], Fault::Protocol),
        (vec![0, 11], Fault::Protocol),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".repeat(800), Fault::Protocol),
        (other, Fault::Protocol),
        (question, Fault::Protocol),
    ] {
        let server = tcp(move |stream| {
            let _ = stream.write_all(&sent);
        });
        let (outcome, took) = ask(server, true, Duration::from_secs(30));
        assert_eq!(fault(&outcome), expected);
        assert!(took < SLACK);
    }
}

#[test]
fn a_byte_now_and_then_does_not_move_the_limit() {
    let server = tcp(|stream| {
        for byte in [&[255, 255][..], &answer(65_535)].concat() {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            thread::sleep(ms(20));
        }
    });
    let (outcome, took) = ask(server, true, ms(300));
    assert_eq!(fault(&outcome), Fault::Timeout);
    assert_took(took, ms(300));
}

#[test]
fn work_that_nobody_waits_for_any_more_ends_soon() {
    let silent = udp(|_, _| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for (server, tcp) in [(silent, false), (listener.local_addr().unwrap(), true)] {
        let life = Arc::new(());
        let limit = Limit::within(Duration::from_secs(60)).while_alive(&life);
        let begun = Instant::now();
        let work = Work::Dns { server, query: Bytes::from_static(QUERY), tcp };
        let thread = thread::spawn(move || Carrier::default().carry(work, &limit));
        thread::sleep(ms(150));
        assert!(!thread.is_finished());
        drop(life);
        assert_eq!(fault(&thread.join().unwrap()), Fault::Timeout);
        assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    }
}
