//! Which servers are offered the TLS session of an earlier connection, and what is done about one
//! that breaks off for it.
//!
//! A server may decline a session, and does so without a word: the handshake is made in full. One
//! that asks for client certificates and has no session id context (OpenSSL's way to say whose
//! sessions are whose) breaks off instead, with the alert `internal_error`. Nothing has left then,
//! so the connection is made once more, in full, and the caller hears nothing of it. To do so
//! each time would cost every connection of such a server twice: after each break it is spared
//! offers for a while, counted in connections, and twice as long after the next one. One
//! handshake that an offer did not break begins all that anew.
//!
//! Here is no session: who has them asks before an offer and says what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Servers remembered: those alone that have broken off.
const KEPT: usize = 256;
/// Connections without an offer after the first break.
const SPARED: u32 = 4;
/// The same at most.
const SPARED_MOST: u32 = 1_024;

/// What is known of servers that have broken off.
#[derive(Clone, Debug, Default)]
pub struct Resumption {
    servers: BTreeMap<(Arc<str>, u16), Server>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Server {
    /// How long it was spared offers after the last break.
    span: u32,
    /// Connections without an offer from now on.
    spared: u32,
    /// Connections to be made once more.
    owed: u32,
}

impl Resumption {
    /// Whether the next connection to a server offers a session. Every connection asks once.
    pub fn offers(&mut self, host: &Arc<str>, port: u16) -> bool {
        let Some(server) = self.server(host, port) else { return true };
        let spared = server.spared > 0;
        server.spared = server.spared.saturating_sub(1);
        !spared
    }

    /// A server broke off instead of answering an offer.
    pub fn broke_off(&mut self, host: &Arc<str>, port: u16) {
        if self.server(host, port).is_none() && self.servers.len() >= KEPT {
            self.servers.pop_first();
        }
        let server = self.servers.entry((host.clone(), port)).or_default();
        server.span = server.span.saturating_mul(2).clamp(SPARED, SPARED_MOST);
        server.spared = server.span;
        server.owed = server.owed.saturating_add(1);
    }

    /// Whether a connection that failed just now is to be made once more: once per offer that was
    /// broken off. No offer is made then.
    pub fn once_more(&mut self, host: &Arc<str>, port: u16) -> bool {
        let Some(server) = self.server(host, port) else { return false };
        let owed = server.owed > 0;
        server.owed = server.owed.saturating_sub(1);
        owed
    }

    /// A handshake with an offer came to its end, with the session or in full.
    pub fn went_on(&mut self, host: &Arc<str>, port: u16) {
        if let Some(server) = self.server(host, port)
            && server.owed == 0
        {
            self.servers.remove(&(host.clone(), port));
        }
    }

    /// Other certificates are in force: what was, counts no longer.
    pub fn forget(&mut self) {
        self.servers.clear();
    }

    /// Most programs know no such server at all: nothing is allocated for the question then.
    fn server(&mut self, host: &Arc<str>, port: u16) -> Option<&mut Server> {
        if self.servers.is_empty() {
            return None;
        }
        self.servers.get_mut(&(host.clone(), port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u16) -> Arc<str> {
        format!("host-{number}").into()
    }

    #[test]
    fn a_break_is_made_good_once_and_the_server_is_spared_for_twice_as_long_each_time() {
        let (mut all, host) = (Resumption::default(), host(1));
        assert!(all.offers(&host, 1) && !all.once_more(&host, 1));
        let mut spans = Vec::new();
        for _ in 0..10 {
            assert!(all.offers(&host, 1));
            all.broke_off(&host, 1);
            assert!(all.once_more(&host, 1) && !all.once_more(&host, 1));
            let mut span = 0;
            while !all.offers(&host, 1) {
                span += 1;
            }
            spans.push(span);
        }
        assert_eq!(spans, [4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024]);
        // Of another port nothing is known.
        all.broke_off(&host, 1);
        assert!(all.offers(&host, 2) && !all.once_more(&host, 2) && !all.offers(&host, 1));
    }

    #[test]
    fn a_handshake_that_goes_on_begins_it_anew_but_breaks_of_others_are_made_good() {
        let (mut all, host) = (Resumption::default(), host(1));
        // Two connections at once, and a third that came through.
        all.broke_off(&host, 1);
        all.broke_off(&host, 1);
        all.went_on(&host, 1);
        assert!(!all.offers(&host, 1));
        assert!(all.once_more(&host, 1) && all.once_more(&host, 1) && !all.once_more(&host, 1));
        all.went_on(&host, 1);
        assert!(all.offers(&host, 1));
        all.broke_off(&host, 1);
        assert_eq!((0..9).filter(|_| !all.offers(&host, 1)).count(), 4);
        all.broke_off(&host, 1);
        all.forget();
        assert!(all.offers(&host, 1) && !all.once_more(&host, 1));
    }

    #[test]
    fn servers_are_remembered_within_bounds() {
        let mut all = Resumption::default();
        for number in 0..2_000 {
            all.broke_off(&host(number), number);
            assert!(all.once_more(&host(number), number));
            assert!(all.servers.len() <= KEPT);
        }
        assert!(all.offers(&"never".into(), 1));
    }
}
