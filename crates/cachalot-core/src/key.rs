//! Keys: typed ones in this process, bytes beyond it.

#[cfg(feature = "bytes")]
mod bytes_key;
#[cfg(feature = "bytes")]
pub use bytes_key::{Key, Namespace};
mod versioned;
pub use versioned::Versioned;

/// A stable, injective byte form of a key: equal keys give equal bytes, different ones different bytes, in
/// every process and every release. The text stays readable: `42`, `user:7`.
///
/// Implemented for integers, `bool`, `char`, strings, byte strings, `Option`, tuples of up to six, and
/// `uuid::Uuid` by feature. An own key takes two lines, there and back:
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
///
///     fn read_key(bytes: &[u8]) -> Option<Self> {
///         u64::read_key(bytes).map(Self)
///     }
/// }
/// assert_eq!(ProductId(42).to_key_bytes(), b"42");
/// assert!(ProductId::read_key(b"42").is_some());
/// ```
pub trait CacheKey {
    /// Appends the byte form.
    fn write_key(&self, out: &mut Vec<u8>);

    /// The key of this byte form: how a message that names a key by its bytes finds it in this process. `None` if
    /// it is no key's, or this type cannot tell, as is the default; borrowed keys cannot. Then every message
    /// about a key ends the trust in all that is in memory: right, and slow. What else it gives is compared
    /// with its byte form.
    fn read_key(_bytes: &[u8]) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

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

            fn read_key(bytes: &[u8]) -> Option<Self> {
                std::str::from_utf8(bytes).ok()?.parse().ok()
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

key_by_bytes!(str[u8]);

macro_rules! key_by_owned_bytes {
    ($($type:ty, $read:expr;)*) => {$(
        impl CacheKey for $type {
            fn write_key(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(AsRef::<[u8]>::as_ref(&**self));
            }

            fn read_key(bytes: &[u8]) -> Option<Self> {
                $read(bytes)
            }
        }
    )*};
}

key_by_owned_bytes! {
    String, text;
    Box<str>, text;
    std::sync::Arc<str>, text;
    Vec<u8>, |bytes: &[u8]| Some(bytes.into());
    std::sync::Arc<[u8]>, |bytes: &[u8]| Some(bytes.into());
}

fn text<T: for<'a> From<&'a str>>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok().map(T::from)
}

impl<const N: usize> CacheKey for [u8; N] {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok()
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

    fn read_key(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first() {
            None => Some(None),
            Some((b'+', inner)) => T::read_key(inner).map(Some),
            Some(_) => None,
        }
    }
}

#[cfg(feature = "uuid")]
impl CacheKey for uuid::Uuid {
    fn write_key(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()).as_bytes());
    }

    fn read_key(bytes: &[u8]) -> Option<Self> {
        Self::try_parse_ascii(bytes).ok()
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

/// The first part of `bytes`, its escapes undone, and what follows its separator, if there is one.
fn read_part(bytes: &[u8]) -> Option<(Vec<u8>, Option<&[u8]>)> {
    let mut part = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        match *byte {
            SEPARATOR => return Some((part, Some(rest.as_slice()))),
            ESCAPE => part.push(*rest.next()?),
            byte => part.push(byte),
        }
    }
    Some((part, None))
}

/// Reads one part of a tuple from `rest`, and leaves there what follows it.
fn take_part<T: CacheKey>(rest: &mut Option<&[u8]>) -> Option<T> {
    let (part, left) = read_part((*rest)?)?;
    *rest = left;
    T::read_key(&part)
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

            fn read_key(bytes: &[u8]) -> Option<Self> {
                let mut rest = Some(bytes);
                let key = (take_part::<$first>(&mut rest)?, $(take_part::<$rest>(&mut rest)?,)*);
                rest.is_none().then_some(key)
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

    fn comes_back<K: CacheKey + PartialEq + std::fmt::Debug>(key: K) {
        assert_eq!(K::read_key(&key.to_key_bytes()), Some(key));
    }

    #[test]
    fn keys_come_back_from_their_bytes() {
        comes_back(u64::MAX);
        comes_back(i128::MIN);
        comes_back('\u{1f40b}');
        comes_back(String::from(r"a:\"));
        comes_back(vec![0u8, 255]);
        comes_back([1u8, 2, 3]);
        comes_back(std::sync::Arc::<str>::from("shared"));
        comes_back((String::from(":"), String::new(), true));
        comes_back((("a".to_owned(), 1u8), Some("b:".to_owned())));
        comes_back(None::<String>);
        comes_back(Some(String::new()));
        #[cfg(feature = "uuid")]
        comes_back(uuid::Uuid::from_u128(7));
    }

    #[test]
    fn bytes_that_are_no_key_are_none() {
        assert_eq!(u8::read_key(b"256"), None);
        assert_eq!(u8::read_key(b"\xff"), None);
        assert_eq!(String::read_key(b"\xff"), None);
        assert_eq!(<[u8; 2]>::read_key(b"abc"), None);
        assert_eq!(Option::<u8>::read_key(b"1"), None);
        assert_eq!(<(u8, u8)>::read_key(b"1"), None);
        assert_eq!(<(u8, u8)>::read_key(b"1:2:3"), None);
        assert_eq!(<(String,)>::read_key(b"cut\\"), None);
        assert_eq!(<&str>::read_key(b"borrowed"), None);
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
        fn any_tuple_comes_back(key: (String, Vec<u8>, Option<String>, (i64, String))) {
            prop_assert_eq!(CacheKey::read_key(&key.to_key_bytes()), Some(key));
        }

        #[test]
        fn different_options_have_different_bytes(a: Option<String>, b: Option<String>) {
            prop_assert_eq!(a == b, a.to_key_bytes() == b.to_key_bytes());
        }
    }
}
