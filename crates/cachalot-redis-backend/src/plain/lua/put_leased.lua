-- Stores, if the reader's lease is still there; ends it.
-- Replies: STORED now | LOST now | ABSENT now.
local lock = text(KEYS[2])
if lock ~= ARGV[1] then
  return {(lock or redis.call('EXISTS', KEYS[1]) == 1) and 'LOST' or 'ABSENT', now}
end
redis.call('UNLINK', KEYS[2])
return {store() and 'STORED' or 'LOST', now}
