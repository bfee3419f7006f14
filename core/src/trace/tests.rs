use proptest::prelude::*;

use super::state::CHARACTERS;
use super::*;

const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    headers
}

/// The table of the recommendation's own test suite, as far as it is about reading.
#[test]
fn case_001_128_what_is_no_traceparent_begins_a_new_trace() {
    for bad in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "0G-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0G",
        "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what",
    ] {
        assert_eq!(TraceContext::parse(bad.as_bytes()), Err(BadTrace), "{bad}");
    }
    for later in ["", "-what", "-"] {
        let later = format!("cc{}{later}", &SOUND[2..]);
        let context = TraceContext::parse(later.as_bytes()).unwrap();
        assert_eq!(context.traceparent(), SOUND, "it is passed on as version 00");
    }
    let unknown = TraceContext::parse(SOUND.replace("-01", "-fd").as_bytes()).unwrap();
    assert_eq!(unknown.traceparent(), SOUND, "unknown flags are not passed on");
    assert!(!TraceContext::parse(SOUND.replace("-01", "-00").as_bytes()).unwrap().is_sampled());
    // Two of them are none.
    let twice = headers(&[("traceparent", SOUND), ("traceparent", SOUND)]);
    assert_eq!(TraceContext::of(&twice), None);
}

#[test]
fn the_list_of_vendors_goes_through_or_is_left_out() {
    let state = |lines: &[&str]| {
        let mut all = vec![("traceparent", SOUND)];
        all.extend(lines.iter().map(|line| ("tracestate", *line)));
        let context = TraceContext::of(&headers(&all)).expect("the trace stays");
        context.state().as_str().map(ToOwned::to_owned)
    };
    assert_eq!(state(&["foo=1,bar=2", "rojo=1"]).as_deref(), Some("foo=1,bar=2,rojo=1"));
    assert_eq!(state(&[" foo=1 \t,,\tbar=2 "]).as_deref(), Some("foo=1,bar=2"));
    assert_eq!(
        state(&["fw529a3039@dt=FfAAA,a*/_-=x y"]).as_deref(),
        Some("fw529a3039@dt=FfAAA,a*/_-=x y")
    );
    for bad in
        ["foo", "foo=", "=1", "Foo=1", "foo =1", "foo=1=2", "foo=1,foo=2", "_a=1", "a=\u{7f}"]
    {
        let line = HeaderValue::from_bytes(bad.as_bytes());
        let Ok(_) = line else { continue };
        assert_eq!(state(&[bad]), None, "{bad}");
    }
    assert_eq!(state(&[""]), None);
    let many = |n: usize| (0..n).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
    assert!(state(&[&many(32)]).is_some());
    assert_eq!(state(&[&many(33)]), None);
    // Too long: the long ones go first, then those at the end, and whole.
    let (long, short) = (format!("l={}", "x".repeat(150)), format!("s={}", "y".repeat(90)));
    let five: Vec<String> = (0..5).map(|n| format!("{n}{short}")).collect();
    let kept = state(&[&format!("{long},{}", five.join(","))]).unwrap();
    assert_eq!(kept, five.join(","));
    let six: Vec<String> = (0..6).map(|n| format!("{n}{short}")).collect();
    assert_eq!(state(&[&six.join(",")]).unwrap(), five.join(","));
    assert_eq!(state(&[&format!("k={}", "x".repeat(9_000))]), None);
}

#[test]
fn made_ids_are_the_same_for_the_same_numbers_and_no_others() {
    let mut seen = std::collections::BTreeSet::new();
    for call in 0..2_000 {
        let root = TraceContext::root(7, call);
        assert!(seen.insert(root.trace_id().to_string()));
        assert_eq!(root, TraceContext::root(7, call));
        for attempt in 1..=3 {
            let child = root.child(7, call, attempt);
            assert_eq!(child.trace_id(), root.trace_id());
            assert_ne!(child.span_id(), root.span_id());
            assert!(seen.insert(child.span_id().to_string()));
            assert_eq!(child, root.child(7, call, attempt));
        }
    }
}

#[test]
fn what_stood_in_the_headers_is_replaced_as_a_whole() {
    let mut map = headers(&[("traceparent", SOUND), ("tracestate", "foo=1")]);
    let context = TraceContext::of(&map).unwrap();
    TraceContext::root(1, 1).put(&mut map);
    assert_eq!(map.get(TRACESTATE), None);
    context.put(&mut map);
    assert_eq!(
        (map[TRACEPARENT].to_str().unwrap(), map[TRACESTATE].to_str().unwrap()),
        (SOUND, "foo=1")
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_and_what_is_read_is_written_back(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,4})?".prop_map(String::into_bytes),
        ],
        lines in proptest::collection::vec("[a-z0-9=,@ ]{0,300}", 0..4),
    ) {
        if let Ok(context) = TraceContext::parse(&bytes) {
            let state = TraceState::of(lines.iter().map(String::as_bytes)).unwrap_or_default();
            prop_assert!(state.as_str().is_none_or(|s| (1..=CHARACTERS).contains(&s.len())));
            let context = context.with_state(state);
            let mut map = HeaderMap::new();
            context.put(&mut map);
            prop_assert_eq!(TraceContext::of(&map).unwrap(), context);
        }
    }
}
