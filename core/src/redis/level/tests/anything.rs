//! The promises of the level, whatever happens in whatever order, and whatever Redis says.

use proptest::prelude::*;

use super::*;

/// A source of truth that changes, two clients that cache it in one Redis, and everything that
/// can happen in between. A list that is believed was true at some time within its life and
/// since the last invalidation by that client.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Change,
    Get(usize, usize),
    Invalidate(usize),
    Outage(bool),
    Garbage(usize, Vec<u8>, Option<u64>),
    Renew(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..20_000_u64).prop_map(Step::Pass),
        2 => Just(Step::Change),
        8 => (0..2_usize, 0..3_usize).prop_map(|(c, v)| Step::Get(c, v)),
        1 => (0..2_usize).prop_map(Step::Invalidate),
        1 => any::<bool>().prop_map(Step::Outage),
        // Not the index: who can write that can also leave something out of it.
        1 => (0..3_usize, proptest::collection::vec(any::<u8>(), 0..9), proptest::option::of(1..99_999_u64))
            .prop_map(|(v, b, l)| Step::Garbage(v, b, l)),
        1 => (0..3_usize).prop_map(Step::Renew),
    ]
}

proptest! {
    #[test]
    fn nothing_older_than_its_life_or_an_invalidation_is_believed(steps in proptest::collection::vec(step(), 0..80)) {
        let (one, two, mut redis) = pair();
        let mut clients = [one, two];
        let variants = [entry("web", ""), entry("web", "a"), entry("web", "b")];
        let names = ["origin:service:discovery:web", "origin:service:discovery:web:none:a",
            "origin:service:discovery:web:none:b", "origin:service:variants:web"];
        // The truth is a port; when each ended.
        let mut truth = 1_u16;
        let mut ended: Vec<u64> = vec![0];
        let mut dropped = [0_u64; 2];
        for step in steps {
            redis.ms += 1;
            match step {
                Step::Pass(millis) => redis.ms += millis,
                Step::Change => { ended.push(redis.ms); truth += 1; }
                Step::Outage(on) => redis.refuse = on.then_some("LOADING"),
                Step::Garbage(which, bytes, life) => redis.put(names[which], &bytes, life),
                Step::Renew(which) => {
                    let until = redis.ms + 30_000;
                    if let Some(held) = redis.keys.get_mut(names[which].as_bytes()) { held.1 = Some(until); }
                }
                Step::Invalidate(client) => {
                    dropped[client] = redis.ms;
                    let _ = clients[client].drop(&mut redis, "web");
                }
                Step::Get(client, which) => {
                    let found = clients[client].get(&mut redis, &variants[which]).found;
                    let _ = match found {
                        Err(_) => clients[client].put(&mut redis, &variants[which], &instances(&[truth]), 30_000),
                        Ok(hit) => {
                            let Some(first) = hit.instances.first() else { continue };
                            let (_, port) = first.address.host_and_port().unwrap();
                            let was_true_until = ended.get(usize::from(port)).copied().unwrap_or(redis.ms);
                            // A second of grace: the calendar has whole ones, and Redis may lie.
                            prop_assert!(was_true_until + 31_000 >= redis.ms);
                            prop_assert!(hit.fresh_until.as_millis() <= was_true_until + 31_000);
                            prop_assert!(was_true_until >= dropped[client], "from before an invalidation");
                            Ok(vec![])
                        }
                    };
                }
            }
            prop_assert!(redis.touched.iter().all(|key| names.iter().any(|name| key == name.as_bytes())));
        }
    }

    /// Whatever Redis says, and whatever the clocks say.
    #[test]
    fn any_reply_at_any_time_is_survived(
        replies in proptest::collection::vec(reply(), 0..5),
        now in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], later in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
        wall in prop_oneof![Just(0), Just(u64::MAX), any::<u64>()],
    ) {
        let (mut one, _, _) = pair();
        let (web, now, later, wall) = (entry("web", "a"), Time::from_nanos(now), Time::from_nanos(later), Wall(wall));
        let ask = one.level.ask(now, &web, &one.settings).unwrap();
        let answer = one.level.answered(later, wall, ask, JobOutcome::Replies(replies.clone()), &one.settings, &mut one.rng);
        if let Ok(hit) = answer.found {
            prop_assert!(hit.fresh_until > later);
        }
        if let Ok(store) = one.level.store(later, wall, &web, &instances(&[1]), now, Time::NEVER, &one.settings) {
            let _ = one.level.stored(now, store, JobOutcome::Replies(replies.clone()), &one.settings, &mut one.rng);
        }
        let mut invalidation = one.level.invalidate(later, "web", &one.settings).unwrap();
        for exchange in 0.. {
            match one.level.next(now, &mut invalidation, &one.settings) {
                Next::Ended(_) => break,
                Next::Run(pass, _) => {
                    prop_assert!(exchange < 200, "it ends");
                    let two = JobOutcome::Replies(replies.iter().cloned().chain([Reply::Nil, Reply::Nil]).take(2).collect());
                    let _ = one.level.invalidated(later, &mut invalidation, pass, two, &one.settings, &mut one.rng);
                }
            }
        }
    }
}

fn reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        Just(Reply::Nil),
        any::<i64>().prop_map(Reply::Number),
        (0..40_000_i64).prop_map(Reply::Number),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Reply::Text(bytes.into())),
        Just(Reply::Text("[]".into())),
        Just(Reply::Text("a:b".into())),
        proptest::sample::select(vec!["WRONGTYPE", "OOM", "NOAUTH", ""])
            .prop_map(|word| Reply::Refused(word.into())),
    ];
    leaf.prop_recursive(2, 600, 300, |inner| {
        proptest::collection::vec(inner, 0..300).prop_map(Reply::List)
    })
}
