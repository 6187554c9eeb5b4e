-- Lists a member for a term, never for less than before.
-- KEYS: key. The registry. ARGV: member, term ms.
-- Replies: RENEWED now begun | NEW now begun, if it was not listed. `begun`: when the registry began, ms.
local member, ends = 'm' .. ARGV[1], now + tonumber(ARGV[2])
local before = redis.call('ZSCORE', key, member)
if before then ends = math.max(ends, tonumber(before)) end
redis.call('ZADD', key, string.format('%.0f', ends), member)
-- A fleet that comes back within a day finds its registry, and need not wait for it to grow old.
local keep = ends - now + DAY
if redis.call('PTTL', key) < keep then redis.call('PEXPIRE', key, string.format('%.0f', keep)) end
return {before and 'RENEWED' or 'NEW', now, begun}
