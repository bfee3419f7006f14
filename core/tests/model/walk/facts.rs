//! What a state tells that no public method does: to the judge, and for the next input.

/// Most endpoints of a model.
pub const MOST: usize = 5;

/// What the key of a variant has to tell apart.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Watches and how long attempts have been out.
    pub stall: bool,
    /// Copies of the last ten seconds.
    pub hedge: bool,
    /// The windows of the breakers.
    pub windows: bool,
    /// Every slot of the budget; else only what is left of it.
    pub budget: bool,
    /// Age of a closed breaker that still matters, nanoseconds.
    pub closed: u64,
    /// Age of a usable tier or a filled queue that still matters, nanoseconds.
    pub age: u64,
    /// Numbers of the budget.
    pub ppm: u64,
    pub floor: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakerFacts {
    pub generation: u64,
    /// 0 closed, 1 open, 2 half-open.
    pub phase: u64,
    pub until: u64,
    pub out: u64,
    pub successes: u64,
    pub failures: u64,
    pub run: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointFacts {
    pub tier: u64,
    pub breaker: BreakerFacts,
    pub watched: u64,
    pub loaded: u64,
    /// The list it stands in, or `u64::MAX`.
    pub list: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierFacts {
    pub watched: u64,
    pub healthy: u64,
    pub degraded: u64,
    pub share: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub endpoints: [EndpointFacts; MOST],
    pub count: usize,
    pub tiers: [TierFacts; MOST],
    pub tier_count: usize,
    pub kept: u64,
    pub shed: u64,
    pub idle: bool,
    pub active: u64,
    pub tiers_due: u64,
    pub gate: BreakerFacts,
    pub limit: u64,
    pub in_flight: u64,
    pub waiting: u64,
    /// Calls and repeats of the last ten seconds.
    pub calls: u64,
    pub repeats: u64,
    pub copies: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct CallFacts {
    pub ticket: bool,
    pub lives: u32,
    pub held: bool,
    pub pass: bool,
    pub slot: bool,
    /// Generation of its permit of the service's own breaker.
    pub permit: Option<u64>,
}
