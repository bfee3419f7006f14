//! The ways a server can misbehave, as data: `Mode` for scenario files and
//! tests, and `Plan`, the same with the counters that sequences need. What a
//! mode does on a socket lives in `conduct`.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// How a server treats requests. In a scenario file: `"ok"`,
/// `{"status": {"code": 503}}`, `{"flaky": {"every": 3, "mode": "refuse"}}`.
///
/// A change applies to existing keep-alive connections from their next
/// request on; entering `Refuse` or one of the `Reset...` modes kills them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The server's own answer: its handler, or a small JSON body naming
    /// cluster and instance and echoing method and path.
    #[default]
    Ok,
    /// 200 with the request's method, path, headers and body as JSON.
    Echo,
    /// A fixed answer, written as given.
    Status {
        /// The status code.
        code: u16,
        /// Header lines; a `Content-Length` here replaces the true one.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// Connections are refused (ECONNREFUSED); the port stays reserved.
    Refuse,
    /// The request is read and never answered.
    HangBeforeHead,
    /// Connections are accepted and never read. They are closed when the
    /// mode changes. Connections that existed before have their next request
    /// read and not answered.
    HangOnAccept,
    /// A head announcing 1024 bytes, then silence.
    HangAfterHead,
    /// A correct head, then the body one byte per interval.
    Drip {
        /// Length of the body.
        bytes: u64,
        /// Milliseconds between two bytes.
        every_ms: u64,
    },
    /// The request is read, then the connection is reset.
    ResetBeforeHead,
    /// A head announcing 1024 bytes more than are sent, then a reset.
    ResetMidBody {
        /// Bytes of body that are sent.
        after: u64,
    },
    /// A head announcing 1024 bytes more than are sent, then a clean close.
    CloseMidBody {
        /// Bytes of body that are sent.
        after: u64,
    },
    /// A 200 with an empty body and a head of exactly this size, filled with
    /// padding headers of about 1 KiB. Below 51 bytes it is the bare head of
    /// 38 or 40 bytes, which no padding line fits into.
    HugeHead {
        /// Size of the head with its final empty line.
        bytes: u64,
    },
    /// A 200 whose body has this size; it is never held in memory.
    HugeBody {
        /// Length of the body.
        bytes: u64,
    },
    /// 512 bytes that are not HTTP, the same every time, then a close.
    Garbage,
    /// What `Ok` does, later.
    Slow {
        /// Milliseconds before the answer.
        delay_ms: u64,
    },
    /// A redirect.
    Redirect {
        /// The Location.
        to: String,
        /// The status code; 302 when left out.
        #[serde(default = "found")]
        code: u16,
    },
    /// One mode per request, across all connections; the last one repeats.
    /// Modes about connections act on the request instead: `Refuse` resets,
    /// `HangOnAccept` never answers.
    Sequence(Vec<Mode>),
    /// Each n-th request gets the mode, the others `Ok`. Zero means never.
    Flaky {
        /// The n of "each n-th".
        every: u64,
        /// The mode those requests get.
        mode: Box<Mode>,
    },
    /// A static document; answers a matching If-None-Match with 304.
    Body {
        /// Its Content-Type.
        content_type: String,
        /// Its entity tag with quotes, if it has one.
        #[serde(default)]
        etag: Option<String>,
        /// Its Cache-Control, if it has one.
        #[serde(default)]
        cache_control: Option<String>,
        /// The document.
        body: String,
    },
}

fn found() -> u16 {
    302
}

impl Mode {
    /// A status with neither headers nor body.
    #[must_use]
    pub fn status(code: u16) -> Mode {
        Mode::Status { code, headers: Vec::new(), body: String::new() }
    }

    /// A status with one header, for `Retry-After` and its kin.
    #[must_use]
    pub fn status_with(code: u16, name: &str, value: &str) -> Mode {
        Mode::Status {
            code,
            headers: vec![(name.to_owned(), value.to_owned())],
            body: String::new(),
        }
    }

    /// `Ok` after a delay.
    #[must_use]
    pub fn slow(delay_ms: u64) -> Mode {
        Mode::Slow { delay_ms }
    }

    /// Each n-th request gets the mode.
    #[must_use]
    pub fn flaky(every: u64, mode: Mode) -> Mode {
        Mode::Flaky { every, mode: Box::new(mode) }
    }

    /// Whether entering this mode kills the connections that exist.
    pub(crate) fn kills(&self) -> bool {
        matches!(self, Mode::Refuse | Mode::ResetBeforeHead | Mode::ResetMidBody { .. })
    }
}

/// A mode together with the counters of its sequences: one per `set`, shared
/// by all connections of a server.
#[derive(Debug)]
pub(crate) struct Plan {
    mode: Mode,
    node: Node,
}

#[derive(Debug)]
enum Node {
    Leaf(Mode),
    Sequence(Vec<Node>, AtomicUsize),
    Flaky(u64, Box<Node>, AtomicUsize),
}

static OK: Mode = Mode::Ok;

impl Plan {
    /// Starts the mode at its first request.
    pub(crate) fn new(mode: Mode) -> Plan {
        Plan { node: Node::new(&mode), mode }
    }

    /// The mode as it was set.
    pub(crate) fn mode(&self) -> &Mode {
        &self.mode
    }

    /// The mode for the next request; never a sequence or a flaky one.
    pub(crate) fn next(&self) -> &Mode {
        self.node.next()
    }
}

impl Node {
    fn new(mode: &Mode) -> Node {
        match mode {
            Mode::Sequence(modes) => {
                Node::Sequence(modes.iter().map(Node::new).collect(), AtomicUsize::default())
            }
            Mode::Flaky { every, mode } => {
                Node::Flaky(*every, Box::new(Node::new(mode)), AtomicUsize::default())
            }
            other => Node::Leaf(other.clone()),
        }
    }

    fn next(&self) -> &Mode {
        match self {
            Node::Leaf(mode) => mode,
            Node::Sequence(nodes, counter) => {
                let turn = counter.fetch_add(1, Ordering::Relaxed);
                let last = nodes.len().saturating_sub(1);
                nodes.get(turn.min(last)).map_or(&OK, Node::next)
            }
            Node::Flaky(every, node, counter) => {
                let turn = counter.fetch_add(1, Ordering::Relaxed) as u64 + 1;
                match turn.checked_rem(*every) {
                    Some(0) => node.next(),
                    _ => &OK,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_like_a_scenario_file() {
        let text = r#"["ok", {"status":{"code":503}}, {"redirect":{"to":"/x"}},
            {"flaky":{"every":3,"mode":"hang_before_head"}}, {"reset_mid_body":{"after":7}},
            {"sequence":["refuse",{"slow":{"delay_ms":5}}]}]"#;
        let modes: Vec<Mode> = serde_json::from_str(text).unwrap();
        assert_eq!(modes[1], Mode::status(503));
        assert_eq!(modes[2], Mode::Redirect { to: "/x".into(), code: 302 });
        assert_eq!(modes[3], Mode::flaky(3, Mode::HangBeforeHead));
        let again = serde_json::to_string(&modes).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Mode>>(&again).unwrap(), modes);
    }

    #[test]
    fn a_sequence_ends_on_its_last_mode_and_an_empty_one_is_ok() {
        let plan = Plan::new(Mode::Sequence(vec![Mode::Echo, Mode::Garbage]));
        assert_eq!(plan.next(), &Mode::Echo);
        for _ in 0..3 {
            assert_eq!(plan.next(), &Mode::Garbage);
        }
        assert_eq!(Plan::new(Mode::Sequence(Vec::new())).next(), &Mode::Ok);
    }

    #[test]
    fn flaky_hits_each_nth_and_zero_never() {
        let plan = Plan::new(Mode::flaky(3, Mode::Echo));
        let hits: Vec<bool> = (0..9).map(|_| plan.next() == &Mode::Echo).collect();
        assert_eq!(hits, [false, false, true, false, false, true, false, false, true]);
        let never = Plan::new(Mode::flaky(0, Mode::Echo));
        assert!((0..9).all(|_| never.next() == &Mode::Ok));
    }
}
