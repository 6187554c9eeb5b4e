-- Sets one field of an object that is there. Its life stays as it is.
-- KEYS: key. ARGV: field, value.
-- Replies: 1 | 0, if there is no object: to make one here would be to make one without an end.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('hash') then return refuse() end
if kind == 'none' then return 0 end
redis.call('HSET', key, ARGV[1], ARGV[2])
return 1
