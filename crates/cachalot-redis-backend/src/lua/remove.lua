-- Drops the value and every right to store. A writer's live hold stays, poisoned, until its deadline.
-- KEYS: key. ARGV: era 8.
-- Replies: HELD now | EXISTING now | NONE now.
if other then return {'NONE', now} end
if writer and live then
  bare(8, ZERO, deadline)
  return {'HELD', now}
end
return {redis.call('UNLINK', key) == 1 and 'EXISTING' or 'NONE', now}
