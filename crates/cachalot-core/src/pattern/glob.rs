//! A glob taken apart, matched, and written again.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What one step of a pattern takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Any bytes. Never two in a row.
    Any,
    /// One byte, whichever.
    One,
    Byte(u8),
    /// One of some bytes.
    Class(Arc<Class>),
}

impl Token {
    /// One byte out of `class`, as simply as can be.
    fn one_of(class: Class) -> Self {
        match class.len() {
            256 => Self::One,
            1 => class.bytes().next().map_or(Self::One, Self::Byte),
            _ => Self::Class(Arc::new(class)),
        }
    }

    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Byte(own) => *own == byte,
            Self::Class(class) => class.has(byte),
        }
    }
}

/// A set of bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Class([u64; 4]);

impl Class {
    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn add_range(&mut self, from: u8, to: u8) {
        // As C compares characters on x86-64.
        let (from, to) = (from.cast_signed().min(to.cast_signed()), from.cast_signed().max(to.cast_signed()));
        (from..=to).for_each(|byte| self.add(byte.cast_unsigned()));
    }

    fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 != 0
    }

    fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|byte| self.has(*byte))
    }

    fn inverted(&self) -> Self {
        Self(self.0.map(|word| !word))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        if self.len() > 128 {
            out.push(b'^');
            self.inverted().write_bytes(out);
        } else {
            self.write_bytes(out);
        }
        out.push(b']');
    }

    fn write_bytes(&self, out: &mut Vec<u8>) {
        let mut rest = self.bytes().peekable();
        while let Some(first) = rest.next() {
            // What has a meaning between brackets cannot begin a range.
            if matches!(first, b'\\' | b']' | b'^' | b'-') {
                out.extend([b'\\', first]);
                continue;
            }
            let mut last = first;
            // A range across 128 would mean something else where characters have no sign.
            while let Some(next) = rest.next_if(|next| *next == last.wrapping_add(1) && *next != 128) {
                last = next;
            }
            match last - first {
                0 => out.push(first),
                _ => out.extend([first, b'-', last]),
            }
        }
    }
}

/// Takes `glob` apart.
pub(super) fn parse(glob: &[u8]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(glob.len());
    let mut rest = glob;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        tokens.push(match (first, tail) {
            (b'*', _) => Token::Any,
            (b'?', _) => Token::One,
            (b'[', _) => Token::one_of(parse_class(&mut rest)),
            (b'\\', [escaped, tail @ ..]) => {
                rest = tail;
                Token::Byte(*escaped)
            }
            (byte, _) => Token::Byte(*byte),
        });
    }
    tokens
}

/// Takes what is between brackets, and what closes them, off `rest`.
fn parse_class(rest: &mut &[u8]) -> Class {
    let inverted = rest.first() == Some(&b'^');
    if inverted {
        *rest = &rest[1..];
    }
    let mut class = Class::default();
    loop {
        *rest = match rest {
            [] => break,
            [b'\\', escaped, tail @ ..] => {
                class.add(*escaped);
                tail
            }
            [b']', tail @ ..] => {
                *rest = tail;
                break;
            }
            [from, b'-', to, tail @ ..] => {
                class.add_range(*from, *to);
                tail
            }
            [byte, tail @ ..] => {
                class.add(*byte);
                tail
            }
        };
    }
    if inverted { class.inverted() } else { class }
}

/// A pattern, and what is asked of it often.
#[derive(Debug)]
pub(super) struct Glob {
    tokens: Vec<Token>,
    /// The tokens written again: equal tokens, equal text.
    text: Vec<u8>,
    /// The bytes that the first tokens stand for.
    literal: Vec<u8>,
    stars: usize,
    /// Some token takes no byte at all.
    matches_nothing: bool,
}

impl Glob {
    pub(super) fn new(mut tokens: Vec<Token>) -> Self {
        tokens.dedup_by(|one, other| matches!((one, other), (Token::Any, Token::Any)));
        let byte = |token: &Token| match token {
            Token::Byte(byte) => Some(*byte),
            _ => None,
        };
        Self {
            text: write(&tokens),
            literal: tokens.iter().map_while(byte).collect(),
            stars: tokens.iter().filter(|token| matches!(token, Token::Any)).count(),
            matches_nothing: tokens
                .iter()
                .any(|token| matches!(token, Token::Class(class) if class.len() == 0)),
            tokens,
        }
    }

    pub(super) fn tokens(&self) -> &[Token] {
        &self.tokens
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) fn literal(&self) -> &[u8] {
        &self.literal
    }

    pub(super) fn stars(&self) -> usize {
        self.stars
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match text.strip_prefix(&*self.literal) {
            Some(rest) => matches(&self.tokens[self.literal.len()..], rest),
            None => false,
        }
    }

    /// Beyond the first `*` everything is possible.
    pub(super) fn matches_start(&self, start: &[u8]) -> bool {
        let head = self.head();
        let agree = head.iter().zip(start).all(|(token, byte)| token.takes(*byte));
        agree && !self.matches_nothing && (self.stars > 0 || start.len() < head.len())
    }

    /// At most `length` tokens of those before the first `*`, and `*`. `None` if that is no change.
    pub(super) fn widened(&self, length: usize) -> Option<Vec<Token>> {
        let head = self.head();
        let rest = self.tokens.len() - head.len();
        if head.len() <= length && rest <= 1 || self.matches_nothing {
            return None;
        }
        let kept = head.iter().take(length).cloned();
        Some(kept.chain([Token::Any]).collect())
    }

    /// The tokens for what follows `start`; `*` if there are several ways to get there.
    pub(super) fn after(&self, start: &[u8]) -> Option<Vec<Token>> {
        if self.matches_nothing {
            return None;
        }
        let tokens = &self.tokens;
        // From where on the rest may be taken: a `*` that has begun may go on.
        let mut ways = vec![0];
        for byte in start {
            let mut next = Vec::with_capacity(ways.len() + 1);
            for at in ways {
                let is_star = matches!(tokens.get(at), Some(Token::Any));
                if is_star {
                    next.push(at);
                }
                let one = at + usize::from(is_star);
                if tokens.get(one).is_some_and(|token| token.takes(*byte)) {
                    next.push(one + 1);
                }
            }
            next.sort_unstable();
            next.dedup();
            ways = next;
        }
        match *ways {
            [] => None,
            [at] => Some(tokens[at..].to_vec()),
            _ => Some(vec![Token::Any]),
        }
    }

    /// What comes before the first `*`: one byte each.
    fn head(&self) -> &[Token] {
        let end = self.tokens.iter().position(|token| matches!(token, Token::Any));
        &self.tokens[..end.unwrap_or(self.tokens.len())]
    }
}

impl PartialEq for Glob {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Glob {}

impl Hash for Glob {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Only the last `*` ever takes more: what an earlier one would leave for it, it can take itself.
fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    // The token after the last `*`, and where the bytes that it takes end.
    let mut star = None;
    while at < text.len() {
        match tokens.get(token) {
            Some(Token::Any) if token + 1 == tokens.len() => return true,
            Some(Token::Any) => {
                token += 1;
                star = Some((token, at));
            }
            Some(one) if one.takes(text[at]) => {
                token += 1;
                at += 1;
            }
            _ => {
                let Some((after, end)) = star else { return false };
                star = Some((after, end + 1));
                (token, at) = (after, end + 1);
            }
        }
    }
    tokens[token..].iter().all(|token| matches!(token, Token::Any))
}

fn write(tokens: &[Token]) -> Vec<u8> {
    let mut text = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Any => text.push(b'*'),
            Token::One => text.push(b'?'),
            Token::Byte(byte) => {
                if matches!(byte, b'*' | b'?' | b'[' | b'\\') {
                    text.push(b'\\');
                }
                text.push(*byte);
            }
            Token::Class(class) => class.write(&mut text),
        }
    }
    text
}
