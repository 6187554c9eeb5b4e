//! A bus under test, and what the cases do with it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use cachalot_core::{
    Body, Bus, BusEvent, Entropy, ErrorKind, Key, Message, Namespace, PublisherId, Subject, Subscription,
};

use super::PATIENCE;

/// A bus under test, ways to break and to close it, and what must live as long as it does.
pub struct BusSubject {
    pub(super) bus: Arc<dyn Bus>,
    /// Another end of the same bus, as another process has.
    pub(super) other: Arc<dyn Bus>,
    breaks: Option<Act>,
    mends: Option<Act>,
    closes: Option<Act>,
    entropy: Entropy,
    keeps: Vec<Box<dyn Any + Send + Sync>>,
}

type Act = Box<dyn Fn() + Send + Sync>;

impl BusSubject {
    /// A bus, from whose messages none other must be heard.
    pub fn new(bus: impl Bus) -> Self {
        let bus: Arc<dyn Bus> = Arc::new(bus);
        Self {
            other: bus.clone(),
            bus,
            breaks: None,
            mends: None,
            closes: None,
            entropy: Entropy::thread(),
            keeps: Vec::new(),
        }
    }

    /// Another end of the same bus: one with connections of its own, as in another process.
    #[must_use]
    pub fn and_other(mut self, other: impl Bus) -> Self {
        self.other = Arc::new(other);
        self
    }

    /// `breaks` ends the connections of all subscribers, `mends` lets them connect again. Where they connect
    /// again by themselves, `mends` has nothing to do. Both may block.
    #[must_use]
    pub fn breaking(
        mut self,
        breaks: impl Fn() + Send + Sync + 'static,
        mends: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        self.breaks = Some(Box::new(breaks));
        self.mends = Some(Box::new(mends));
        self
    }

    /// `closes` ends the bus.
    #[must_use]
    pub fn closing(mut self, closes: impl Fn() + Send + Sync + 'static) -> Self {
        self.closes = Some(Box::new(closes));
        self
    }

    /// Keeps `guard` for as long as the bus is tested: a server, most likely. Guards are dropped after the
    /// bus, last come first.
    #[must_use]
    pub fn keeping(mut self, guard: impl Any + Send + Sync) -> Self {
        self.keeps.insert(0, Box::new(guard));
        self
    }

    /// The same subject with `wrap` around both of its ends.
    #[must_use]
    pub fn wrapped<B: Bus>(mut self, wrap: impl Fn(Arc<dyn Bus>) -> B) -> Self {
        self.other = Arc::new(wrap(self.other));
        self.bus = Arc::new(wrap(self.bus));
        self
    }

    /// Breaks the connections; `false` if nobody said how.
    pub(super) fn break_connections(&self) -> bool {
        self.breaks.as_ref().map(|breaks| breaks()).is_some()
    }

    pub(super) fn mend(&self) {
        if let Some(mends) = &self.mends {
            mends();
        }
    }

    pub(super) fn close(&self) -> bool {
        self.closes.as_ref().map(|closes| closes()).is_some()
    }

    pub(super) fn publisher(&self) -> PublisherId {
        PublisherId::draw(&self.entropy)
    }

    /// A subscription whose confirmation has been read.
    pub(super) async fn listen(&self) -> Listener {
        Listener::confirmed(&*self.bus).await
    }

    /// Sends `message` from the other end.
    pub(super) async fn send(&self, message: &Message) {
        self.other.publish(message).await.expect("publish");
    }

    /// Sends `message` from the other end, again as long as it fails.
    pub(super) async fn send_at_last(&self, message: &Message) {
        let work = async {
            while let Err(error) = self.other.publish(message).await {
                assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("it cannot be published");
    }
}

/// One who listens.
pub struct Listener(pub(super) Box<dyn Subscription>);

impl Listener {
    pub(super) async fn confirmed(bus: &dyn Bus) -> Self {
        let mut listener = Self(bus.subscribe().await.expect("subscribe"));
        assert_eq!(listener.next().await, BusEvent::Confirmed, "the first event");
        listener
    }

    /// The next event, which must come.
    pub(super) async fn next(&mut self) -> BusEvent {
        let event = tokio::time::timeout(PATIENCE, self.0.next()).await;
        event.expect("nothing came").expect("next")
    }

    /// The next message, which must come, and nothing else before it.
    pub(super) async fn message(&mut self) -> Message {
        match self.next().await {
            BusEvent::Message(message) => message,
            other => panic!("a message was to come: {other:?}"),
        }
    }

    /// The next number, which must come.
    pub(super) async fn number(&mut self) -> u64 {
        number_of(&self.message().await)
    }
}

/// A message of `publisher` with this number.
pub(super) fn numbered(publisher: PublisherId, sequence: u64) -> Message {
    named(publisher, sequence, Key::new(format!("suite:{sequence}")))
}

pub(super) fn named(publisher: PublisherId, sequence: u64, key: Key) -> Message {
    let subjects = vec![Subject::Key { key, pending: false }];
    message(publisher, Body::Invalidations { sequence, confirm: false, subjects })
}

pub(super) fn message(publisher: PublisherId, body: Body) -> Message {
    Message { publisher, namespace: Namespace::new("suite").expect("a name"), body }
}

pub(super) fn number_of(message: &Message) -> u64 {
    match &message.body {
        Body::Invalidations { sequence, .. } => *sequence,
        other => panic!("a numbered message was to come: {other:?}"),
    }
}

impl fmt::Debug for BusSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusSubject").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
