-- Notes that a key has a tag, and forgets some keys whose time is over.
-- KEYS: key. The tag's index: a sorted set of keys by the end of their time, ms of this server.
-- ARGV: member, time in ms, '1' if the index itself is to end with the last of them, era 8.
-- Replies: ADDED now.
local member, ends = ARGV[1], now + tonumber(ARGV[2])
local old = redis.call('ZSCORE', key, member)
-- Never sooner, and never the same: who is about to forget what it read sees that it came again.
if old then ends = math.max(ends, tonumber(old) + 1) end
redis.call('ZADD', key, string.format('%.0f', ends), member)
-- More than one for each that comes, so that what is over never piles up.
local over = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 32)
if #over > 0 then redis.call('ZREM', key, unpack(over)) end
if ARGV[3] == '1' then
  if not old and redis.call('ZCARD', key) == 1 or redis.call('PTTL', key) > 0 then
    redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ends - now))
  end
else
  redis.call('PERSIST', key)
end
return {'ADDED', now}
