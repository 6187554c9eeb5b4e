//! What travels on the channel of the layout: a JSON object with one of `key`, `pattern` and `tag`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use cachalot_core::{Body, BusEvent, BusGap, Key, Message, Pattern, Subject};
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::json;

/// What `message` is to foreigners, one text for each subject. Heartbeats and the like are nothing to them.
pub(super) fn texts(message: &Message, key_prefix: &[u8]) -> Vec<String> {
    let Body::Invalidations { subjects, .. } = &message.body else { return Vec::new() };
    let namespace = [key_prefix, message.namespace.as_str().as_bytes(), b":"].concat();
    subjects.iter().map(|subject| text(subject, key_prefix, &namespace)).collect()
}

fn text(subject: &Subject, key_prefix: &[u8], namespace: &[u8]) -> String {
    let named = |kind: &str, name: &[u8]| Some(json!({ kind: std::str::from_utf8(name).ok()? }).to_string());
    // What is no text cannot be named: then rather more is said to be no longer good.
    let own = || json!({ "pattern": String::from_utf8_lossy(namespace) + "*" }).to_string();
    match subject {
        Subject::Key { key, .. } => named("key", &[key_prefix, key.as_bytes()].concat()).unwrap_or_else(own),
        Subject::Tag { tag, .. } => {
            named("tag", tag).unwrap_or_else(|| json!({ "pattern": "*" }).to_string())
        }
        Subject::Pattern { pattern, .. } => {
            let whole = Pattern::literal(namespace).then(Pattern::new(pattern));
            named("pattern", whole.as_bytes()).unwrap_or_else(own)
        }
        _ => own(),
    }
}

/// What a text on the channel says. One that makes no sense is a gap: it may have been an invalidation.
pub(super) fn hear(bytes: &Bytes, key_prefix: &[u8]) -> BusEvent {
    let notice = match bytes.len() {
        0..=Message::MAX_BYTES => serde_json::from_slice::<Notice>(bytes).ok(),
        _ => None,
    };
    match notice {
        Some(Notice(subjects)) if !subjects.is_empty() => {
            BusEvent::Foreign(subjects.into_iter().filter_map(|subject| own(subject, key_prefix)).collect())
        }
        _ => BusEvent::Gap(BusGap::Undecodable),
    }
}

/// The subject without the prefix; `None` if it is not about what begins so.
fn own(subject: Subject, key_prefix: &[u8]) -> Option<Subject> {
    match subject {
        Subject::Key { key, pending } => {
            let key = Key::new(key.as_bytes().strip_prefix(key_prefix)?.to_vec());
            Some(Subject::Key { key, pending })
        }
        Subject::Pattern { pattern, pending } => {
            let pattern = Pattern::new(&pattern).after(key_prefix)?;
            Some(Subject::Pattern { pattern: pattern.as_bytes().to_vec().into(), pending })
        }
        subject => Some(subject),
    }
}

/// All that an object names, however often, whatever else it has.
struct Notice(Vec<Subject>);

impl<'de> Deserialize<'de> for Notice {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        format.deserialize_map(NoticeVisitor)
    }
}

struct NoticeVisitor;

impl<'de> Visitor<'de> for NoticeVisitor {
    type Value = Notice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one of key, pattern and tag")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Notice, A::Error> {
        let mut subjects = Vec::new();
        while let Some(kind) = map.next_key::<Cow<'de, str>>()? {
            let make: fn(Bytes) -> Subject = match &*kind {
                "key" => |key| Subject::Key { key: Key::new(key), pending: false },
                "pattern" => |pattern| Subject::Pattern { pattern, pending: false },
                "tag" => |tag| Subject::Tag { tag, pending: false },
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            subjects.push(make(map.next_value::<String>()?.into()));
            if subjects.len() > Message::MAX_NAMES {
                return Err(A::Error::custom("too many names"));
            }
        }
        Ok(Notice(subjects))
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::{Namespace, PublisherId};

    use super::*;

    fn key(name: impl Into<Bytes>) -> Subject {
        Subject::Key { key: Key::new(name), pending: false }
    }

    fn pattern(glob: &'static [u8]) -> Subject {
        Subject::Pattern { pattern: glob.into(), pending: false }
    }

    fn tag(name: &'static [u8]) -> Subject {
        Subject::Tag { tag: name.into(), pending: false }
    }

    fn said(subjects: Vec<Subject>, key_prefix: &[u8]) -> Vec<String> {
        let body = Body::Invalidations { sequence: 1, confirm: false, subjects };
        let namespace = Namespace::new("user").unwrap();
        texts(&Message { publisher: PublisherId::from_bytes([1; 16]), namespace, body }, key_prefix)
    }

    fn heard(text: &str) -> BusEvent {
        hear(&Bytes::copy_from_slice(text.as_bytes()), b"")
    }

    #[test]
    fn each_subject_is_an_object_with_one_member() {
        let subjects = vec![key("user:1"), pattern(b"1?"), tag(b"hot"), Subject::Clear { pending: true }];
        let texts = said(subjects, b"");
        let expected = [
            r#"{"key":"user:1"}"#,
            r#"{"pattern":"user:1?"}"#,
            r#"{"tag":"hot"}"#,
            r#"{"pattern":"user:*"}"#,
        ];
        assert_eq!(texts, expected);
        assert_eq!(said(vec![key("user:1")], b"shop:"), [r#"{"key":"shop:user:1"}"#]);
    }

    #[test]
    fn names_that_are_no_text_are_told_as_more_than_they_are() {
        let texts = said(vec![key(&b"user:\xff"[..]), pattern(b"\xff*"), tag(b"\xff")], b"");
        assert_eq!(texts, [r#"{"pattern":"user:*"}"#, r#"{"pattern":"user:*"}"#, r#"{"pattern":"*"}"#]);
    }

    #[test]
    fn what_is_said_is_heard() {
        for (text, subject) in [
            (r#"{"key": "user:1"}"#, key("user:1")),
            (r#"{"source": ["billing", {}], "key": "user:\u00fc\"", "at": 1e999}"#, key("user:\u{fc}\"")),
            (r#"{"pattern": "user:*"}"#, pattern(b"user:*")),
            (r#"{"tag": "hot"}"#, tag(b"hot")),
        ] {
            assert_eq!(heard(text), BusEvent::Foreign(vec![subject]), "{text}");
        }
        let both = heard(r#"{"key": "a", "key": "b", "tag": "hot"}"#);
        assert_eq!(both, BusEvent::Foreign(vec![key("a"), key("b"), tag(b"hot")]));
    }

    #[test]
    fn what_makes_no_sense_is_a_gap() {
        let deep = "[".repeat(100_000);
        let broken_key = format!(r#"{{"key": {deep}"#);
        let texts = [
            "",
            "{}",
            "[]",
            "null",
            "\"user:1\"",
            r#"{"key": 1}"#,
            r#"{"key": null}"#,
            r#"{"key": "a""#,
            r#"{"id": "a"}"#,
        ];
        for text in texts.into_iter().chain([&*deep, &*broken_key]) {
            assert_eq!(heard(text), BusEvent::Gap(BusGap::Undecodable), "{text:.40}");
        }
        let long = format!(r#"{{"key": "{}"}}"#, "x".repeat(Message::MAX_BYTES));
        assert_eq!(heard(&long), BusEvent::Gap(BusGap::Undecodable));
        let many = format!("{{{}}}", vec![r#""key":"a""#; Message::MAX_NAMES + 1].join(","));
        assert_eq!(heard(&many), BusEvent::Gap(BusGap::Undecodable));
    }

    #[test]
    fn what_is_behind_another_prefix_is_not_ours() {
        let behind = |text: &'static str| hear(&Bytes::from_static(text.as_bytes()), b"shop:");
        assert_eq!(behind(r#"{"key": "shop:user:1"}"#), BusEvent::Foreign(vec![key("user:1")]));
        assert_eq!(behind(r#"{"key": "user:1"}"#), BusEvent::Foreign(Vec::new()));
        assert_eq!(behind(r#"{"pattern": "shop:user:*"}"#), BusEvent::Foreign(vec![pattern(b"user:*")]));
        assert_eq!(behind(r#"{"pattern": "*"}"#), BusEvent::Foreign(vec![pattern(b"*")]));
    }
}
