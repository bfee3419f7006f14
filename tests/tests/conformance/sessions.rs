//! Servers that cannot take up a TLS session again and break the handshake off instead, as an OpenSSL
//! that asks for certificates and has no session id context does: nobody who calls hears of it.

use http::Method;
use origin_core::outcome::{Outcome, Sent};
use origin_driver::Client;
use rustls::SupportedProtocolVersion;

use crate::authority::{Authority, EACH_VERSION, OnOffer, Server, Setup};
use crate::certificates::{outcome, reason, to};
use crate::subject::{Subject, get};

on_every_runtime! {
    a_server_that_breaks_off_for_a_session_costs_no_attempt
    one_that_has_learnt_to_resume_is_offered_sessions_again
    one_that_breaks_off_in_any_case_is_asked_twice_at_most
    a_session_that_a_server_hangs_up_on_is_not_offered_for_ever
}

/// A server that wants certificates and closes after each answer, and a client of it that tries
/// once.
fn pair<S: Subject>(versions: &'static [&'static SupportedProtocolVersion]) -> (Server, Client<S>) {
    let ours = Authority::new();
    let setup = Setup::requiring(ours.leaf(&["localhost"]), &ours);
    let server = Server::start(&Setup { versions, keep: false, ..setup });
    let own = ours.leaf(&["client"]);
    server.know(&own, "us");
    let client = to::<S>(&server.url(), ours.roots()).identity(own.identity()).build().unwrap();
    (server, client)
}

fn a_server_that_breaks_off_for_a_session_costs_no_attempt<S: Subject>() {
    for versions in EACH_VERSION {
        let (server, client) = pair::<S>(versions);
        server.on_offer(OnOffer::Break);
        let lab = client.service("lab").unwrap();
        for number in 0..20 {
            let method = if number % 2 == 0 { Method::GET } else { Method::POST };
            let reply = S::wait(lab.request(method, "/").send()).unwrap();
            assert_eq!((reply.text(), reply.report.attempts.len()), ("us".into(), 1));
        }
        // The 2nd connection offers a session, the 6th after four without, the 15th after eight more.
        let (broken, accepted) = (server.broken(), server.accepted());
        assert_eq!((broken, accepted, server.requests()), (3, 23, 20), "{versions:?}");
        assert_eq!(server.resumed(), 0);
        assert!(reason(&client).contains("offered a session (InternalError)"), "{versions:?}");
        assert_eq!(client.tls_failures()[0].count, 3);
    }
}

fn one_that_has_learnt_to_resume_is_offered_sessions_again<S: Subject>() {
    for versions in EACH_VERSION {
        let (server, client) = pair::<S>(versions);
        let call = || assert_eq!(get(&client, "lab", "/").unwrap().text(), "us");
        server.on_offer(OnOffer::Break);
        (0..6).for_each(|_| call());
        assert_eq!((server.broken(), server.resumed()), (2, 0), "{versions:?}");
        server.on_offer(OnOffer::Resume);
        (0..12).for_each(|_| call());
        // Of these twelve, seven were not offered a session yet.
        assert_eq!((server.broken(), server.resumed()), (2, 5), "{versions:?}");
        // What was is forgotten: after the next break it is four again.
        server.on_offer(OnOffer::Break);
        (0..5).for_each(|_| call());
        assert_eq!((server.broken(), server.resumed()), (4, 5), "{versions:?}");
        assert_eq!((server.requests(), server.accepted()), (23, 27));
    }
}

fn one_that_breaks_off_in_any_case_is_asked_twice_at_most<S: Subject>() {
    for versions in EACH_VERSION {
        let (server, client) = pair::<S>(versions);
        assert_eq!(get(&client, "lab", "/").unwrap().text(), "us");
        server.on_offer(OnOffer::BreakAll);
        for (call, accepted) in [(1, 3), (2, 4), (3, 5)] {
            let outcome = outcome(get(&client, "lab", "/"));
            assert_eq!(outcome, crate::certificates::TLS, "{versions:?} {call}");
            assert_eq!((server.accepted(), server.requests()), (accepted, 1), "{versions:?}");
        }
        assert!(reason(&client).contains("InternalError"), "{}", reason(&client));
        assert!(!reason(&client).contains("session"), "{}", reason(&client));
    }
}

/// Without a word nobody knows why, so there is no second connection; but the next call gets one.
fn a_session_that_a_server_hangs_up_on_is_not_offered_for_ever<S: Subject>() {
    for versions in EACH_VERSION {
        let (server, client) = pair::<S>(versions);
        server.on_offer(OnOffer::Close);
        let mut answered = 0;
        for _ in 0..9 {
            match get(&client, "lab", "/") {
                Ok(reply) => {
                    assert_eq!(reply.text(), "us");
                    answered += 1;
                }
                Err(error) => {
                    let outcome = error.failure().unwrap().report.attempts[0].outcome;
                    let never = matches!(outcome, Outcome::Failed { sent: Sent::Never, .. });
                    assert!(never, "{outcome:?}");
                }
            }
        }
        // A full handshake brings up to two sessions, each of which is hung up on.
        assert!((3..9).contains(&answered), "{versions:?}: {answered} of 9");
        assert_eq!(server.requests(), answered);
    }
}
