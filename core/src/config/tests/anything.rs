//! A deserializer that answers every question with something random: whatever type is asked for
//! comes out with any values its form can hold, also with those that no text can express (NaN).
//! New fields and policies are covered without a line here.

use serde::de::value::Error;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::rng::Pcg32;
use crate::time::DurationText;

/// A random `T`: of a hundred fields about `percent` are set, the others are at their default.
/// `None` where what came out can not be read (a word where a duration belongs).
pub(super) fn random<T: DeserializeOwned>(rng: &mut Pcg32, percent: u64) -> Option<T> {
    T::deserialize(Random { rng, percent }).ok()
}

struct Random<'r> {
    rng: &'r mut Pcg32,
    percent: u64,
}

impl Random<'_> {
    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        let last = u64::try_from(list.len()).unwrap() - 1;
        list[usize::try_from(self.rng.up_to(last)).unwrap()].clone()
    }

    /// The ends of every range, what is next to them, and anything.
    fn whole(&mut self) -> u64 {
        // TOML has no larger ones.
        let most = i64::MAX.unsigned_abs();
        let any = self.rng.up_to(most);
        let small = self.rng.up_to(1_200);
        let limits = [0, 1, 2, 16, 17, 100, 101, 500, 599, 1_000, 4_096, 1_000_000, 4_294_967_295];
        self.one_of(&[&limits[..], &[small; 13], &[any, most]].concat())
    }

    fn float(&mut self) -> f64 {
        let share = f64::from(u32::try_from(self.rng.up_to(1_000)).unwrap()) / 1e3;
        let fixed = [0.0, -0.0, 1.0, 1.5, -1.0, 1e-9, 1e9, f64::MAX, f64::MIN_POSITIVE];
        let none = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        self.one_of(&[&fixed[..], &none, &[share; 12]].concat())
    }

    fn text(&mut self) -> String {
        let nanos = match self.rng.up_to(3) {
            0 => self.rng.up_to(u64::MAX),
            1 => self.rng.up_to(1_000_000_000),
            _ => self.rng.up_to(100_000) * 1_000_000,
        };
        let span = DurationText(std::time::Duration::from_nanos(nanos)).to_string();
        let words = ["", "off", "0s", "1ns", "7d", "/health", "x-y", "a b", "200-299", "ü\0"];
        self.one_of(&[&words.map(str::to_owned)[..], &vec![span; 150]].concat())
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            let value = self.whole();
            visitor.$visit(<$type>::try_from(value).unwrap_or(<$type>::MAX))
        }
    )*};
}

impl<'de> Deserializer<'de> for Random<'_> {
    type Error = Error;

    numbers! {
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.rng.up_to(4) {
            0 => visitor.visit_u64(self.whole()),
            1 => visitor.visit_f64(self.float()),
            2 => visitor.visit_bool(true),
            _ => visitor.visit_string(self.text()),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.float())
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.rng.up_to(1) == 0)
    }

    fn deserialize_string<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.text())
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.rng.up_to(1) == 0 { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.rng.up_to(4);
        visitor.visit_seq(Some_ { left, random: self })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let left = self.rng.up_to(3);
        visitor.visit_map(Some_ { left, random: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Fields { name, fields, random: self })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let variant = self.one_of(variants);
        visitor.visit_enum(Variant { variant, random: self })
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 char str bytes byte_buf unit unit_struct newtype_struct
        tuple tuple_struct identifier ignored_any
    }
}

/// A list or a map with some entries.
struct Some_<'r> {
    left: u64,
    random: Random<'r>,
}

impl Some_<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Random { rng, percent } = &mut self.random;
        seed.deserialize(Random { rng, percent: *percent })
    }
}

impl<'de> SeqAccess<'de> for Some_<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return Ok(None),
        };
        self.next(seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for Some_<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        self.next(seed)
    }
}

/// A struct: tables always, so that what is in them has a chance, other fields sometimes.
struct Fields<'r> {
    name: &'static str,
    fields: &'static [&'static str],
    random: Random<'r>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        while let Some((field, rest)) = self.fields.split_first() {
            self.fields = rest;
            // Others have a number or a span of that name.
            let table =
                TABLES.contains(field) && (*field != "backoff" || self.name == "RetryConfig");
            if table || self.random.rng.up_to(99) < self.random.percent {
                return seed.deserialize(field.into_deserializer()).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Random { rng, percent } = &mut self.random;
        seed.deserialize(Random { rng, percent: *percent })
    }
}

/// Fields that are structs. One that is missing here is only met more rarely.
const TABLES: [&str; 22] = [
    "deadline",
    "retry",
    "on",
    "backoff",
    "tokens",
    "hedge",
    "adaptive_timeout",
    "latency",
    "propagate",
    "budget",
    "breaker",
    "service_breaker",
    "throttle",
    "concurrency",
    "queue",
    "rate",
    "stall",
    "checks",
    "balance",
    "slow_start",
    "failover",
    "outlier",
];

struct Variant<'r> {
    variant: &'static str,
    random: Random<'r>,
}

impl<'de, 'r> EnumAccess<'de> for Variant<'r> {
    type Error = Error;
    type Variant = Random<'r>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Random<'r>), Error> {
        Ok((seed.deserialize(self.variant.into_deserializer())?, self.random))
    }
}

impl<'de> VariantAccess<'de> for Random<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("no configuration has one"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(Error::custom("no configuration has one"))
    }
}
