-- A member with those before and behind it.
-- KEYS: key. ARGV: member, how many on either side.
-- Replies: {rank of the first, {member, score, and so on}} | nil, if it is not listed.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('zset') then return refuse() end
local rank = redis.call('ZREVRANK', key, ARGV[1])
if not rank then return false end
local radius = tonumber(ARGV[2])
local first = math.max(0, rank - radius)
return {first, redis.call('ZREVRANGE', key, first, rank + radius, 'WITHSCORES')}
