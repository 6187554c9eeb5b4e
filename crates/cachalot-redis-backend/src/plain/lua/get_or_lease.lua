-- Reads a value, or takes its lock for one reader.
-- KEYS: key, its lock. ARGV: the lock's text, term ms, nonce refused (32 hex digits of the value's SHA-1, or empty).
-- Replies: HIT now value ms_left | BUSY now ms_locked R|W value? ms_left | LEASE now value? ms_left
-- Errors: WRONGTYPE if the key or the lock is of another type.
local value, other = text(KEYS[1])
local lock, other_lock = text(KEYS[2])
if other or other_lock then return redis.error_reply('WRONGTYPE the key holds another type of value') end
local ms = value and left(KEYS[1]) or 0
if value and string.sub(redis.sha1hex(value), 1, 32) ~= ARGV[3] then return {'HIT', now, value, ms} end
if lock then
  -- One without an end is asked for again after a term.
  local ends = redis.call('PTTL', KEYS[2])
  return {'BUSY', now, ends < 0 and tonumber(ARGV[2]) or ends, is_writers(lock) and 'W' or 'R', value, ms}
end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'LEASE', now, value, ms}
