//! Which keys are meant: patterns as Redis knows them.

use std::fmt;
use std::sync::Arc;

use crate::Namespace;

mod glob;
use glob::{Glob, Token};
#[cfg(test)]
mod tests;

/// Which keys of a cache are meant, as a glob: `user:*:avatar`.
///
/// | | matches |
/// |---|---|
/// | `*` | any bytes, also none |
/// | `?` | any one byte |
/// | `[abc]`, `[a-z]` | one of these bytes; a range may run backwards |
/// | `[^a-z]` | one byte that is none of these |
/// | `\x` | `x` itself, also between brackets |
///
/// It is about the [byte form](crate::CacheKey) of keys, without the cache's name, and about all of a key, not
/// a part of it. Upper and lower case differ. The meaning is that of Redis' `MATCH`, odd cases included: brackets
/// that nothing closes reach to the end, `[]` matches nothing, `[^]` is `?`, a `\` at the end is a `\`, a `]`
/// is the end of a range before it closes brackets (`[a-]` is not closed). Bytes from 128 on count as less than
/// those below in a range, as they do for Redis on x86-64. In one case Redis' commands disagree with each other:
/// here `*` matches the empty key too.
///
/// Text that comes from elsewhere goes through [`literal`](Pattern::literal): then none of it is a pattern.
///
/// ```
/// use cachalot_core::Pattern;
///
/// let user = "j*n";
/// let sessions = Pattern::literal("user:").then(Pattern::literal(user)).then(Pattern::new(":session:*"));
/// assert!(sessions.matches(b"user:j*n:session:1"));
/// assert!(!sessions.matches(b"user:john:session:1"));
/// assert_eq!(sessions.to_string(), r"user:j\*n:session:*");
/// ```
///
/// A match takes at most as many steps as the key and the pattern have bytes, multiplied. A clone is the same
/// pattern, shared.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    glob: Arc<Glob>,
}

impl Pattern {
    /// The pattern written as `glob`. Any bytes are one.
    pub fn new(glob: impl AsRef<[u8]>) -> Self {
        Self::of(glob::parse(glob.as_ref()))
    }

    /// Exactly `text`, whatever it contains.
    ///
    /// ```
    /// use cachalot_core::{CacheKey, Pattern};
    ///
    /// assert!(!Pattern::literal("*").matches(b"everything"));
    /// // What begins with the parts of a key:
    /// let of_user = Pattern::literal(("user", 7).to_key_bytes()).then(Pattern::new(":*"));
    /// assert!(of_user.matches(&("user", 7, "avatar").to_key_bytes()));
    /// assert!(!of_user.matches(&("user", 77, "avatar").to_key_bytes()));
    /// ```
    pub fn literal(text: impl AsRef<[u8]>) -> Self {
        Self::of(text.as_ref().iter().map(|byte| Token::Byte(*byte)).collect())
    }

    /// Whatever begins with exactly `text`.
    pub fn prefix(text: impl AsRef<[u8]>) -> Self {
        Self::literal(text).then(Self::any())
    }

    /// Every key.
    pub fn any() -> Self {
        Self::of(vec![Token::Any])
    }

    /// What this one matches, followed by what `next` matches. Each keeps its meaning: brackets left open in
    /// the one don't swallow the other.
    #[must_use]
    pub fn then(&self, next: impl AsRef<Self>) -> Self {
        let both = [&self.glob, &next.as_ref().glob].map(|glob| glob.tokens());
        Self::of(both.concat())
    }

    /// Whether all of `text` is matched.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.glob.matches(text)
    }

    /// Whether some text that begins with `start`, and goes on, is matched: for who knows of long keys only
    /// how they begin.
    pub fn matches_start(&self, start: &[u8]) -> bool {
        self.glob.matches_start(start)
    }

    /// The pattern as a glob in one of several ways to write it: Redis takes it, and means the same on every
    /// platform.
    pub fn as_bytes(&self) -> &[u8] {
        self.glob.text()
    }

    /// What every text that is matched begins with.
    pub fn literal_prefix(&self) -> &[u8] {
        self.glob.literal()
    }

    /// How many `*` it has.
    pub fn stars(&self) -> usize {
        self.glob.stars()
    }

    /// Matches what this one does and more: what comes before the first `*`, at most `length` bytes of it, and
    /// then anything. The pattern itself, if it is no longer than that and has no other `*` than one at its end.
    #[must_use]
    pub fn widened(&self, length: usize) -> Self {
        match self.glob.widened(length) {
            Some(tokens) => Self::of(tokens),
            None => self.clone(),
        }
    }

    /// The pattern of what may follow `start`: it matches each text that, behind `start`, this one matches, and
    /// perhaps more where a `*` may end before or behind the end of `start`. `None` if nothing that begins with
    /// `start` is matched.
    ///
    /// ```
    /// use cachalot_core::Pattern;
    ///
    /// let rest = Pattern::new("user:*:avatar").after(b"user:");
    /// assert_eq!(rest, Some(Pattern::new("*:avatar")));
    /// assert_eq!(Pattern::new("user:*").after(b"product:"), None);
    /// assert_eq!(Pattern::new("*:7").after(b"user:"), Some(Pattern::any()));
    /// ```
    pub fn after(&self, start: &[u8]) -> Option<Self> {
        self.glob.after(start).map(Self::of)
    }

    /// The pattern of the keys of `namespace` that match this one.
    ///
    /// ```
    /// use cachalot_core::{Namespace, Pattern};
    ///
    /// let all = Pattern::any().within(&Namespace::new("users")?);
    /// assert!(all.matches(b"users:1"));
    /// assert!(!all.matches(b"usersAbc:1"));
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn within(&self, namespace: &Namespace) -> KeyPattern {
        let name = [namespace.as_str().as_bytes(), b":"].concat();
        KeyPattern(Self::literal(name).then(self))
    }

    fn of(tokens: Vec<Token>) -> Self {
        Self { glob: Arc::new(Glob::new(tokens)) }
    }
}

impl AsRef<Self> for Pattern {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in String::from_utf8_lossy(self.as_bytes()).chars() {
            match letter.is_control() {
                true => write!(f, "{}", letter.escape_default())?,
                false => write!(f, "{letter}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({self})")
    }
}

/// Which [keys](crate::Key) of one namespace are meant: made by [`Pattern::within`], and by nothing else, so that
/// it never reaches into another.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeyPattern(Pattern);

impl KeyPattern {
    /// Whether the key of these bytes, its namespace included, is meant.
    pub fn matches(&self, key: &[u8]) -> bool {
        self.0.matches(key)
    }

    /// The same keys where `start` comes before their namespace: for a backend that stores them so.
    ///
    /// ```
    /// use cachalot_core::{Namespace, Pattern};
    ///
    /// let all = Pattern::any().within(&Namespace::new("users")?).behind(b"~2~");
    /// assert!(all.matches(b"~2~users:1"));
    /// assert!(!all.matches(b"users:1"));
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    #[must_use]
    pub fn behind(&self, start: &[u8]) -> Self {
        Self(Pattern::literal(start).then(&self.0))
    }

    /// The pattern of whole keys, the namespace spelled out.
    pub fn as_pattern(&self) -> &Pattern {
        &self.0
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPattern({self})")
    }
}
