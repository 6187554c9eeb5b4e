-- Prolongs the life of one put's value: by nonce, so that no lease and no successor is prolonged.
-- KEYS: key. ARGV: nonce 16, ttl ms, era 8.
-- Replies: TOUCHED now | NONE now.
if has and not inval and nonce == ARGV[1] and redis.call('PTTL', key) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', key, ARGV[2])
  return {'TOUCHED', now}
end
return {'NONE', now}
