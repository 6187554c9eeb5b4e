//! Keys: typed ones in this process, bytes beyond it.

#[cfg(feature = "bytes")]
mod bytes_key;
#[cfg(feature = "bytes")]
pub use bytes_key::{Key, Namespace};

/// A stable, injective byte form of a key: equal keys give equal bytes, different ones different bytes, in
/// every process and every release. The text stays readable: `42`, `user:7`.
///
/// Implemented for integers, `bool`, `char`, strings, byte strings, `Option`, tuples of up to six, and
/// `uuid::Uuid` by feature. An own key takes two lines:
///
/// ```
/// use cachalot_core::CacheKey;
///
/// struct ProductId(u64);
///
/// impl CacheKey for ProductId {
///     fn write_key(&self, out: &mut Vec<u8>) {
///         self.0.write_key(out)
///     }
/// }
/// assert_eq!(ProductId(42).to_key_bytes(), b"42");
/// ```
pub trait CacheKey {
    /// Appends the byte form.
    fn write_key(&self, out: &mut Vec<u8>);

    /// The byte form by itself.
    fn to_key_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        self.write_key(&mut out);
        out
    }
}

impl<T: CacheKey + ?Sized> CacheKey for &T {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }
}

macro_rules! key_by_display {
    ($($type:ty)*) => {$(
        impl CacheKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                use std::io::Write;
                // Writing to a vector does not fail.
                let _ = write!(out, "{self}");
            }
        }
    )*};
}

key_by_display!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char);

macro_rules! key_by_bytes {
    ($($type:ty)*) => {$(
        impl CacheKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(AsRef::<[u8]>::as_ref(self));
            }
        }
    )*};
}

key_by_bytes!(str String [u8] Vec<u8> std::sync::Arc<[u8]>);

impl CacheKey for std::sync::Arc<str> {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }
}

impl CacheKey for Box<str> {
    fn write_key(&self, out: &mut Vec<u8>) {
        (**self).write_key(out);
    }
}

impl<const N: usize> CacheKey for [u8; N] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

/// `None` is the empty byte string, `Some` begins with `+`.
impl<T: CacheKey> CacheKey for Option<T> {
    fn write_key(&self, out: &mut Vec<u8>) {
        if let Some(inner) = self {
            out.push(b'+');
            inner.write_key(out);
        }
    }
}

#[cfg(feature = "uuid")]
impl CacheKey for uuid::Uuid {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
    }
}

const SEPARATOR: u8 = b':';
const ESCAPE: u8 = b'\\';

/// Appends one part of a tuple with its separators escaped, so that parts cannot run into each other.
fn write_part(part: &impl CacheKey, out: &mut Vec<u8>) {
    let start = out.len();
    part.write_key(out);
    if out[start..].iter().any(|byte| matches!(*byte, SEPARATOR | ESCAPE)) {
        let raw = out.split_off(start);
        for byte in raw {
            if matches!(byte, SEPARATOR | ESCAPE) {
                out.push(ESCAPE);
            }
            out.push(byte);
        }
    }
}

macro_rules! key_by_parts {
    ($($first:ident $(, $rest:ident)*;)*) => {$(
        /// The parts joined by `:`; a `:` or `\` inside a part is escaped by `\`.
        impl<$first: CacheKey $(, $rest: CacheKey)*> CacheKey for ($first, $($rest,)*) {
            #[allow(non_snake_case, reason = "the parts are named like their types")]
            fn write_key(&self, out: &mut Vec<u8>) {
                let ($first, $($rest,)*) = self;
                write_part($first, out);
                $(
                    out.push(SEPARATOR);
                    write_part($rest, out);
                )*
            }
        }
    )*};
}

key_by_parts! {
    A;
    A, B;
    A, B, C;
    A, B, C, D;
    A, B, C, D, E;
    A, B, C, D, E, F;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(key: impl CacheKey) -> String {
        String::from_utf8(key.to_key_bytes()).unwrap()
    }

    #[test]
    fn keys_stay_readable() {
        assert_eq!(text(42u64), "42");
        assert_eq!(text(-1i8), "-1");
        assert_eq!(text("user:1"), "user:1");
        assert_eq!(text(("user", 1u8)), "user:1");
        assert_eq!(text(("a:b", "c\\d", true)), r"a\:b:c\\d:true");
        assert_eq!(text(Some("x")), "+x");
        assert_eq!(text(None::<&str>), "");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(text(("a", "bc")), text(("ab", "c")));
        assert_ne!(text(("a:", "b")), text(("a", ":b")));
        assert_ne!(text(("a\\", "b")), text(("a", "\\b")));
        assert_ne!(text((("a", "b"), "c")), text((("a", "b:c"), "")));
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_hyphenated() {
        assert_eq!(text(uuid::Uuid::from_u128(0xab)), "00000000-0000-0000-0000-0000000000ab");
    }

    proptest! {
        #[test]
        fn different_tuples_have_different_bytes(
            a in "[a:\\\\]{0,4}", b in "[a:\\\\]{0,4}", c in "[a:\\\\]{0,4}", d in "[a:\\\\]{0,4}",
        ) {
            let same = (&a, &b) == (&c, &d);
            let bytes = (&*a, &*b).to_key_bytes() == (&*c, &*d).to_key_bytes();
            prop_assert_eq!(same, bytes);
        }

        #[test]
        fn different_options_have_different_bytes(a: Option<String>, b: Option<String>) {
            prop_assert_eq!(a == b, a.to_key_bytes() == b.to_key_bytes());
        }
    }
}
