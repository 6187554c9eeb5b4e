-- Drops values and every right to store them. A writer's live hold stays, poisoned, until its deadline.
-- KEYS: pairs of a key and its lock. ARGV: none.
-- Replies: REMOVED now (HELD | EXISTING | NONE)...
local reply = {'REMOVED', now}
for at = 1, #KEYS, 2 do
  reply[#reply + 1] = remove(KEYS[at], KEYS[at + 1])
end
return reply
