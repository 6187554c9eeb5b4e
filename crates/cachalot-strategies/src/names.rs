//! Keys by their bytes, as they are called beyond this process.

use cachalot_core::{CacheKey, Key, Namespace};

pub(crate) struct Names<K> {
    namespace: Namespace,
    key_of: fn(&Namespace, &K) -> Key,
    read_key: fn(&[u8]) -> Option<K>,
}

impl<K> Clone for Names<K> {
    fn clone(&self) -> Self {
        Self { namespace: self.namespace.clone(), key_of: self.key_of, read_key: self.read_key }
    }
}

impl<K: CacheKey> Names<K> {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, key_of: |namespace, key| namespace.key(key), read_key: K::read_key }
    }
}

impl<K> Names<K> {
    pub(crate) fn key(&self, key: &K) -> Key {
        (self.key_of)(&self.namespace, key)
    }

    /// The key of these bytes, if it is one of this cache.
    pub(crate) fn read(&self, name: &Key) -> Option<K> {
        let bytes = name.as_bytes().strip_prefix(self.namespace.as_str().as_bytes())?.strip_prefix(b":")?;
        let key = (self.read_key)(bytes)?;
        // Whatever an implementation makes of the bytes, it must be the key that they name.
        (self.key(&key) == *name).then_some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_namespace_that_come_back_are_read() {
        let names = Names::<u64>::new(Namespace::new("users").unwrap());
        assert_eq!(names.read(&Key::new("users:7")), Some(7));
        for foreign in ["users:07", "users:+7", "users:x", "users7", "orders:7", ""] {
            assert_eq!(names.read(&Key::new(foreign)), None, "{foreign}");
        }
    }
}
