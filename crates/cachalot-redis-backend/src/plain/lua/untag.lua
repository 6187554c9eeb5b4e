-- Drops values that have a tag, as remove does, and forgets them in its set.
-- KEYS: the tag's set, then pairs of a key and its lock. ARGV: none.
-- Replies: REMOVED now.
for at = 2, #KEYS, 2 do
  remove(KEYS[at], KEYS[at + 1])
  redis.call('SREM', KEYS[1], KEYS[at])
end
return {'REMOVED', now}
