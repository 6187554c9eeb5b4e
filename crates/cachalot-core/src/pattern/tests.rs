use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn pattern(glob: &str) -> Pattern {
    Pattern::new(glob)
}

#[track_caller]
fn check(glob: &str, matched: &[&str], others: &[&str]) {
    for text in matched {
        assert!(pattern(glob).matches(text.as_bytes()), "{glob} matches {text}");
    }
    for text in others {
        assert!(!pattern(glob).matches(text.as_bytes()), "{glob} does not match {text}");
    }
}

#[test]
fn stars_and_question_marks() {
    check("*", &["", "a", "a:b"], &[]);
    check("a*", &["a", "ab"], &["", "ba", "A"]);
    check("*a", &["a", "aaa", "ba"], &["ab", ""]);
    check("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb"]);
    check("a?c", &["abc", "a*c"], &["ac", "abbc"]);
    check("?*", &["a", "ab"], &[""]);
    check("", &[""], &["a"]);
}

#[test]
fn brackets() {
    check("[abc]", &["a", "b", "c"], &["d", "", "ab"]);
    check("[a-c]x", &["ax", "cx"], &["dx", "-x"]);
    check("[c-a]x", &["ax", "bx", "cx"], &["dx"]);
    check("[^a-c]", &["d", "^"], &["a", "b", ""]);
    check(r"[\]a]", &["]", "a"], &["\\", "b"]);
    check(r"[a\-c]", &["a", "-", "c"], &["b"]);
    check("[a^]", &["a", "^"], &["b"]);
}

#[test]
fn odd_brackets_are_what_redis_makes_of_them() {
    check("[]", &[], &["", "]", "[", "a"]);
    check("[", &[], &["", "["]);
    check("[^]", &["a", "]"], &[""]);
    check("[^", &["a", "^"], &[""]);
    check("[ab", &["a", "b"], &["c", "ab"]);
    check("[a-", &["a", "-"], &["b"]);
    check("[a-]", &["a", "]", "^", "`"], &["-", "b"]);
    check("[a-]b]", &["b", "^"], &["-"]);
    check("[]a]", &[], &["]", "a", "a]"]);
    check(r"[a\", &["a", "\\"], &["b"]);
}

#[test]
fn escapes() {
    check(r"\*", &["*"], &["a", "\\*"]);
    check(r"\a\?", &["a?"], &["ab"]);
    check("a\\", &["a\\"], &["a"]);
    check(r"\[a]", &["[a]"], &["a"]);
}

#[test]
fn ranges_beyond_ascii_are_those_of_signed_characters() {
    let wide = Pattern::new(b"[a-\xff]");
    assert!(wide.matches(b"\xff") && wide.matches(b"a") && wide.matches(b"\0"));
    assert!(!wide.matches(b"\x80") && !wide.matches(b"b"));
    assert!(Pattern::new(b"[\xa0-\xb0]").matches(b"\xa5"));
}

#[test]
fn literal_text_is_never_a_pattern() {
    for text in ["*", "?", "[a]", "\\", "a\\*b", "[^", "]", "user:[1]*"] {
        let literal = Pattern::literal(text);
        assert!(literal.matches(text.as_bytes()), "{text}");
        assert_eq!(literal.literal_prefix(), text.as_bytes());
        for other in ["", "a", "*a", "user:1", "\\\\"] {
            assert_eq!(literal.matches(other.as_bytes()), text == other, "{text} {other}");
        }
    }
}

#[test]
fn a_part_left_open_does_not_swallow_the_next() {
    let open = pattern("x[ab").then(Pattern::literal("]*"));
    assert!(open.matches(b"xa]*") && !open.matches(b"xa") && !open.matches(b"xab"));
    let escape = pattern("x\\").then(Pattern::any());
    assert!(escape.matches(b"x\\yz") && !escape.matches(b"x*"));
}

#[test]
fn a_namespace_is_never_left() {
    let users = Namespace::new("users").unwrap();
    for glob in ["*", "", "?", "[^x]*", "*:*", "\\", "[", "Abc:*", "*usersAbc:*"] {
        let within = pattern(glob).within(&users);
        assert_eq!(within.as_pattern().literal_prefix().get(..6), Some(&b"users:"[..]), "{glob}");
        for other in ["usersAbc:1", "users", "user:1", "x:users:1", "USERS:1"] {
            assert!(!within.matches(other.as_bytes()), "{glob} {other}");
        }
    }
    let all = Pattern::any().within(&users);
    assert!(all.matches(b"users:") && all.matches(b"users:a:b"));
    let dotted = Pattern::any().within(&Namespace::new("a.b").unwrap());
    assert!(!dotted.matches(b"axb:1"));
}

#[test]
fn patterns_read_as_globs() {
    let read = |glob: &str| pattern(glob).to_string();
    assert_eq!(read("user:[0-9]*"), "user:[0-9]*");
    assert_eq!(read("a***b"), "a*b");
    assert_eq!(read("[a]"), "a");
    assert_eq!(read("[^]"), "?");
    assert_eq!(read("[^a]"), "[^a]");
    assert_eq!(read("[z-a"), "[a-z]");
    assert_eq!(read("[a\\-c]"), r"[\-ac]");
    assert_eq!(read("[X-a]"), "[X-a]");
    assert_eq!(read("[a-]"), r"[\]\^_-a]");
    assert_eq!(format!("{:?}", pattern("a\n*")), r"Pattern(a\n*)");
}

#[test]
fn what_is_meant_alike_is_equal() {
    assert_eq!(pattern("a**[b]"), pattern("a*b"));
    assert_ne!(pattern("a*"), pattern("a?"));
}

#[test]
fn a_widened_pattern_is_what_comes_before_the_first_star() {
    let widened = |glob: &str, length| pattern(glob).widened(length).to_string();
    assert_eq!(widened("users:*", 512), "users:*");
    assert_eq!(widened("users:*:x", 512), "users:*");
    assert_eq!(widened("users:?[ac]*x*", 512), "users:?[ac]*");
    assert_eq!(widened("users:1", 512), "users:1");
    assert_eq!(widened("users:1", 4), "user*");
    assert_eq!(widened("*", 4), "*");
}

#[test]
fn many_stars_take_no_exponential_time() {
    let hard = Pattern::new(format!("{}b", "a*".repeat(200)));
    let text = "a".repeat(5_000);
    // A million steps; by trying all splits this would not end.
    assert!(!hard.matches(text.as_bytes()));
}

/// Written by the table alone: what is left of a pattern against what is left of a text.
fn naive(glob: &[u8], text: &[u8]) -> bool {
    let one = |takes: &dyn Fn(u8) -> bool, rest: &[u8]| {
        text.first().is_some_and(|b| takes(*b) && naive(rest, &text[1..]))
    };
    match glob {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
        [b'?', rest @ ..] => one(&|_| true, rest),
        [b'[', rest @ ..] => {
            let (negated, rest) = rest.strip_prefix(b"^").map_or((false, rest), |rest| (true, rest));
            let (members, rest) = naive_class(rest);
            one(&|byte| members.iter().any(|member| member.contains(&(byte as i8))) != negated, rest)
        }
        [b'\\', escaped, rest @ ..] => one(&|byte| byte == *escaped, rest),
        [literal, rest @ ..] => one(&|byte| byte == *literal, rest),
    }
}

fn naive_class(mut rest: &[u8]) -> (Vec<std::ops::RangeInclusive<i8>>, &[u8]) {
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (first, last, length) = match rest {
            [b']', rest @ ..] => return (members, rest),
            [b'\\', escaped, ..] => (*escaped, *escaped, 2),
            [first, b'-', last, ..] => (*first, *last, 3),
            _ => (rest[0], rest[0], 1),
        };
        let (first, last) = (first as i8, last as i8);
        members.push(first.min(last)..=first.max(last));
        rest = &rest[length..];
    }
    (members, rest)
}

/// Few letters, so that much matches.
fn nasty(most: usize) -> impl Strategy<Value = Vec<u8>> {
    let letter = prop::sample::select(&b"**??[[]]^--\\\\aabbc\x00\x7f\x80\xff:"[..]);
    vec(letter, 0..most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn matches_as_the_naive_matcher_does(glob in nasty(10), text in nasty(6)) {
        prop_assert_eq!(Pattern::new(&glob).matches(&text), naive(&glob, &text));
    }

    #[test]
    fn written_again_it_means_the_same(glob in nasty(10), text in nasty(6)) {
        let first = Pattern::new(&glob);
        prop_assert_eq!(naive(first.as_bytes(), &text), naive(&glob, &text));
        prop_assert_eq!(&Pattern::new(first.as_bytes()), &first);
    }

    #[test]
    fn any_set_of_bytes_is_written_so_that_it_is_read_again(members in vec(any::<u8>(), 0..40), negated: bool) {
        let mut glob = if negated { b"[^".to_vec() } else { b"[".to_vec() };
        members.iter().for_each(|member| glob.extend([b'\\', *member]));
        let again = Pattern::new(Pattern::new(&glob).as_bytes());
        for byte in 0..=u8::MAX {
            prop_assert_eq!(again.matches(&[byte]), members.contains(&byte) != negated);
        }
    }

    #[test]
    fn one_after_the_other_is_what_both_match(
        one in nasty(5), other in nasty(5), text in nasty(6),
    ) {
        let (one, other) = (Pattern::new(one), Pattern::new(other));
        let split = (0..=text.len()).any(|at| one.matches(&text[..at]) && other.matches(&text[at..]));
        prop_assert_eq!(one.then(&other).matches(&text), split);
    }

    #[test]
    fn what_matches_begins_as_the_pattern_says(glob in nasty(8), text in nasty(8), length in 0usize..9) {
        let pattern = Pattern::new(&glob);
        if pattern.matches(&text) {
            prop_assert!(text.starts_with(pattern.literal_prefix()));
            prop_assert!(pattern.widened(length).matches(&text));
            (0..text.len()).for_each(|end| assert!(pattern.matches_start(&text[..end])));
        }
    }

    #[test]
    fn what_follows_a_start_matches_behind_it(glob in nasty(8), start in nasty(4), end in nasty(5)) {
        let pattern = Pattern::new(&glob);
        let is_matched = naive(&glob, &[&start[..], &end[..]].concat());
        let after = pattern.after(&start);
        prop_assert!(!is_matched || after.as_ref().is_some_and(|after| after.matches(&end)));
        // With no star there is one way, and it is exact.
        if pattern.stars() == 0 {
            prop_assert_eq!(after.is_some_and(|after| after.matches(&end)), is_matched);
        }
    }

    #[test]
    fn a_start_that_may_match_does_with_some_end(glob in nasty(6), start in nasty(5)) {
        let pattern = Pattern::new(&glob);
        // Whatever follows the first star can be written out.
        let end: Vec<u8> = (0..=u8::MAX).collect();
        let ends = pattern.matches_start(&start);
        if !ends {
            end.iter().for_each(|byte| assert!(!pattern.matches(&[&start[..], &[*byte]].concat())));
        }
    }
}
