-- A writer, before it touches the source: drops the value and blocks readers' leases.
-- KEYS: key. ARGV: token 16, term ms, era 8.
-- Replies: HELD now | OVERLAP now: another's hold is live, and both are poisoned until the later deadline.
-- Errors: WRONGTYPE if the key is of another type.
if other then return redis.error_reply('WRONGTYPE the key holds another type of value') end
local till = now + tonumber(ARGV[2])
if writer and live then
  bare(8, ZERO, math.max(till, deadline))
  return {'OVERLAP', now}
end
bare(8, ARGV[1], till)
return {'HELD', now}
