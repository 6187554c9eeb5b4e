-- Puts back what a consumer has taken that is no longer alive, in front of all that waits and in its old order.
-- KEYS: key. The list of what waits; the set of consumers; the list of what this one has taken; its sign of life.
-- ARGV: the consumer, how many at most.
-- Replies: {moved, more}. `more`: 1 if some may be left.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('list') then return refuse() end
if redis.call('EXISTS', KEYS[4]) == 1 then return {0, 0} end
local moved, most = 0, tonumber(ARGV[2])
while moved < most do
  if not redis.call('LMOVE', KEYS[3], key, 'RIGHT', 'LEFT') then
    redis.call('SREM', KEYS[2], ARGV[1])
    return {moved, 0}
  end
  moved = moved + 1
end
return {moved, 1}
