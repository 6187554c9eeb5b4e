-- Puts back an item that a consumer has taken, behind all that waits.
-- KEYS: key. The list of what waits; the list of what the consumer has taken. ARGV: item.
-- Replies: 1 | 0, if the consumer does not have it any more.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('list') then return refuse() end
if redis.call('LREM', KEYS[2], 1, ARGV[1]) == 0 then return 0 end
redis.call('RPUSH', key, ARGV[1])
return 1
