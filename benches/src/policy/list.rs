//! Keys in order, in one vector, linked by index.

/// Where a key lies in its list; stays the same until the key is removed.
pub(super) type Place = u32;

const NONE: Place = Place::MAX;

#[derive(Clone, Copy, Debug)]
struct Node<T> {
    key: u64,
    mark: T,
    newer: Place,
    older: Place,
}

/// A queue of keys, each with a mark, that lets go of any of them in constant time.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    nodes: Vec<Node<T>>,
    free: Vec<Place>,
    newest: Place,
    oldest: Place,
    len: usize,
}

impl<T: Copy> List<T> {
    pub(super) fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), newest: NONE, oldest: NONE, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn oldest(&self) -> Option<Place> {
        some(self.oldest)
    }

    /// The next newer one.
    pub(super) fn newer(&self, place: Place) -> Option<Place> {
        some(self.nodes[place as usize].newer)
    }

    pub(super) fn mark(&mut self, place: Place) -> &mut T {
        &mut self.nodes[place as usize].mark
    }

    /// Adds a key as the newest.
    pub(super) fn push(&mut self, key: u64, mark: T) -> Place {
        let node = Node { key, mark, newer: NONE, older: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place as usize] = node;
                place
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as Place
            }
        };
        self.link(place);
        place
    }

    /// Takes the oldest out.
    pub(super) fn pop(&mut self) -> Option<(u64, T)> {
        let place = self.oldest()?;
        Some(self.remove(place))
    }

    pub(super) fn remove(&mut self, place: Place) -> (u64, T) {
        self.unlink(place);
        self.free.push(place);
        let node = &self.nodes[place as usize];
        (node.key, node.mark)
    }

    /// Makes a key the newest.
    pub(super) fn renew(&mut self, place: Place) {
        self.unlink(place);
        self.link(place);
    }

    fn link(&mut self, place: Place) {
        let newest = self.newest;
        let node = &mut self.nodes[place as usize];
        (node.older, node.newer) = (newest, NONE);
        match some(newest) {
            Some(newest) => self.nodes[newest as usize].newer = place,
            None => self.oldest = place,
        }
        self.newest = place;
        self.len += 1;
    }

    fn unlink(&mut self, place: Place) {
        let Node { newer, older, .. } = self.nodes[place as usize];
        match some(newer) {
            Some(newer) => self.nodes[newer as usize].older = older,
            None => self.newest = older,
        }
        match some(older) {
            Some(older) => self.nodes[older as usize].newer = newer,
            None => self.oldest = newer,
        }
        self.len -= 1;
    }
}

fn some(place: Place) -> Option<Place> {
    (place != NONE).then_some(place)
}
