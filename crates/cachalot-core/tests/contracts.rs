//! What must hold at compile time: who can be shared between threads, erased, and sent in errors.

use std::sync::Arc;

use cachalot_core::{
    Clock, Commit, Entropy, Entry, EntryOptions, Error, Fence, Hit, LoadError, LoaderError, ManualClock,
    Meta, Observer, Spawn, StoreStats, Timestamp, Ttl,
};

fn shared<T: Send + Sync + 'static>() {}

fn an_error<T: std::error::Error + Send + Sync + 'static>() {}

#[test]
fn what_a_cache_holds_can_be_shared() {
    shared::<(Clock, ManualClock, Timestamp, Entropy, Ttl, EntryOptions)>();
    shared::<(Entry<String>, Meta, Hit<String>, Fence, Commit, StoreStats)>();
    shared::<(Error, LoadError, LoaderError)>();
    shared::<(Arc<dyn Observer>, Arc<dyn Spawn>)>();
    an_error::<Error>();
    an_error::<LoadError>();
}

#[test]
fn errors_are_one_word() {
    assert_eq!(size_of::<Error>(), size_of::<usize>());
    assert_eq!(size_of::<Result<(), Error>>(), size_of::<usize>());
}

#[cfg(feature = "bytes")]
#[test]
fn the_bytes_plane_can_be_erased_and_shared() {
    use cachalot_core::envelope::Header;
    use cachalot_core::{
        Backend, BackendInfo, Body, Bus, BusEvent, BusInfo, Codec, EventQueue, Key, LeaseBackend, LeaseReply,
        Message, Namespace, Nonce, PublisherId, Put, Record, Source, Subscription, Token,
    };

    fn sent<T: Send + ?Sized>() {}

    shared::<(Arc<dyn Backend>, Arc<dyn Bus>, Arc<dyn Codec<String>>)>();
    shared::<Arc<dyn Source<u64, String, Error = std::io::Error>>>();
    shared::<(Key, Namespace, Record, BackendInfo, Header, Put, Token, Nonce, LeaseReply)>();
    shared::<(Message, Body, BusEvent, BusInfo, EventQueue, PublisherId)>();
    sent::<dyn Subscription>();
    shared::<Box<dyn LeaseBackend>>();
}
