use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::continuum::Continuum;
use crate::md5::md5;
use crate::node::Members;
use crate::{Node, Placement, Reshape, RingError};

/// Whose ketama it is. They hash other strings or count other points, so keys land elsewhere in each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KetamaLayout {
    /// libmemcached's weighted ketama, and twemproxy's for servers without names of their own. Nodes are named
    /// `host:port`; port 11211 is left out of what is hashed.
    #[default]
    Libmemcached,
    /// twemproxy's for servers that have names (`host:port:weight name`): the name is hashed as it is.
    Named,
    /// Last.fm's libketama, the original, and the memcached proxy's `omode=ketama`. Nodes are named `ip:port`.
    LastFm,
    /// spymemcached's, and libmemcached's `KETAMA_SPY`. Nodes are named `ip:port`, or `hostname/ip:port` where the
    /// Java client has resolved a host name.
    Spy,
    /// EVCache's: 160 points whatever the weight. Nodes are named `ip:port`.
    EvCache,
}

impl KetamaLayout {
    /// What stands before `-k` in the string that is hashed for the k-th digest of a node.
    fn label(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Libmemcached => name.strip_suffix(":11211").unwrap_or(name).into(),
            Self::Named | Self::LastFm => name.into(),
            Self::Spy if name.contains('/') => name.into(),
            Self::Spy => ["/", name].concat().into(),
            Self::EvCache => {
                let ip = name.rsplit_once(':').map_or(name, |(ip, _)| ip);
                [ip, "/", name].concat().into()
            }
        }
    }

    /// How many digests, of four points each, a node gets: in the very types of the original, since the roundings
    /// of `f32` decide between 160 points and 156.
    fn digests(self, weight: u32, sum: u64, nodes: usize) -> u32 {
        let share = weight as f32 / sum as f32;
        let digests = match self {
            Self::EvCache => return 40,
            Self::LastFm => (f64::from(share) * 40.0 * nodes as f64) as f32,
            // C adds its double constant to the product of floats.
            _ => (f64::from(share * 160.0 / 4.0 * nodes as f32) + 0.000_000_000_1) as f32,
        };
        // Rounds down.
        digests as u32
    }
}

/// Ketama as the clients of memcached do it, bit for bit: an existing fleet keeps its placement.
///
/// MD5 of `name-k` gives four points on a circle of 2³², for k up to 40 times the node's share of the weights times
/// the number of nodes; a key belongs to the first point at or behind its own. Which string and which count, says
/// the [`KetamaLayout`].
///
/// A node that comes or goes moves its share of the keys, and no others while every node keeps its points. They change
/// when weights differ, and at some numbers of nodes, since the count is rounded in single precision: 100 equal nodes
/// have 156 points each and 101 have 160, so that this one step moves 2 % of all keys between the others. That is
/// what all clients of the fleet do.
///
/// Lookup: an MD5 of the key, about 110 ns, then one or two steps behind a table. Building: 40 digests a node and a
/// sort. Memory: 10 to 12 bytes a point. Balance: the fullest node has 1.1 to 1.25 times the mean.
///
/// A node of weight 0 is left out; libmemcached reads 0 as 1. Where two nodes have a point at the same place, the
/// one whose name sorts first gets it; libmemcached leaves that to its sort.
///
/// Sources: Richard Jones, libketama (Last.fm, 2007); libmemcached `hosts.cc`; twemproxy `nc_ketama.c`.
///
/// ```
/// use cachalot_ring::{Ketama, Node, Placement};
///
/// let fleet = Ketama::new([Node::with_weight("10.0.1.1:11211", 600), Node::with_weight("10.0.1.2:11211", 300)])?;
/// let server = fleet.nodes()[fleet.owner(b"user:42")].name();
/// # assert!(server.starts_with("10.0.1."));
/// # Ok::<_, cachalot_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Ketama {
    members: Members,
    layout: KetamaLayout,
    continuum: Continuum<u32>,
}

impl Ketama {
    /// The ring of libmemcached and twemproxy.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::TooMany`], and [`RingError::Duplicate`], also for `host` beside
    /// `host:11211`.
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        Self::with_layout(nodes, KetamaLayout::default())
    }

    /// The ring of another client.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_layout<N: Into<Node>>(
        nodes: impl IntoIterator<Item = N>,
        layout: KetamaLayout,
    ) -> Result<Self, RingError> {
        let members = Members::new(nodes)?;
        let continuum = Continuum::new(points(&members, layout)?)?;
        Ok(Self { members, layout, continuum })
    }

    /// Whose ketama it is.
    pub fn layout(&self) -> KetamaLayout {
        self.layout
    }

    /// How many points there are, for all nodes together.
    pub fn points(&self) -> usize {
        self.continuum.len()
    }

    /// The place of `key`: the first four bytes of its MD5, the lowest first.
    pub fn place(key: &[u8]) -> u32 {
        let [a, b, c, d, ..] = md5(key);
        u32::from_le_bytes([a, b, c, d])
    }

    /// The index of the node that owns a place, for fleets that hash their keys by something else than MD5
    /// (twemproxy's `hash:`).
    #[inline]
    pub fn owner_of_place(&self, place: u32) -> usize {
        self.continuum.owner(place)
    }
}

impl Placement for Ketama {
    fn nodes(&self) -> &[Node] {
        self.members.all()
    }

    #[inline]
    fn owner(&self, key: &[u8]) -> usize {
        self.continuum.owner(Self::place(key))
    }

    /// The nodes of the points behind the key's place, each once.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        self.continuum.owners(Self::place(key), count)
    }
}

impl Reshape for Ketama {
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError> {
        Self::with_layout(nodes, self.layout)
    }
}

fn points(members: &Members, layout: KetamaLayout) -> Result<Vec<(u32, u16)>, RingError> {
    let sum = members.live().map(|(_, node)| u64::from(node.weight())).sum();
    let nodes = members.live().len();
    check_labels(members, layout)?;
    let mut points = Vec::with_capacity(160 * nodes);
    let mut hashed = String::new();
    for (index, node) in members.live() {
        let label = layout.label(node.name());
        for k in 0..layout.digests(node.weight(), sum, nodes) {
            hashed.clear();
            // Writing to a string does not fail.
            let _ = write!(hashed, "{label}-{k}");
            let digest = md5(hashed.as_bytes());
            let words = digest.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
            points.extend(words.map(|word| (u32::from_le_bytes(word), index)));
        }
    }
    Ok(points)
}

/// Nodes of one label would have the same points.
fn check_labels(members: &Members, layout: KetamaLayout) -> Result<(), RingError> {
    let mut labels: Vec<_> = members.live().map(|(_, node)| layout.label(node.name())).collect();
    labels.sort_unstable();
    match labels.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(RingError::Duplicate(twice[0].clone().into_owned())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
