//! Bounds on what foreign bytes may cost, the same for every format.
//!
//! Formats trust the bytes in three ways: they nest as deeply as told, until the stack ends; they pass on
//! claimed lengths, for which containers allocate ahead; and a claimed number of elements that take no
//! bytes keeps them busy for ever. This layer goes between a format and the value's `Deserialize` and ends
//! all three. An honest input is not held up: no element without a byte of its own.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Levels of structs, enums, options and containers. Unoptimised, a struct of half a KiB takes up to 12 KiB
/// of stack per level, and a thread has 2 MiB by default.
const DEPTH_MAX: usize = 128;

/// Elements without a byte of their own (`Vec<()>`) that one value may have.
const EMPTY_ELEMENTS_MAX: usize = 1 << 16;

/// What one value may still cost.
pub(super) struct Budget {
    depth: Cell<usize>,
    elements: Cell<usize>,
    promises: Cell<usize>,
}

impl Budget {
    /// For a value in `input_bytes` bytes.
    pub(super) fn new(input_bytes: usize) -> Self {
        Self {
            depth: Cell::new(DEPTH_MAX),
            elements: Cell::new(input_bytes.saturating_add(EMPTY_ELEMENTS_MAX)),
            promises: Cell::new(input_bytes),
        }
    }

    /// Deserializes by `inner` within this budget.
    pub(super) fn bound<T>(&self, inner: T) -> Bounded<'_, T> {
        Bounded { inner, budget: self }
    }

    /// Runs `step` one level deeper.
    #[inline]
    fn nested<T, E: Error>(&self, step: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let left = self.depth.get();
        if left == 0 {
            return Err(E::custom(format_args!("nested in more than {DEPTH_MAX} levels")));
        }
        self.depth.set(left - 1);
        let result = step();
        self.depth.set(left);
        result
    }

    #[inline]
    fn take_element<E: Error>(&self) -> Result<(), E> {
        let left = self.elements.get();
        if left == 0 {
            return Err(E::custom("more elements than bytes"));
        }
        self.elements.set(left - 1);
        Ok(())
    }

    /// As many of `claimed` elements as may be allocated ahead. All containers of a value share one sum,
    /// or a few bytes per level would add up to much.
    fn promise(&self, claimed: Option<usize>) -> usize {
        let granted = claimed.unwrap_or(0).min(self.promises.get());
        self.promises.set(self.promises.get() - granted);
        granted
    }
}

/// A deserializer, seed or enum of a format, within a budget.
pub(super) struct Bounded<'b, T> {
    inner: T,
    budget: &'b Budget,
}

/// Who decides how many elements there are.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    /// The type: a struct or a tuple.
    Typed,
    /// The bytes.
    Claimed,
}

struct BoundedVisitor<'b, V> {
    inner: V,
    budget: &'b Budget,
    length: Length,
}

/// The elements of a sequence or map.
struct Elements<'b, A> {
    inner: A,
    budget: &'b Budget,
    length: Length,
    promised: usize,
}

impl<'b, T> Bounded<'b, T> {
    fn visitor<V>(&self, inner: V, length: Length) -> BoundedVisitor<'b, V> {
        BoundedVisitor { inner, budget: self.budget, length }
    }
}

macro_rules! forward_claimed {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            let visitor = self.visitor(visitor, Length::Claimed);
            self.inner.$method(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Bounded<'_, D> {
    type Error = D::Error;

    forward_claimed! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_bytes
        deserialize_option deserialize_unit deserialize_seq deserialize_map deserialize_identifier
        deserialize_ignored_any
    }

    // The owned forms are read as the borrowed ones: bincode allocates for them before it looks at what is
    // there.
    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Claimed);
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Claimed);
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Typed);
        self.inner.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Typed);
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Typed);
        self.inner.deserialize_struct(name, fields, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.visitor(visitor, Length::Claimed);
        self.inner.deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! forward_visits {
    ($($method:ident: $value:ty,)*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for BoundedVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    forward_visits! {
        visit_bool: bool,
        visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128,
        visit_f32: f32, visit_f64: f64, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let Self { inner, budget, .. } = self;
        budget.nested(|| inner.visit_some(budget.bound(deserializer)))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let Self { inner, budget, .. } = self;
        budget.nested(|| inner.visit_newtype_struct(budget.bound(deserializer)))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let claimed = access.size_hint();
        let Self { inner, budget, length } = self;
        budget.nested(|| inner.visit_seq(Elements::new(access, budget, length, claimed)))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let claimed = access.size_hint();
        let Self { inner, budget, length } = self;
        budget.nested(|| inner.visit_map(Elements::new(access, budget, length, claimed)))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        let Self { inner, budget, .. } = self;
        budget.nested(|| inner.visit_enum(budget.bound(access)))
    }
}

impl<'b, A> Elements<'b, A> {
    #[inline]
    fn new(inner: A, budget: &'b Budget, length: Length, claimed: Option<usize>) -> Self {
        let promised = match length {
            Length::Typed => usize::MAX,
            Length::Claimed => budget.promise(claimed),
        };
        Self { inner, budget, length, promised }
    }

    #[inline]
    fn take<E: Error>(&self) -> Result<(), E> {
        match self.length {
            Length::Typed => Ok(()),
            Length::Claimed => self.budget.take_element(),
        }
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        let element = self.inner.next_element_seed(self.budget.bound(seed))?;
        if element.is_some() {
            self.take()?;
        }
        Ok(element)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|claimed| claimed.min(self.promised))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Elements<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let key = self.inner.next_key_seed(self.budget.bound(seed))?;
        if key.is_some() {
            self.take()?;
        }
        Ok(key)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.inner.next_value_seed(self.budget.bound(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|claimed| claimed.min(self.promised))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Bounded<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(self.budget.bound(deserializer))
    }
}

impl<'de, 'b, A: EnumAccess<'de>> EnumAccess<'de> for Bounded<'b, A> {
    type Error = A::Error;
    type Variant = Bounded<'b, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (value, variant) = self.inner.variant_seed(self.budget.bound(seed))?;
        Ok((value, self.budget.bound(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bounded<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.newtype_variant_seed(self.budget.bound(seed))
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.visitor(visitor, Length::Typed);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.visitor(visitor, Length::Typed);
        self.inner.struct_variant(fields, visitor)
    }
}
