-- Drops a counter.
-- KEYS: key. ARGV: none.
-- Replies: 1 | 0, if there was none.
-- Errors: WRONGTYPE if the key is of another type, or no number.
if is_other('string') then return refuse() end
if kind == 'string' and not string.match(redis.call('GETRANGE', key, 0, 16), '^%d+$') then return refuse() end
return redis.call('UNLINK', key)
