-- Gives a lease back, if it still is this one.
-- KEYS: key, its lock. ARGV: the lock's text.
-- Replies: RELEASED now | NONE now.
if text(KEYS[2]) ~= ARGV[1] then return {'NONE', now} end
redis.call('UNLINK', KEYS[2])
return {'RELEASED', now}
