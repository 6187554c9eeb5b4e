//! What is done about what was heard.

use std::hash::Hash;

use cachalot_core::{
    Depth, Event, Key, KeyPattern, Pattern, Store, StoreCursor, Subject, Tag, Tags, Timestamp, mutant,
};
use cachalot_invalidation::{Deed, Heard, Hearing};

use super::Fleet;
use crate::engine::Engine;
use crate::membership::Membership;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Does what `heard` asks for; only then acknowledges it.
    pub(super) async fn apply(&self, fleet: &Fleet, hearing: &Hearing, heard: Heard) {
        if let Some((of, up_to)) = heard.ack.filter(|_| mutant!(AcksBeforeItVoids)) {
            fleet.acknowledge(of, up_to);
        }
        if heard.gap.is_some() && !mutant!(IgnoresGaps) {
            self.distrust_all();
        }
        // While nothing is heard, what is invalidated is not heard either.
        self.trust_while(hearing);
        match heard.deed {
            Deed::Apply(subjects) => {
                for subject in subjects {
                    self.emit(&Event::Heard);
                    self.apply_subject(subject, heard.late).await;
                }
            }
            Deed::Wake(keys) => keys.iter().for_each(|key| self.leases_ended.wake(key)),
            Deed::Acked { by, up_to } => {
                if let Some(Membership(enrolment)) = &self.membership {
                    enrolment.note_ack(by, up_to);
                }
            }
            _ => {}
        }
        if let Some((of, up_to)) = heard.ack {
            fleet.acknowledge(of, up_to);
        }
    }

    /// Something was missed: nothing that memory holds, and nothing on its way there, is trusted any more. What
    /// is asked for again is asked of the shared tier, one key at a time, when it is asked for.
    fn distrust_all(&self) {
        self.emit(&Event::Gap);
        self.end_trust();
    }

    /// Trusts nothing that memory holds, and nothing on its way there.
    pub(crate) fn end_trust(&self) {
        self.seen.distrust();
        self.store.void_all();
        if !mutant!(KeepsFlightsInAGap) {
            self.flights.void_all();
        }
        // A removal may have been missed that asks for a new try.
        if let Some(failures) = &self.failures {
            failures.forget_all();
        }
        self.forget_epochs();
        self.everything.forget();
    }

    /// `late`: something newer of the same process was heard before, perhaps that it is pending no more.
    async fn apply_subject(&self, subject: Subject, late: bool) {
        match subject {
            Subject::Key { key, pending } => {
                self.note_pending(&key, pending, late);
                if let Some(tag) = self.dependants_of_name(&key) {
                    self.note_pending(&self.namespace.tag(&tag), pending, late);
                }
                match self.names.as_ref().and_then(|names| names.read(&key)) {
                    Some(key) if mutant!(HearsWithoutVoiding) => drop(self.store.invalidate(&key)),
                    Some(key) => self.forget(&key),
                    None => self.distrust_all(),
                }
            }
            Subject::Tag { tag, pending } => match Tag::from_wire(&tag) {
                Some(tag) => {
                    self.note_pending(&self.namespace.tag(&tag), pending, late);
                    self.forget_tags(&Tags::one(tag), Depth::Remove);
                }
                None => self.distrust_all(),
            },
            Subject::Pattern { pattern, pending } => {
                self.apply_pattern(Pattern::new(&pattern), pending, late).await;
            }
            Subject::Clear { pending } => {
                match pending {
                    true => self.note_pending_pattern(Pattern::any(), pending, late),
                    // Of names and patterns that wait, it may be all that is heard.
                    false => self.pending.settle_all(),
                }
                self.forget_all();
            }
            _ => self.distrust_all(),
        }
    }

    async fn apply_pattern(&self, pattern: Pattern, pending: bool, late: bool) {
        let Some(names) = &self.names else { return self.distrust_all() };
        self.note_pending_pattern(pattern.clone(), pending, late);
        if self.dependencies.is_some() {
            self.note_pending(&self.namespace.tag(&Tag::of_all_dependants()), pending, late);
        }
        let meant = pattern.within(&self.namespace);
        self.forget_matching(&meant, |key| names.key(key)).await;
    }

    /// Ends what this process holds and has in flight for every key that `pattern` matches, in bounded steps:
    /// the store first, as for one key.
    pub(crate) async fn forget_matching(&self, pattern: &KeyPattern, name: impl Fn(&K) -> Key) {
        let is_meant = |key: &K| pattern.matches(name(key).as_bytes());
        let mut from = Some(StoreCursor::START);
        while let Some(cursor) = from {
            from = self.store.invalidate_if(cursor, |key, _| is_meant(key));
            tokio::task::yield_now().await;
        }
        self.flights.void_if(is_meant);
        self.forget_all_dependants();
        if let Some(failures) = &self.failures {
            failures.forget_if(is_meant);
        }
    }

    /// Ends all that this process holds and has in flight.
    pub(crate) fn forget_all(&self) {
        // Nothing from before is trusted, even where the store is slow to drop it.
        self.seen.distrust();
        self.store.clear();
        self.flights.void_all();
        if let Some(failures) = &self.failures {
            failures.forget_if(|_| true);
        }
        self.forget_epochs();
        self.everything.forget();
    }

    fn note_pending(&self, name: &Key, pending: bool, late: bool) {
        match pending {
            true if late => {}
            true => self.pending.add(name.clone(), self.pending_until()),
            false => self.pending.settle(name),
        }
    }

    fn note_pending_pattern(&self, pattern: Pattern, pending: bool, late: bool) {
        let pattern = pattern.within(&self.namespace);
        match pending {
            true if late => {}
            true => self.pending.add_pattern(pattern, self.pending_until()),
            false => self.pending.settle_pattern(&pattern),
        }
    }

    /// When what may be in the shared tier now has ended.
    fn pending_until(&self) -> Timestamp {
        self.clock.now() + self.options.longest_life()
    }
}
