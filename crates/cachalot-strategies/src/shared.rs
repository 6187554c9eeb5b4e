//! The shared tier as the engine sees it: typed keys and values over a backend of bytes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cachalot_core::envelope::{self, Header, Tagged};
use cachalot_core::{
    Backend, Codec, Entry, Error, ErrorKind, Freshness, Key, Meta, Result, Stamp, Tier, Timestamp, mutant,
};

use crate::cached::Found;
use crate::early::Early;
use crate::names::Names;
use crate::slide::{self, Span};
use crate::tags::Vetted;

pub(crate) struct Shared<K, V> {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) names: Names<K>,
    pub(crate) schema: u32,
    /// How long memory may keep a copy.
    pub(crate) memory_ttl: Duration,
    pub(crate) early: Early,
    /// How old a value may get here whose life reads prolong. `None`: they do not.
    pub(crate) max_age: Option<Duration>,
    /// Whether values there do not say which tags they have.
    pub(crate) is_bare: bool,
}

/// What a record turned out to be.
pub(crate) enum Judged<V> {
    /// Good.
    Fresh(Fresh<V>),
    /// Past its time or marked invalidated: a candidate to be served as stale.
    Stale(Found<V>),
    /// Written by a release that knows a newer schema: neither read nor overwritten.
    Newer,
    /// Of no use.
    Unusable(Option<Error>),
}

/// A record that is good, and its times there: a copy in memory may have others.
pub(crate) struct Fresh<V> {
    value: Option<V>,
    stamp: Stamp,
    /// Where its life ends by what this cache allows.
    pub(crate) meta: Meta,
    /// The whole of its life, by its envelope.
    pub(crate) life: Meta,
    /// How long it is kept if reads prolong that.
    pub(crate) span: Option<Span>,
    /// When it was read.
    pub(crate) at: Timestamp,
}

impl<V> Fresh<V> {
    pub(crate) fn is_negative(&self) -> bool {
        self.value.is_none()
    }

    /// As who reads it gets it, with these times.
    pub(crate) fn timed(self, meta: Meta) -> Found<V> {
        let Self { value, stamp, at, .. } = self;
        let entry = Arc::new(Entry { value, meta, stamp });
        Found { entry, tier: Tier::Backend, freshness: Freshness::Fresh, stale_for: Duration::ZERO, at }
    }
}

impl<K, V: Send + Sync + 'static> Shared<K, V> {
    pub(crate) fn key(&self, key: &K) -> Key {
        self.names.key(key)
    }

    /// The bytes of `value` with its times.
    pub(crate) fn encode(
        &self,
        key: &Key,
        value: Option<&V>,
        meta: &Meta,
        tags: &[Tagged],
        version: u64,
    ) -> Result<Bytes> {
        let (fresh_for, kept_for) = self.lives(meta);
        let header = Header {
            codec: self.codec.id(),
            schema: self.schema,
            negative: value.is_none(),
            fresh_for,
            kept_for,
            compute_time: meta.compute_time(),
            version,
        };
        caught(ErrorKind::Encode, || envelope::encode(key, header, tags, value, &*self.codec))
    }

    /// How long an entry is fresh, and how long it is kept there if no read prolongs that.
    pub(crate) fn lives(&self, meta: &Meta) -> (Duration, Duration) {
        let (soft, hard) = (meta.fresh_for(), meta.kept_for());
        if self.slides() { (hard, soft) } else { (soft, hard) }
    }

    /// Whether reads prolong the life of the values that this cache stores.
    fn slides(&self) -> bool {
        self.max_age.is_some()
    }

    /// How long a record is kept that slides, by its envelope and here.
    pub(crate) fn span(&self, header: &Header) -> Option<Span> {
        Some(Span::of(header)?.within(self.max_age))
    }

    /// The times of an entry of this cache as memory keeps it.
    pub(crate) fn in_memory(&self, meta: Meta, now: Timestamp) -> Meta {
        self.copied(meta, now, self.slides())
    }

    /// The times of a copy as memory keeps it, of an entry that `slides` or does not.
    pub(crate) fn copied(&self, meta: Meta, now: Timestamp, slides: bool) -> Meta {
        let meta = match slides {
            true => slide::in_memory(meta, now, self.slides()),
            false => self.early.mark(meta),
        };
        if mutant!(KeepsCopiesTooLong) { meta } else { meta.capped(now + self.memory_ttl) }
    }

    /// What is good as memory keeps a copy of it.
    pub(crate) fn copy(&self, fresh: Fresh<V>) -> Found<V> {
        let meta = self.copied(fresh.meta, fresh.at, fresh.span.is_some());
        fresh.timed(meta)
    }

    /// Decodes a record and places it in time: its age by the server's clock, its life from the envelope. It
    /// bears the stamp of who read it: `began` is the count of invalidations before that.
    pub(crate) fn judge(&self, key: &Key, vetted: &Vetted, began: u64, now: Timestamp) -> Judged<V> {
        let Vetted { record, is_removed } = vetted;
        if *is_removed {
            return Judged::Unusable(None);
        }
        let (header, tags, bytes) = match envelope::open(key, &record.payload) {
            Ok(opened) => (opened.header, opened.tags, opened.value),
            Err(error) => return Judged::Unusable(Some(error)),
        };
        if header.schema > self.schema {
            return Judged::Newer;
        }
        if header.schema < self.schema {
            return Judged::Unusable(None);
        }
        let value = match self.decode(header, bytes) {
            Ok(value) => value,
            Err(error) => return Judged::Unusable(Some(error.key(key.as_bytes()))),
        };
        // A clear ends all of memory by itself.
        let own = tags.iter().filter(|it| !it.tag.as_bytes().is_empty()).map(|it| it.tag.fingerprint());
        let prints: Arc<[u64]> = own.collect();
        let prints = (!prints.is_empty()).then_some(prints);
        let stamp = Stamp { at: began, tags: prints, version: header.version };
        let created_at = now.back(record.age);
        let span = self.span(&header);
        let meta = match span {
            Some(span) => span.meta(created_at, header.compute_time),
            None => self.fixed(&header, created_at),
        };
        // As long as it is there, it has been read lately.
        let fresh_until = if span.is_some() { meta.hard_expiry() } else { meta.soft_expiry() };
        let life = Meta::new(created_at, header.fresh_for, header.kept_for, header.compute_time);
        let fresh = Fresh { value, stamp, meta, life, span, at: now };
        if now >= meta.hard_expiry() && meta.hard_expiry() != Timestamp::NEVER {
            Judged::Unusable(None)
        } else if record.invalidated {
            // When it was marked is not known: at the earliest when it was stored.
            let (freshness, stale_for) = (Freshness::Invalidated, record.age);
            Judged::Stale(Found { freshness, stale_for, ..self.copy(fresh) })
        } else if now < fresh_until || fresh_until == Timestamp::NEVER {
            Judged::Fresh(fresh)
        } else {
            let (freshness, stale_for) = (Freshness::Stale, meta.stale_for(now));
            Judged::Stale(Found { freshness, stale_for, ..self.copy(fresh) })
        }
    }

    /// The times of a record whose life no read prolongs. Where lives are prolonged it gets no older than others.
    fn fixed(&self, header: &Header, created_at: Timestamp) -> Meta {
        let meta = Meta::new(created_at, header.fresh_for, header.kept_for, header.compute_time);
        match self.max_age {
            Some(max_age) if !header.negative => meta.capped(created_at + max_age),
            _ => meta,
        }
    }

    fn decode(&self, header: Header, bytes: &[u8]) -> Result<Option<V>> {
        if header.codec != self.codec.id() {
            return Err(Error::new(ErrorKind::Decode, "envelope").detail("another codec"));
        }
        if header.negative {
            return Ok(None);
        }
        caught(ErrorKind::Decode, || self.codec.decode(bytes).map(Some))
    }
}

/// A codec that panics over a value has failed to read or write it: no lease is lost, and no key is closed.
pub(crate) fn caught<T>(kind: ErrorKind, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::new(kind, "codec").detail("it panicked")))
}
