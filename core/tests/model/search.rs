//! Breadth-first search: every input in every state, each state once.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::walk::mix;
use crate::world::{Op, Variant, World};

#[derive(Clone, Copy, Debug, Default)]
pub struct Found {
    pub states: u64,
    pub transitions: u64,
    /// Inputs in a row up to which everything was walked through.
    pub depth: u32,
    /// Nothing is left to be walked on from.
    pub all: bool,
    pub took: Duration,
}

/// Walks through at most `most` states of `v`.
///
/// # Panics
/// With the inputs that lead there, when a state is not as it should be.
pub fn search(v: &Variant, most: u64) -> Found {
    let begin = Instant::now();
    let mut seen: HashSet<u64> = HashSet::new();
    let mut found = Found::default();
    let mut start = World::new(v);
    let key = start.key(v);
    seen.insert(key);
    let mut layer: Vec<(World, u64, Vec<Op>)> = vec![(start, key, Vec::new())];
    let mut ops = Vec::new();
    while !layer.is_empty() {
        let mut next: Vec<(World, u64, Vec<Op>)> = Vec::new();
        for (world, key, path) in layer {
            let path = &path;
            found.states += 1;
            judged(v, path, None, || {
                world.recover(v);
                world.clone().drain(v, mix(key, 1) & 1 == 0);
            });
            world.ops(v, &mut ops);
            for op in &ops {
                found.transitions += 1;
                let mut after = world.clone();
                let key = judged(v, path, Some(*op), || {
                    after.apply(v, *op);
                    after.key(v)
                });
                if (seen.len() as u64) < most && seen.insert(key) {
                    next.push((after, key, path.iter().copied().chain([*op]).collect()));
                }
            }
        }
        if (seen.len() as u64) < most {
            found.depth += 1;
        }
        layer = next;
    }
    found.all = (seen.len() as u64) < most;
    found.took = begin.elapsed();
    found
}

fn judged<T>(v: &Variant, path: &[Op], op: Option<Op>, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => value,
        Err(_) => panic!("{}: after {path:?} then {op:?}", v.name),
    }
}
