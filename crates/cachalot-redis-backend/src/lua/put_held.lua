-- A writer, after the source took the value: ends its hold by storing.
-- KEYS: key. ARGV: token 16, nonce 16, payload, ttl ms (0: nothing to store), era 8.
-- Replies: STORED now | LOST now | ABSENT now. If the hold is lost, no value stays: another's live hold is
--   poisoned, anything else is dropped.
if other then return {'LOST', now} end
local mine = token == ARGV[1] and token ~= ZERO
if writer and live then
  if not mine then
    bare(8, ZERO, deadline)
  elseif ARGV[4] == '0' then
    redis.call('UNLINK', key)
  else
    store(ARGV[2], ARGV[3], ARGV[4])
    return {'STORED', now}
  end
  return {'LOST', now}
end
redis.call('UNLINK', key)
return {#head == 0 and 'ABSENT' or 'LOST', now}
