-- Marks the value as invalidated, keeps it for a while at most, and revokes every right to store.
-- KEYS: key. ARGV: keep ms, era 8.
-- Replies: HELD now, as of remove | MARKED now | NONE now, if there was no value; a lease is gone then.
if other then return {'NONE', now} end
if writer and live then
  bare(8, ZERO, deadline)
  return {'HELD', now}
end
if not has then
  redis.call('UNLINK', key)
  return {'NONE', now}
end
redis.call('SETRANGE', key, 0, header(3, ZERO, 0, nonce))
local ttl = redis.call('PTTL', key)
-- Below 0: somebody has taken its TTL away.
if ttl < 0 or ttl > tonumber(ARGV[1]) then redis.call('PEXPIRE', key, ARGV[1]) end
return {'MARKED', now}
