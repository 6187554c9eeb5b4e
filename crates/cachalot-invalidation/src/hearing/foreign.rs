//! What somebody says who follows no contract: taken as far as it is about this cache.

use cachalot_core::{Namespace, Pattern, Subject, mutant};

use super::{Deed, Heard, Hearing};

impl Hearing {
    /// Nothing is known of who speaks, nor what else was said. It never makes the shared tier be bypassed: nobody
    /// would end that.
    pub(super) fn on_foreign(&self, subjects: Vec<Subject>) -> Heard {
        if mutant!(IgnoresForeigners) {
            return Heard::default();
        }
        let own: Vec<_> = subjects.into_iter().filter_map(|subject| own(subject, &self.namespace)).collect();
        match own.is_empty() {
            true => Heard::default(),
            false => Heard { late: true, ..Heard::deed(Deed::Apply(own)) },
        }
    }
}

/// The subject as it is within `namespace`; `None` if it is not about that.
fn own(subject: Subject, namespace: &Namespace) -> Option<Subject> {
    let start = [namespace.as_str().as_bytes(), b":"].concat();
    match subject {
        Subject::Key { key, .. } if !key.as_bytes().starts_with(&start) => None,
        Subject::Pattern { pattern, pending } => {
            let rest = Pattern::new(&pattern).after(&start)?;
            Some(Subject::Pattern { pattern: rest.as_bytes().to_vec().into(), pending })
        }
        subject => Some(subject),
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::{BusEvent, Key, PublisherId, Timestamp};

    use super::*;
    use crate::HearingSettings;

    fn hear(subjects: Vec<Subject>) -> Heard {
        let namespace = Namespace::new("user").unwrap();
        let own = PublisherId::from_bytes([1; 16]);
        let mut hearing = Hearing::new(own, namespace, HearingSettings::default());
        let heard = hearing.on_event(BusEvent::Foreign(subjects), Timestamp::from_millis(1));
        assert_eq!(hearing.publishers(), 0);
        heard
    }

    fn key(name: &'static str) -> Subject {
        Subject::Key { key: Key::new(name), pending: false }
    }

    fn pattern(glob: &'static str) -> Subject {
        Subject::Pattern { pattern: glob.into(), pending: false }
    }

    #[test]
    fn what_is_of_this_cache_is_applied() {
        let tag = Subject::Tag { tag: "hot".into(), pending: false };
        let said =
            vec![key("user:1"), key("users:1"), key("user"), tag.clone(), Subject::Clear { pending: false }];
        let heard = hear(said);
        let deed = Deed::Apply(vec![key("user:1"), tag, Subject::Clear { pending: false }]);
        assert_eq!(heard, Heard { late: true, ..Heard::deed(deed) });
    }

    #[test]
    fn what_is_of_others_is_nothing() {
        assert_eq!(hear(vec![key("product:1"), pattern("product:*")]), Heard::default());
    }

    #[test]
    fn a_pattern_is_taken_within_the_namespace() {
        for (glob, rest) in [("user:*", "*"), ("user:1?", "1?"), ("us*", "*"), ("*", "*"), ("u[st]er:7", "7")]
        {
            assert_eq!(hear(vec![pattern(glob)]).deed, Deed::Apply(vec![pattern(rest)]), "{glob}");
        }
    }

    #[test]
    fn what_is_said_to_be_pending_is_so_for_nobody() {
        assert!(hear(vec![Subject::Key { key: Key::new("user:1"), pending: true }]).late);
    }
}
