-- Drops what is there, if it is of a type.
-- KEYS: key. ARGV: type.
-- Replies: 1 | 0, if nothing was there.
-- Errors: WRONGTYPE if the key is of another type.
if is_other(ARGV[1]) then return refuse() end
return redis.call('UNLINK', key)
