-- Prolongs the life of a value, if it still is this one.
-- KEYS: key. ARGV: nonce (32 hex digits of the value's SHA-1), ttl ms.
-- Replies: TOUCHED now | NONE now.
local value = text(KEYS[1])
local ms = redis.call('PTTL', KEYS[1])
if value and string.sub(redis.sha1hex(value), 1, 32) == ARGV[1] and ms >= 0 and ms < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {'TOUCHED', now}
end
return {'NONE', now}
