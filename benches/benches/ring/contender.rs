//! What every placement is asked to do.

use cachalot_ring::{
    Jump, Ketama, Maglev, Md5Ring, Node, Placement, Rendezvous, Reshape, RingError, SlotRing,
};

/// A placement of keys on nodes, which are numbered in the order of their names.
pub(crate) trait Contender: Sized {
    /// Of these nodes.
    fn of(names: &[String]) -> Self;

    /// The node that owns `key`, as the placement itself gives it.
    fn owner(&self, key: &'static str) -> usize;

    /// Takes in a node, the next number.
    fn join(&mut self, name: &str);

    /// Lets a node go. From here on `owner` may shift the numbers above it down by one, if this says so.
    fn leave(&mut self, name: &str, number: usize) -> Shift;

    /// Which of so many nodes is the one that leaves.
    fn leaver(nodes: usize) -> usize {
        nodes / 2
    }
}

/// What became of the numbers of nodes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shift {
    Kept,
    Down,
}

fn built<R>(ring: Result<R, RingError>) -> R {
    match ring {
        Ok(ring) => ring,
        Err(error) => panic!("no ring: {error}"),
    }
}

/// Ours whose nodes come and go.
macro_rules! ours {
    ($($ring:ty),*) => { $(
        impl Contender for $ring {
            fn of(names: &[String]) -> Self {
                built(Self::new(names.iter().map(|name| Node::new(name.as_str()))))
            }

            #[inline]
            fn owner(&self, key: &'static str) -> usize {
                Placement::owner(self, key.as_bytes())
            }

            fn join(&mut self, name: &str) {
                *self = built(self.with(name));
            }

            fn leave(&mut self, name: &str, _: usize) -> Shift {
                *self = built(self.without(name));
                Shift::Down
            }
        }
    )* };
}
ours!(SlotRing, Ketama, Md5Ring, Rendezvous, Maglev);

impl Contender for Jump {
    fn of(names: &[String]) -> Self {
        built(Self::new(names.iter().map(|name| Node::new(name.as_str()))))
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        Placement::owner(self, key.as_bytes())
    }

    fn join(&mut self, name: &str) {
        *self = built(self.with_last(name));
    }

    fn leave(&mut self, _: &str, _: usize) -> Shift {
        *self = built(self.without_last());
        Shift::Kept
    }

    fn leaver(nodes: usize) -> usize {
        nodes - 1
    }
}
