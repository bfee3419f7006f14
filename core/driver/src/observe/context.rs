//! In which trace an attempt stands. What the caller has put into its headers is left as it is;
//! then what was given with the request counts, then what the program's tracing library says of
//! the current span, and else a trace begins, where the configuration wants one.

use std::fmt;
use std::sync::Arc;

use origin_core::Request;
use origin_core::config::TraceRule;
use origin_core::trace::{TRACEPARENT, TraceContext, TraceId};

/// Tells the ids of the current span.
#[derive(Clone)]
pub(crate) struct Source(pub(crate) Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// What ids are made of.
#[derive(Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) seed: u64,
    pub(crate) call: u64,
    /// Which attempt, in a way that no two of a call have.
    pub(crate) nth: u64,
}

/// The id of the trace an attempt stands in, and what it is told of that, unless the caller has put
/// it into the headers. `within` does something within the attempt's span, if it has one.
pub(crate) fn place(
    request: &Request,
    rule: TraceRule,
    source: Option<&Source>,
    Numbers { seed, call, nth }: Numbers,
    within: impl FnOnce(&dyn Fn() -> Option<TraceContext>) -> Option<TraceContext>,
) -> (Option<TraceId>, Option<TraceContext>) {
    if rule == TraceRule::Off {
        return (None, None);
    }
    if !request.headers.is_empty() && request.headers.contains_key(TRACEPARENT) {
        let given = TraceContext::of(&request.headers);
        return (given.map(|context| context.trace_id()), None);
    }
    let known = match (&request.trace, source) {
        (Some(given), _) => Some(given.child(seed, call, nth)),
        (None, Some(source)) => {
            let outside = (source.0)();
            // Where the attempt's span is recorded its id is the one to tell: what the service
            // does is found right below it.
            within(&*source.0).map(|inside| match outside {
                Some(outside) if outside == inside => inside.child(seed, call, nth),
                _ => inside,
            })
        }
        (None, None) => None,
    };
    let context = match known {
        Some(context) => context,
        None if rule == TraceRule::Given => return (None, None),
        None => TraceContext::begun(seed, call, nth),
    };
    (Some(context.trace_id()), Some(context))
}

#[cfg(test)]
mod tests {
    use http::Method;
    use http::uri::PathAndQuery;

    use super::*;

    const NUMBERS: Numbers = Numbers { seed: 7, call: 1, nth: 1 };

    fn request() -> Request {
        Request::new(Method::GET, PathAndQuery::from_static("/"))
    }

    fn told(request: &Request, rule: TraceRule, source: Option<&Source>) -> Option<TraceContext> {
        let (id, context) = place(request, rule, source, NUMBERS, |inside| inside());
        if request.headers.is_empty() {
            assert_eq!(context.as_ref().map(TraceContext::trace_id), id);
        }
        context
    }

    #[test]
    fn case_001_128_whose_word_counts() {
        let given = TraceContext::root(1, 1);
        let mut of_caller = request();
        of_caller.trace = Some(Box::new(given.clone()));
        let current = TraceContext::root(2, 2);
        let source = Source(Arc::new({
            let current = current.clone();
            move || Some(current.clone())
        }));
        let silent = Source(Arc::new(|| None));
        for rule in [TraceRule::Given, TraceRule::Always] {
            let context = told(&of_caller, rule, Some(&source)).unwrap();
            assert_eq!(context.trace_id(), given.trace_id());
            assert_ne!(context.span_id(), given.span_id(), "an attempt has a span of its own");
            let context = told(&request(), rule, Some(&source)).unwrap();
            assert_eq!(context.trace_id(), current.trace_id());
            assert_ne!(context.span_id(), current.span_id());
        }
        assert_eq!(told(&request(), TraceRule::Given, Some(&silent)), None);
        assert!(told(&request(), TraceRule::Always, Some(&silent)).is_some());
        assert_eq!(told(&of_caller, TraceRule::Off, Some(&source)), None);
        // What stands in the headers is the caller's affair.
        let mut own = request();
        given.put(&mut own.headers);
        let said = place(&own, TraceRule::Always, None, NUMBERS, |inside| inside());
        assert_eq!(said, (Some(given.trace_id()), None));
    }

    #[test]
    fn the_recorded_span_of_an_attempt_is_the_one_that_is_told() {
        let span = std::sync::atomic::AtomicU64::new(1);
        let now = Arc::new(span);
        let source = Source(Arc::new({
            let now = now.clone();
            move || Some(TraceContext::root(3, now.load(std::sync::atomic::Ordering::Relaxed)))
        }));
        let (id, told) = place(&request(), TraceRule::Always, Some(&source), NUMBERS, |ask| {
            now.store(2, std::sync::atomic::Ordering::Relaxed);
            ask()
        });
        assert_eq!(id, Some(TraceContext::root(3, 2).trace_id()));
        assert_eq!(told, Some(TraceContext::root(3, 2)));
    }
}
