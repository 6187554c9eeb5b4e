-- Counts one up to a cap. The life of a counter begins with its first increment, and no later one prolongs it.
-- KEYS: key. ARGV: cap, life ms (at least 1).
-- Replies: the number counted to | -1 at the cap.
-- Errors: WRONGTYPE if the key is of another type, or no number.
if is_other('string') then return refuse() end
local cap = tonumber(ARGV[1])
if kind == 'none' then
  if cap < 1 then return -1 end
  redis.call('SET', key, 1, 'PX', ARGV[2])
  return 1
end
local value = redis.call('GET', key)
if not string.match(value, '^%d+$') or #value > 16 then return refuse() end
if tonumber(value) >= cap then return -1 end
return redis.call('INCR', key)
