//! Objects as hashes: a field each.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{CacheKey, Codec, Namespace, Result};
use redis::Cmd;

use super::coding::{encode, located};
use super::way::{Call, Place, Way};
use super::{read, script};
use crate::backend::millis;
use crate::link::Again;

/// Objects, a hash for each key, with a codec `C` for their fields. From
/// [`RedisPatterns::hashes`](super::RedisPatterns::hashes).
///
/// An object is set as a whole, with its time to live, in one step; a field is read or updated alone. So there is no
/// object without an end, unless somebody else made it.
pub struct Hashes<C> {
    way: Way,
    namespace: Namespace,
    codec: Arc<C>,
}

impl<C> Hashes<C> {
    pub(super) fn new(way: Way, namespace: Namespace, codec: Arc<C>) -> Self {
        Self { way, namespace, codec }
    }

    /// An object without fields, to be filled.
    pub fn object(&self) -> HashObject<C> {
        HashObject { fields: BTreeMap::new(), codec: self.codec.clone() }
    }

    /// The object under `key`, all of it; `None` if there is none.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn get(&self, key: &(impl CacheKey + ?Sized)) -> Result<Option<HashObject<C>>> {
        const OPERATION: &str = "redis hash get";
        let place = self.place(key);
        let value = self.way.ask(OPERATION, &place, &about("HGETALL", &place), Again::Once).await?;
        let pairs = read::pairs(value).and_then(|pairs| {
            let field = |(name, value)| Ok((name, read::bytes(value)?.unwrap_or_default()));
            pairs.into_iter().map(field).collect::<Result<BTreeMap<_, _>, _>>()
        });
        let fields = pairs.map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        Ok((!fields.is_empty()).then(|| HashObject { fields, codec: self.codec.clone() }))
    }

    /// One field of the object under `key`; `None` if there is no such object, or it has no such field.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Decode`](cachalot_core::ErrorKind::Decode) if it holds no `V`.
    pub async fn field<V>(&self, key: &(impl CacheKey + ?Sized), field: &str) -> Result<Option<V>>
    where
        C: Codec<V>,
    {
        const OPERATION: &str = "redis hash field";
        let place = self.place(key);
        let mut command = about("HGET", &place);
        command.arg(field);
        let value = self.way.ask(OPERATION, &place, &command, Again::Once).await?;
        let bytes = read::bytes(value).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        let decode = |bytes: Vec<u8>| self.codec.decode(&bytes);
        bytes.map(decode).transpose().map_err(|error| located(error, &self.way, &place))
    }

    /// Puts `object` in the place of whatever object is under `key`, for `ttl`: one step, so that nobody sees half of
    /// it, and no crash leaves it without an end. An object without fields, or for less than a millisecond, leaves
    /// none.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn set(
        &self,
        key: &(impl CacheKey + ?Sized),
        object: &HashObject<C>,
        ttl: Duration,
    ) -> Result<()> {
        const OPERATION: &str = "redis hash set";
        let place = self.place(key);
        let size = object.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.way.check_size(OPERATION, &place, size)?;
        let life = millis(ttl).to_string();
        let mut arguments = vec![life.as_bytes()];
        arguments.extend(object.fields.iter().flat_map(|(name, value)| [&**name, &**value]));
        self.way.run(OPERATION, &place, Call::new(&script::HASH_SET, &arguments)).await.map(drop)
    }

    /// Sets one field of the object under `key`, whose time to live stays as it is. `false` if there is no object: it
    /// may have ended a moment ago, and a field alone would be one without an end.
    ///
    /// # Errors
    /// As [patterns](super#errors); [`ErrorKind::Encode`](cachalot_core::ErrorKind::Encode) if the codec refuses.
    pub async fn update<V>(&self, key: &(impl CacheKey + ?Sized), field: &str, value: &V) -> Result<bool>
    where
        C: Codec<V>,
    {
        const OPERATION: &str = "redis hash update";
        let place = self.place(key);
        let mut bytes = Vec::new();
        encode(&*self.codec, value, &mut bytes, &self.way, OPERATION, &place)?;
        let arguments = [field.as_bytes(), &bytes];
        let reply = self.way.run(OPERATION, &place, Call::new(&script::HASH_UPDATE, &arguments)).await?;
        let updated = read::number(reply).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        Ok(updated == 1)
    }

    /// Removes the object under `key`; `false` if there was none.
    ///
    /// # Errors
    /// As [patterns](super#errors).
    pub async fn remove(&self, key: &(impl CacheKey + ?Sized)) -> Result<bool> {
        const OPERATION: &str = "redis hash remove";
        let place = self.place(key);
        let reply = self.way.run(OPERATION, &place, Call::new(&script::FORGET, &[b"hash"]).again()).await?;
        let removed = read::number(reply).map_err(|fault| self.way.error(fault, OPERATION, &place))?;
        Ok(removed == 1)
    }

    fn place(&self, key: &(impl CacheKey + ?Sized)) -> Place {
        self.way.place(self.namespace.key(key))
    }
}

/// A command about one key.
pub(super) fn about(verb: &str, place: &Place) -> Cmd {
    let mut command = Cmd::new();
    command.arg(verb).arg(&place.name);
    command
}

impl<C> Clone for Hashes<C> {
    fn clone(&self) -> Self {
        Self { way: self.way.clone(), namespace: self.namespace.clone(), codec: self.codec.clone() }
    }
}

impl<C> fmt::Debug for Hashes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashes").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// An object: names and values of fields, these as bytes until asked for. Its `Debug` shows the names alone.
pub struct HashObject<C> {
    fields: BTreeMap<Vec<u8>, Vec<u8>>,
    codec: Arc<C>,
}

impl<C> HashObject<C> {
    /// With one field more, or another value of it.
    ///
    /// # Errors
    /// [`ErrorKind::Encode`](cachalot_core::ErrorKind::Encode) if the codec refuses.
    pub fn with<V>(mut self, field: &str, value: &V) -> Result<Self>
    where
        C: Codec<V>,
    {
        let mut bytes = Vec::new();
        self.codec.encode(value, &mut bytes)?;
        self.fields.insert(field.into(), bytes);
        Ok(self)
    }

    /// A field's value; `None` if there is no such field.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`](cachalot_core::ErrorKind::Decode) if it holds no `V`.
    pub fn field<V>(&self, field: &str) -> Result<Option<V>>
    where
        C: Codec<V>,
    {
        self.fields.get(field.as_bytes()).map(|bytes| self.codec.decode(bytes)).transpose()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

impl<C> fmt::Debug for HashObject<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.fields.keys().map(|name| name.escape_ascii().to_string());
        f.debug_set().entries(names).finish()
    }
}
