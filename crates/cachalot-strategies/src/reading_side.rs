//! What the strategies have in common that write to the source at once: a reading side.

/// Gives a `$Name { reads: ReadThrough }` its way to read, and to be made of a [`ReadThrough`](crate::ReadThrough).
macro_rules! reading_side {
    ($Name:ident) => {
        impl<K, V, S, D> $Name<K, V, S, D>
        where
            K: Hash + Eq + Clone + Send + Sync + 'static,
            V: Send + Sync + 'static,
            S: Store<K, V>,
            D: Source<K, V>,
        {
            /// The same with other options, as [`Cache::with`].
            #[must_use]
            pub fn with(&self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> Self {
                Self { reads: self.reads.with(change) }
            }

            /// The reading side.
            pub fn reads(&self) -> &ReadThrough<K, V, S, D> {
                &self.reads
            }

            /// The cache, to invalidate in.
            pub fn cache(&self) -> &Cache<K, V, S> {
                self.reads.cache()
            }

            /// [`ReadThrough::get`].
            ///
            /// # Errors
            /// As there.
            pub async fn get(&self, key: &K) -> Result<Option<Cached<V>>, LoadError> {
                self.reads.get(key).await
            }

            /// [`ReadThrough::get_many`].
            ///
            /// # Errors
            /// As there.
            pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Cached<V>>, LoadError>> {
                self.reads.get_many(keys).await
            }
        }

        impl<K, V, S, D> From<ReadThrough<K, V, S, D>> for $Name<K, V, S, D> {
            fn from(reads: ReadThrough<K, V, S, D>) -> Self {
                Self { reads }
            }
        }

        impl<K, V, S, D> Clone for $Name<K, V, S, D> {
            fn clone(&self) -> Self {
                Self { reads: self.reads.clone() }
            }
        }

        impl<K, V, S, D> fmt::Debug for $Name<K, V, S, D> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Name)).field("reads", &self.reads).finish()
            }
        }
    };
}

pub(crate) use reading_side;
