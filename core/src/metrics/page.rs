//! A page: the numbers of every family under their labels, before they are written in any format.
//! Two numbers under the same labels become one here, so no format can show a series twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::family::{Fold, Id};
use super::{FAMILIES, Family, Histogram};
use crate::config::MetricsConfig;

/// Longest value of a label, in bytes; what is beyond is cut off.
const LONGEST: usize = 200;

/// A number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A whole number.
    Count(u64),
    /// A duration in nanoseconds, shown in seconds.
    Nanos(u64),
    /// A share in millionths.
    Millionths(u64),
    /// Durations in buckets.
    Durations(Cow<'a, Histogram>),
}

impl Value<'_> {
    /// The order of plain numbers; those of one family are of one kind.
    fn number(&self) -> u64 {
        match self {
            Value::Count(n) | Value::Nanos(n) | Value::Millionths(n) => *n,
            Value::Durations(histogram) => histogram.count(),
        }
    }

    fn fold(&mut self, other: Self, how: Fold) {
        match (how, &mut *self, other) {
            (Fold::Sum, Value::Durations(mine), Value::Durations(other)) => {
                mine.to_mut().add(&other);
            }
            (
                Fold::Sum,
                Value::Count(mine) | Value::Nanos(mine) | Value::Millionths(mine),
                other,
            ) => {
                *mine = mine.saturating_add(other.number());
            }
            (Fold::Sum, ..) => (),
            (Fold::Most, mine, other) if other.number() > mine.number() => *self = other,
            (Fold::Least, mine, other) if other.number() < mine.number() => *self = other,
            (Fold::Most | Fold::Least, ..) => (),
        }
    }
}

/// The values of the labels of one series, in the order of [`Family::labels`].
pub type Labels<'a> = Vec<Cow<'a, str>>;

/// See above. What is shown is borrowed from a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    series: Vec<BTreeMap<Labels<'a>, Value<'a>>>,
    shown: Vec<bool>,
}

impl<'a> Page<'a> {
    pub(super) fn new(settings: &MetricsConfig) -> Page<'a> {
        let shown = |family: &Family| family.dialect.is_none_or(|whose| settings.speaks(whose));
        Page {
            series: FAMILIES.iter().map(|_| BTreeMap::new()).collect(),
            shown: FAMILIES.iter().map(shown).collect(),
        }
    }

    /// Adds a number, unless its family is not shown.
    pub(super) fn add<const N: usize>(&mut self, id: Id, labels: [&'a str; N], value: Value<'a>) {
        let at = id as usize;
        if !self.shown[at] {
            return;
        }
        debug_assert_eq!(N, FAMILIES[at].labels.len(), "{}", FAMILIES[at].name);
        let labels: Labels<'a> = labels.iter().map(|text| clean(text)).collect();
        match self.series[at].entry(labels) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(value);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                place.get_mut().fold(value, FAMILIES[at].fold);
            }
        }
    }

    /// The families that have series, with these, both in a fixed order.
    pub fn families(&self) -> impl Iterator<Item = (&'static Family, Series<'a, '_>)> {
        FAMILIES.iter().zip(&self.series).filter(|(_, series)| !series.is_empty())
    }

    /// The series of the family called `name`; `None`: there is no such family.
    #[must_use]
    pub fn series(&self, name: &str) -> Option<Series<'a, '_>> {
        let at = FAMILIES.iter().position(|family| family.name == name)?;
        self.series.get(at)
    }

    /// The series of the family at this place of [`FAMILIES`].
    pub(super) fn series_at(&self, at: usize) -> Series<'a, '_> {
        &self.series[at]
    }

    /// How many series there are; a histogram is one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.iter().map(BTreeMap::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The series of one family.
pub type Series<'a, 'p> = &'p BTreeMap<Labels<'a>, Value<'a>>;

/// The value of a label without control characters and of bounded length. Those of text formats
/// are escaped beyond this; no screen or log should be changed by any other.
fn clean(text: &str) -> Cow<'_, str> {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    match text.contains(char::is_control) {
        false => Cow::Borrowed(text),
        true => Cow::Owned(text.replace(char::is_control, "\u{fffd}")),
    }
}
