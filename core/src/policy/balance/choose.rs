//! Picking one of the endpoints that may be called now, at the same cost for three and for a
//! hundred thousand. The functions work on any list through [`Ready`], without allocation and
//! without dynamic calls; what an endpoint costs, and whether this call accepts it, is the list's
//! business.
//!
//! | function | follows | differs |
//! |---|---|---|
//! | [`cheapest`] | power of two choices (Mitzenmacher 2001), Finagle's P2C | up to eight endpoints are all compared |
//! | [`least_outstanding`] | Envoy's least request, weight / (active + 1)^1 | weights act on the draw *and* on the comparison, see there |
//! | [`in_turn`] | round robin | the list is short of what is not ready, so turns shift when it changes |
//! | [`drawn`], [`uniform`] | weighted and plain random | |
//!
//! *Bounds.* At most 32 draws and then a stretch of 64 neighbours are looked at. So a list of up
//! to 64 always yields an endpoint when it has one that is acceptable; a longer one does except
//! with probability (1 - share)³² and only if the stretch has none either, where `share` is the
//! acceptable part of the list: below 2⁻³² when half of it is.
//!
//! *Weights.* [`Ready::draw`] yields positions in proportion to their weights; an endpoint that
//! is drawn and not acceptable is drawn again, which keeps the proportions exact among the rest.
//! Only the stretch that follows 32 failed draws is not in proportion to the whole: it is to
//! itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rng::Pcg32;

/// Up to this many endpoints of equal weight are compared one by one.
pub const SMALL: u32 = 8;
/// Draws in search of a second one to compare.
const PAIR: u32 = 8;
/// Draws in search of one.
const DRAWS: u32 = 32;
/// Neighbours looked at when all draws failed.
pub const STRETCH: u32 = 64;

/// A list of endpoints that may be called now, by position.
///
/// ```
/// use origin_core::policy::balance::choose::{Ready, cheapest};
/// use origin_core::rng::Pcg32;
///
/// /// Queue lengths; `None` for one that was tried already.
/// struct Queues([Option<u64>; 3]);
///
/// impl Ready for Queues {
///     fn count(&self) -> u32 {
///         3
///     }
///     fn cost(&self, position: u32) -> Option<u64> {
///         *self.0.get(position as usize)?
///     }
/// }
///
/// let choice = cheapest(&Queues([Some(4), None, Some(2)]), &mut Pcg32::new(1, 0)).unwrap();
/// assert_eq!(choice.position, 2);
/// assert_eq!(choice.why.to_string(), "cheapest of 2 compared, at a cost of 2");
/// ```
pub trait Ready {
    /// How many there are.
    fn count(&self) -> u32;

    /// What one more attempt at `position` costs, in a unit of the list's choice; `None` if this
    /// call does not accept it, or if there is no such position.
    fn cost(&self, position: u32) -> Option<u64>;

    /// Whether all weights are equal; then [`Ready::draw`] is not asked, and [`Ready::weight`]
    /// must say the same for all, but not 0.
    fn even(&self) -> bool {
        true
    }

    /// The weight of `position`. One of weight 0 is only taken when nobody else is left; when
    /// all are 0, all are equal.
    fn weight(&self, position: u32) -> u32 {
        let _ = position;
        1
    }

    /// A random position, each in proportion to its weight; `None` is a draw that failed.
    fn draw(&self, rng: &mut Pcg32) -> Option<u32> {
        Some(rng.below(self.count()))
    }
}

/// What was chosen, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Choice {
    /// Its position in the list.
    pub position: u32,
    /// Why this one.
    pub why: Why,
}

/// Why an endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It was the cheapest of those compared.
    Cheapest {
        /// What it costs.
        cost: u64,
        /// How many acceptable ones were compared, itself included.
        compared: u32,
    },
    /// It was its turn.
    Turn {
        /// How many before it were passed over.
        skipped: u32,
    },
    /// It was drawn.
    Drawn {
        /// At which draw.
        draw: u32,
    },
    /// All draws failed; found in the stretch of neighbours looked at then.
    Found {
        /// How many acceptable ones the stretch had.
        among: u32,
    },
    /// It owns the key of the call.
    Owner,
    /// It comes after the owner of the key, whom the call could not use.
    Next {
        /// How many places of the order were passed over.
        passed: u32,
        /// How many of them because they carry more than their share.
        full: u32,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Cheapest { cost, compared } => {
                write!(f, "cheapest of {compared} compared, at a cost of {cost}")
            }
            Why::Turn { skipped: 0 } => f.write_str("its turn"),
            Why::Turn { skipped } => write!(f, "its turn, after {skipped} that could not be used"),
            Why::Drawn { draw } => write!(f, "drawn at random, at draw {draw}"),
            Why::Found { among } => {
                write!(f, "found among {among} usable neighbours after {DRAWS} draws in vain")
            }
            Why::Owner => f.write_str("owner of the key"),
            Why::Next { passed, full } => write!(
                f,
                "next in the order of the key: {passed} places passed over, {full} of them full"
            ),
        }
    }
}

/// Why nothing was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nobody {
    /// The list is empty.
    Empty,
    /// None of those looked at is acceptable to this call.
    Unacceptable {
        /// How many the list has.
        ready: u32,
        /// How many draws and neighbours were looked at.
        looked: u32,
    },
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nobody::Empty => f.write_str("no endpoint may be called now"),
            Nobody::Unacceptable { ready, looked } => {
                write!(f, "of {ready} endpoints none of the {looked} looked at is acceptable")
            }
        }
    }
}

/// The cheaper of two drawn ones; up to [`SMALL`] of equal weight are all compared, and one of
/// several equally cheap ones is drawn.
///
/// Unequal weights act on the two draws and not on the cost, because a cost that is ten times
/// higher means no calls at all while anybody else is idle. The draws are independent (the same
/// endpoint may be drawn twice and is then chosen), so one with the share `w` of the weights gets
/// at least `w²` and at most `2w - w²` of the calls, however dear or cheap it is.
///
/// # Errors
/// [`Nobody`], within the bounds of the module.
#[inline]
pub fn cheapest<R: Ready>(ready: &R, rng: &mut Pcg32) -> Result<Choice, Nobody> {
    least(ready, rng, |a, b| a.cost < b.cost)
}

/// Like [`cheapest`] where the cost is the number of attempts outstanding, compared per weight:
/// under load `outstanding / weight` evens out. At rest every count is 0 and the draw alone
/// decides, so shares follow the weights (where weight / (active + 1) on two choices would never
/// use the lighter one).
///
/// # Errors
/// [`Nobody`], within the bounds of the module.
#[inline]
pub fn least_outstanding<R: Ready>(ready: &R, rng: &mut Pcg32) -> Result<Choice, Nobody> {
    least(ready, rng, |a, b| {
        u128::from(a.cost) * u128::from(b.weight) < u128::from(b.cost) * u128::from(a.weight)
    })
}

/// The next in turn. `cursor` belongs to the list and says whose turn it is.
///
/// # Errors
/// [`Nobody`], within the bounds of the module.
#[inline]
pub fn in_turn<R: Ready>(ready: &R, cursor: &mut u32, rng: &mut Pcg32) -> Result<Choice, Nobody> {
    let count = ready.count();
    if count == 0 {
        return Err(Nobody::Empty);
    }
    let stretch = count.min(STRETCH);
    let mut position = if *cursor < count { *cursor } else { 0 };
    for skipped in 0..stretch {
        let next = if position + 1 < count { position + 1 } else { 0 };
        if ready.cost(position).is_some() {
            *cursor = next;
            return Ok(Choice { position, why: Why::Turn { skipped } });
        }
        position = next;
    }
    // A long run of unacceptable ones: the next call begins behind it.
    *cursor = position;
    if count > stretch
        && let Some((position, draw)) = first(ready, rng, |rng| Some(rng.below(count)))
    {
        return Ok(Choice { position, why: Why::Drawn { draw } });
    }
    let looked = if count > stretch { stretch + DRAWS } else { stretch };
    Err(Nobody::Unacceptable { ready: count, looked })
}

/// One at random, in proportion to the weights.
///
/// # Errors
/// [`Nobody`], within the bounds of the module.
#[inline]
pub fn drawn<R: Ready>(ready: &R, rng: &mut Pcg32) -> Result<Choice, Nobody> {
    if ready.even() {
        return uniform(ready, rng);
    }
    if ready.count() == 0 {
        return Err(Nobody::Empty);
    }
    match first(ready, rng, |rng| ready.draw(rng)) {
        Some((position, draw)) => Ok(Choice { position, why: Why::Drawn { draw } }),
        None => neighbour(ready, rng, |position| u64::from(ready.weight(position))),
    }
}

/// One at random, whatever the weights.
///
/// # Errors
/// [`Nobody`], within the bounds of the module.
#[inline]
pub fn uniform<R: Ready>(ready: &R, rng: &mut Pcg32) -> Result<Choice, Nobody> {
    let count = ready.count();
    if count == 0 {
        return Err(Nobody::Empty);
    }
    match first(ready, rng, |rng| Some(rng.below(count))) {
        Some((position, draw)) => Ok(Choice { position, why: Why::Drawn { draw } }),
        None => neighbour(ready, rng, |_| 1),
    }
}

#[derive(Clone, Copy)]
struct Candidate {
    position: u32,
    cost: u64,
    weight: u32,
}

impl Candidate {
    fn chosen(self, compared: u32) -> Choice {
        Choice { position: self.position, why: Why::Cheapest { cost: self.cost, compared } }
    }
}

#[inline]
fn least<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    less: impl Fn(&Candidate, &Candidate) -> bool,
) -> Result<Choice, Nobody> {
    let count = ready.count();
    if !ready.even() {
        return pair_uneven(ready, rng, count, less);
    }
    if count <= SMALL {
        return all(ready, rng, count);
    }
    // Two different ones, without a loop: the common case. Which of them is cheaper nobody can
    // predict, so this selects instead of branching.
    let one = rng.below(count);
    let other = rng.below(count - 1);
    let other = other + u32::from(other >= one);
    if let (Some(cost), Some(rival)) = (ready.cost(one), ready.cost(other)) {
        let position = if rival < cost { other } else { one };
        return Ok(Candidate { position, cost: cost.min(rival), weight: 1 }.chosen(2));
    }
    pair_even(ready, rng, count)
}

/// All of a short list of equal weights, in order: what an endpoint costs is easier to predict
/// for the processor at its own place. One of several equally cheap ones is drawn.
#[inline]
fn all<R: Ready>(ready: &R, rng: &mut Pcg32, count: u32) -> Result<Choice, Nobody> {
    if count == 0 {
        return Err(Nobody::Empty);
    }
    let mut best = Candidate { position: 0, cost: u64::MAX, weight: 1 };
    let (mut compared, mut ties) = (0, 0);
    for position in 0..count {
        if let Some(cost) = ready.cost(position) {
            let better = (cost < best.cost) | (compared == 0);
            ties = if better { 1 } else { ties + u32::from(cost == best.cost) };
            best.position = if better { position } else { best.position };
            best.cost = best.cost.min(cost);
            compared += 1;
        }
    }
    if ties > 1 {
        let mut left = rng.below(ties);
        for position in 0..count {
            if ready.cost(position) == Some(best.cost) {
                if left == 0 {
                    best.position = position;
                    break;
                }
                left -= 1;
            }
        }
    }
    match compared {
        0 => Err(Nobody::Unacceptable { ready: count, looked: count }),
        _ => Ok(best.chosen(compared)),
    }
}

/// [`pair`] for equal weights, when the first two were not both acceptable.
#[cold]
fn pair_even<R: Ready>(ready: &R, rng: &mut Pcg32, count: u32) -> Result<Choice, Nobody> {
    pair(ready, rng, count, false, |rng| Some(rng.below(count)), |a, b| a.cost < b.cost)
}

/// [`pair`] by weight. Apart, so that the common case keeps its registers.
#[inline(never)]
fn pair_uneven<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    count: u32,
    less: impl Fn(&Candidate, &Candidate) -> bool,
) -> Result<Choice, Nobody> {
    pair(ready, rng, count, true, |rng| ready.draw(rng), less)
}

/// Two drawn ones, where draws may fail. `again`: the same one drawn twice counts as two.
#[inline]
fn pair<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    count: u32,
    again: bool,
    mut draw: impl FnMut(&mut Pcg32) -> Option<u32>,
    less: impl Fn(&Candidate, &Candidate) -> bool,
) -> Result<Choice, Nobody> {
    if count == 0 {
        return Err(Nobody::Empty);
    }
    let mut best: Option<Candidate> = None;
    for number in 0..DRAWS {
        if best.is_some() && number >= PAIR {
            break;
        }
        let Some(position) = draw(rng) else { continue };
        if best.is_some_and(|best| best.position == position) {
            if again {
                break;
            }
            continue;
        }
        let Some(cost) = ready.cost(position) else { continue };
        let found = Candidate { position, cost, weight: ready.weight(position) };
        match best {
            None => best = Some(found),
            Some(best) => {
                return Ok(if less(&found, &best) { found } else { best }.chosen(2));
            }
        }
    }
    match best {
        Some(best) => Ok(best.chosen(1)),
        None => stretch(ready, rng, count, less),
    }
}

/// The cheapest of a stretch, when all draws failed: of all, when the list is no longer.
#[cold]
fn stretch<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    count: u32,
    less: impl Fn(&Candidate, &Candidate) -> bool,
) -> Result<Choice, Nobody> {
    let stretch = count.min(STRETCH);
    let mut best: Option<Candidate> = None;
    let mut compared = 0;
    let mut position = rng.below(count);
    for _ in 0..stretch {
        if let Some(cost) = ready.cost(position) {
            let found = Candidate { position, cost, weight: ready.weight(position) };
            compared += 1;
            let better = match &best {
                None => true,
                // Weight 0 gives way to anybody who has one.
                Some(best) if (best.weight == 0) != (found.weight == 0) => best.weight == 0,
                // Among none but zeros all are equal: the cost alone counts.
                Some(best) if found.weight == 0 => cost < best.cost,
                Some(best) => less(&found, best),
            };
            if better {
                best = Some(found);
            }
        }
        position = if position + 1 < count { position + 1 } else { 0 };
    }
    match best {
        Some(best) => Ok(best.chosen(compared)),
        None => Err(Nobody::Unacceptable { ready: count, looked: DRAWS + stretch }),
    }
}

/// The first acceptable one of [`DRAWS`] draws, and at which draw.
#[inline]
fn first<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    mut draw: impl FnMut(&mut Pcg32) -> Option<u32>,
) -> Option<(u32, u32)> {
    for number in 1..=DRAWS {
        if let Some(position) = draw(rng)
            && ready.cost(position).is_some()
        {
            return Some((position, number));
        }
    }
    None
}

/// One of a stretch, in exact proportion to the weights within it: one pass for the sum, one to
/// find the place.
#[cold]
fn neighbour<R: Ready>(
    ready: &R,
    rng: &mut Pcg32,
    weight: impl Fn(u32) -> u64,
) -> Result<Choice, Nobody> {
    let count = ready.count();
    let stretch = count.min(STRETCH);
    let start = rng.below(count);
    let positions = || {
        (0..stretch).map(|step| {
            // Both below 2³², the sum may not be.
            let position = u64::from(start) + u64::from(step);
            let position =
                if position < u64::from(count) { position } else { position - u64::from(count) };
            u32::try_from(position).unwrap_or(0)
        })
    };
    let usable = || positions().filter(|position| ready.cost(*position).is_some());
    let among = usable().fold(0_u32, |sum, _| sum + 1);
    if among == 0 {
        return Err(Nobody::Unacceptable { ready: count, looked: DRAWS + stretch });
    }
    let sum: u64 = usable().map(&weight).sum();
    let weight = |position| if sum == 0 { 1 } else { weight(position) };
    let mut ticket = rng.up_to(if sum == 0 { u64::from(among) } else { sum } - 1);
    for position in usable() {
        let own = weight(position);
        if ticket < own {
            return Ok(Choice { position, why: Why::Found { among } });
        }
        ticket -= own;
    }
    // Only if the list answers differently when asked twice.
    Err(Nobody::Unacceptable { ready: count, looked: DRAWS + stretch })
}
