-- A writer, before it touches the source: drops the value and takes the lock, from whomever.
-- KEYS: key, its lock. ARGV: the lock's text, term ms.
-- Replies: HELD now | OVERLAP now: another's hold is live, and both are poisoned until the later deadline.
-- Errors: WRONGTYPE if the key or the lock is of another type.
local value, other = text(KEYS[1])
local lock, other_lock = text(KEYS[2])
if other or other_lock then return redis.error_reply('WRONGTYPE the key holds another type of value') end
drop(KEYS[1])
if is_writers(lock) then
  poison(KEYS[2], tonumber(ARGV[2]))
  return {'OVERLAP', now}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'HELD', now}
