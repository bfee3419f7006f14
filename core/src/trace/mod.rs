//! The context of a distributed trace: W3C Trace Context (level 1, and level 2 where it only adds),
//! read from an incoming request and written with every attempt, so that what a service does is
//! found under the call it was done for. Pure: ids come from the call's seeded numbers, spans
//! themselves are the driver's. The list of other vendors is in `state.rs`.

mod state;
#[cfg(test)]
mod tests;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

pub use state::{BadState, TraceState};

use crate::correlation::HEX;
use crate::rng::Pcg32;

/// `traceparent`: the trace, the span of the caller, and whether it is recorded.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`: what vendors add.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Keeps the ids apart from jitter and correlation ids, which have the same seed.
const TRACES: u64 = 0x7ace_0000_0000_0001;
const SPANS: u64 = 0x5a17_0000_0000_0001;

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;
const SAMPLED: u8 = 0x01;
/// Level 2: the lower 7 bytes of the trace id are random.
const RANDOM: u8 = 0x02;

/// The id of a trace: 16 bytes, not all zero. Written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId([u8; 16]);

/// The id of a span: 8 bytes, not all zero. Written as 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

/// Where a request stands in a trace: what the next one down the line is told. Cheap to clone.
///
/// ```
/// use origin_core::trace::TraceContext;
///
/// let incoming = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let context = TraceContext::parse(incoming.as_bytes())?;
/// assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert!(context.is_sampled());
/// assert_eq!(context.traceparent(), incoming);
/// // All-zero ids, capitals, another length: none.
/// assert!(TraceContext::parse(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01").is_err());
/// # Ok::<(), origin_core::trace::BadTrace>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: TraceId,
    span: SpanId,
    flags: u8,
    state: TraceState,
}

/// The text is no `traceparent`. It is not repeated: it may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a traceparent is 00-<32 hexadecimal digits>-<16 hexadecimal digits>-<2 hexadecimal digits> in \
     lower case, with ids that are not all zero"
)]
pub struct BadTrace;

impl TraceId {
    /// That of these bytes; `None` when all are zero.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Option<TraceId> {
        (bytes != [0; 16]).then_some(TraceId(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        self.0
    }
}

impl SpanId {
    /// That of these bytes; `None` when all are zero.
    #[must_use]
    pub fn new(bytes: [u8; 8]) -> Option<SpanId> {
        (bytes != [0; 8]).then_some(SpanId(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl TraceContext {
    /// One of another library: its ids, and whether the trace is recorded.
    #[must_use]
    pub fn new(trace: TraceId, span: SpanId, sampled: bool) -> TraceContext {
        let flags = if sampled { SAMPLED } else { 0 };
        TraceContext { trace, span, flags, state: TraceState::default() }
    }

    /// The same with the list of vendors.
    #[must_use]
    pub fn with_state(self, state: TraceState) -> TraceContext {
        TraceContext { state, ..self }
    }

    /// A `traceparent`. One of a later version is read as far as version 00 goes.
    ///
    /// # Errors
    /// Anything that the recommendation calls invalid; a trace is then begun anew.
    pub fn parse(text: &[u8]) -> Result<TraceContext, BadTrace> {
        let head = text.get(..LENGTH).ok_or(BadTrace)?;
        let version = hex::<1>(&head[..2])?;
        // The last version is none, and version 00 has nothing behind the flags.
        let sound = match version {
            [0] => text.len() == LENGTH,
            [0xff] => false,
            _ => text.get(LENGTH).is_none_or(|next| *next == b'-'),
        };
        if !sound || [head[2], head[35], head[52]] != *b"---" {
            return Err(BadTrace);
        }
        let trace = TraceId::new(hex(&head[3..35])?).ok_or(BadTrace)?;
        let span = SpanId::new(hex(&head[36..52])?).ok_or(BadTrace)?;
        let [flags] = hex(&head[53..])?;
        // Bits that are not known are not passed on.
        let flags = flags & (SAMPLED | RANDOM);
        Ok(TraceContext { trace, span, flags, state: TraceState::default() })
    }

    /// That of an incoming request. `None` without a sound `traceparent`, or with several. A
    /// `tracestate` that is not sound is left out, as the recommendation says.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<TraceContext> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let context = TraceContext::parse(parents.next()?.as_bytes()).ok()?;
        if parents.next().is_some() {
            return None;
        }
        let lines = headers.get_all(TRACESTATE).iter().map(HeaderValue::as_bytes);
        Some(context.with_state(TraceState::of(lines).unwrap_or_default()))
    }

    /// The begin of a trace for a call that belongs to none: the same for the same numbers. It is
    /// marked as recorded, because a service that follows its caller's word would otherwise
    /// record nothing.
    #[must_use]
    pub fn root(seed: u64, call: u64) -> TraceContext {
        let mut rng = Pcg32::new(seed ^ TRACES, call);
        let (trace, span) = (TraceId(drawn(&mut rng)), SpanId(drawn(&mut rng)));
        TraceContext { trace, span, flags: SAMPLED | RANDOM, state: TraceState::default() }
    }

    /// The place of the `nth` attempt of a call that belongs to no trace: what [`child`] of
    /// [`root`] is.
    ///
    /// [`child`]: TraceContext::child
    /// [`root`]: TraceContext::root
    #[must_use]
    pub fn begun(seed: u64, call: u64, nth: u64) -> TraceContext {
        let trace = TraceId(drawn(&mut Pcg32::new(seed ^ TRACES, call)));
        let span = TraceContext::span_of(seed, call, nth);
        TraceContext { trace, span, flags: SAMPLED | RANDOM, state: TraceState::default() }
    }

    /// The place of something below it: the same trace and list, a span of its own. `nth` tells
    /// the attempts of a call apart.
    #[must_use]
    pub fn child(&self, seed: u64, call: u64, nth: u64) -> TraceContext {
        TraceContext { span: TraceContext::span_of(seed, call, nth), ..self.clone() }
    }

    fn span_of(seed: u64, call: u64, nth: u64) -> SpanId {
        SpanId(drawn(&mut Pcg32::new(seed ^ SPANS ^ (nth << 1), call)))
    }

    /// The trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace
    }

    /// The span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        self.span
    }

    /// Whether the caller records the trace.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What vendors have added.
    #[must_use]
    pub const fn state(&self) -> &TraceState {
        &self.state
    }

    /// Its `traceparent`, always of version 00.
    #[must_use]
    pub fn traceparent(&self) -> String {
        String::from_utf8_lossy(&self.written()).into_owned()
    }

    fn written(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace.0, &mut text[3..35]);
        write_hex(&self.span.0, &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..]);
        text
    }

    /// Its `traceparent` as the value of a header.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        // Hexadecimal digits and hyphens are always a value.
        HeaderValue::from_bytes(&self.written()).unwrap_or(HeaderValue::from_static(""))
    }

    /// Its list of vendors as the value of a header; `None` when it is empty.
    #[must_use]
    pub fn state_header(&self) -> Option<HeaderValue> {
        // A list that was checked is a value.
        self.state.as_str().and_then(|list| HeaderValue::from_str(list).ok())
    }

    /// Puts it into `headers`, in place of what stands there.
    pub fn put(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.header());
        match self.state_header() {
            Some(list) => headers.insert(TRACESTATE, list),
            // A list without its trace, or that of another one, says nothing.
            None => headers.remove(TRACESTATE),
        };
    }
}

/// Random bytes. All of them zero does not happen before the stars go out, and then is one.
fn drawn<const N: usize>(rng: &mut Pcg32) -> [u8; N] {
    let mut bytes = [0; N];
    for four in bytes.chunks_exact_mut(4) {
        four.copy_from_slice(&rng.bits().to_be_bytes());
    }
    if bytes == [0; N] {
        bytes[N - 1] = 1;
    }
    bytes
}

fn write_hex(bytes: &[u8], text: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair.copy_from_slice(&HEX[usize::from(*byte)]);
    }
}

fn hex<const N: usize>(text: &[u8]) -> Result<[u8; N], BadTrace> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return Err(BadTrace);
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        for digit in pair {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return Err(BadTrace),
            };
            *byte = *byte << 4 | digit;
        }
    }
    Ok(bytes)
}

fn show(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, f)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, f)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(&self.0, f)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

impl TryFrom<String> for TraceId {
    type Error = BadTrace;

    fn try_from(text: String) -> Result<TraceId, BadTrace> {
        TraceId::new(hex(text.as_bytes())?).ok_or(BadTrace)
    }
}

impl From<TraceId> for String {
    fn from(id: TraceId) -> String {
        id.to_string()
    }
}
