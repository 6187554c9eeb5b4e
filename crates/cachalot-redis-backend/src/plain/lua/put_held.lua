-- A writer, after the source took the value: ends its hold by storing. If it is lost, no value stays.
-- Replies: STORED now | LOST now | ABSENT now.
local lock = text(KEYS[2])
if lock == ARGV[1] then
  redis.call('UNLINK', KEYS[2])
  if store() then return {'STORED', now} end
  drop(KEYS[1])
  return {'LOST', now}
end
return {remove(KEYS[1], KEYS[2]) == 'NONE' and 'ABSENT' or 'LOST', now}
