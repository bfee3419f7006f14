//! The way through a state: `serde` calls the [`Walk`] as the writer of a format, which keeps
//! nothing but where it is. What becomes of a field is the walk's own rule.

use std::fmt;

use serde::ser::{self, Serialize};

use super::facts::BreakerFacts;
use super::{As, Walk};

#[derive(Debug)]
pub struct Never;

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("never")
    }
}

impl std::error::Error for Never {}

impl ser::Error for Never {
    fn custom<T: fmt::Display>(_: T) -> Never {
        Never
    }
}

pub struct Parts<'a> {
    walk: &'a mut Walk,
    of: &'static str,
    count: u64,
}

impl Parts<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.count += 1;
        value.serialize(&mut *self.walk)
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Never> {
        let rule = self.walk.rule(self.of, key);
        if matches!(rule, As::Skipped) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.walk.mode, rule);
        if (self.of, key) == ("Call", "pass") {
            self.walk.in_pass = true;
        }
        value.serialize(&mut *self.walk)?;
        self.walk.mode = before;
        if (self.of, key) == ("Call", "pass") {
            self.walk.in_pass = false;
        }
        self.walk.note(self.of, key);
        Ok(())
    }

    fn done(self) -> Result<(), Never> {
        self.walk.add(self.count);
        Ok(())
    }
}

impl ser::SerializeSeq for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.element(value)
    }
    fn end(self) -> Result<(), Never> {
        self.done()
    }
}

impl ser::SerializeTuple for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.element(value)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.element(value)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.element(value)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Never> {
        self.element(key)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Never> {
        self.element(value)
    }
    fn end(self) -> Result<(), Never> {
        self.done()
    }
}

impl ser::SerializeStruct for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.field(key, value)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Parts<'_> {
    type Ok = ();
    type Error = Never;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.field(key, value)
    }
    fn end(self) -> Result<(), Never> {
        Ok(())
    }
}

macro_rules! numbers {
    ($($name:ident $type:ty),*) => {
        $(fn $name(self, v: $type) -> Result<(), Never> {
            self.number(v as u64);
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for &'a mut Walk {
    type Ok = ();
    type Error = Never;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    numbers!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32,
        serialize_i64 i64, serialize_u8 u8, serialize_u16 u16, serialize_u32 u32,
        serialize_u64 u64, serialize_char char
    );

    fn serialize_f32(self, v: f32) -> Result<(), Never> {
        self.number(u64::from(v.to_bits()));
        Ok(())
    }
    fn serialize_f64(self, v: f64) -> Result<(), Never> {
        self.number(v.to_bits());
        Ok(())
    }
    fn serialize_str(self, v: &str) -> Result<(), Never> {
        self.serialize_bytes(v.as_bytes())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Never> {
        v.iter().for_each(|byte| self.number(u64::from(*byte)));
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Never> {
        self.number(u64::MAX);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Never> {
        if self.in_pass && !self.call.pass {
            self.call.pass = true;
        }
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Never> {
        Ok(())
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), Never> {
        self.variant = u64::from(index);
        self.number(u64::from(index));
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        of: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Never> {
        self.add(u64::from(index));
        match (of, variant) {
            ("State", "Free") => {
                if let Some(place) = self.serials.get_mut(self.places) {
                    place.1 = false;
                }
                return Ok(());
            }
            ("State", "Waiting") => {
                if let Some(place) = self.serials.get_mut(self.places) {
                    place.1 = true;
                }
            }
            ("Phase", "half_open") => {
                self.breaker = BreakerFacts { phase: 2, ..BreakerFacts::default() };
            }
            ("Phase", "Waiting" | "Live") => {
                let before = std::mem::replace(&mut self.mode, As::Time(0));
                value.serialize(&mut *self)?;
                self.mode = before;
                return Ok(());
            }
            _ => (),
        }
        value.serialize(self)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Never> {
        Ok(Parts { walk: self, of: "", count: 0 })
    }
    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Never> {
        Ok(Parts { walk: self, of: "", count: 0 })
    }
    fn serialize_tuple_struct(self, of: &'static str, _: usize) -> Result<Parts<'a>, Never> {
        Ok(Parts { walk: self, of, count: 0 })
    }
    fn serialize_tuple_variant(
        self,
        of: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Never> {
        self.add(u64::from(index));
        Ok(Parts { walk: self, of, count: 0 })
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Never> {
        Ok(Parts { walk: self, of: "", count: 0 })
    }
    fn serialize_struct(self, of: &'static str, _: usize) -> Result<Parts<'a>, Never> {
        self.call.lives += u32::from(of == "Live");
        Ok(Parts { walk: self, of, count: 0 })
    }
    fn serialize_struct_variant(
        self,
        of: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Never> {
        self.add(u64::from(index));
        let phase = match (of, variant) {
            ("Phase", "closed") => Some(0),
            ("Phase", "open") => Some(1),
            _ => None,
        };
        if let Some(phase) = phase {
            self.breaker = BreakerFacts { phase, until: u64::MAX, ..BreakerFacts::default() };
        }
        Ok(Parts { walk: self, of, count: 0 })
    }
}
