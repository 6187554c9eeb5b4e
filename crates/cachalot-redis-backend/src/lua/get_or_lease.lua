-- Reads a value, or grants one reader the right to load it.
-- KEYS: key. ARGV: token 16, term ms, nonce refused (16, or empty), era 8.
-- Replies: HIT now record | BUSY now ms_left R|W record? | LEASE now record?
--   The record of BUSY and LEASE is the one that was there and is not usable as it is.
-- Errors: WRONGTYPE if the key is of another type.
if other then return redis.error_reply('WRONGTYPE the key holds another type of value') end
if has and not inval and nonce ~= ARGV[3] then return {'HIT', now, redis.call('GET', key)} end
local old = has and redis.call('GET', key) or false
if live then return {'BUSY', now, deadline - now, writer and 'W' or 'R', old} end
local term = tonumber(ARGV[2])
if has and redis.call('PTTL', key) > term then
  -- Keeps the value and its TTL, copies no payload.
  redis.call('SETRANGE', key, 0, header(unleased() + 4, ARGV[1], now + term, nonce))
else
  -- The lease must not die with the value.
  bare(4, ARGV[1], now + term)
end
return {'LEASE', now, old}
