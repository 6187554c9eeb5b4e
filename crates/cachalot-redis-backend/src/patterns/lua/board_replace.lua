-- Puts a leaderboard in the place of the one that was there.
-- KEYS: key. ARGV: life ms (0: for ever), and for each member its score and itself.
-- Replies: 1.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('zset') then return refuse() end
redis.call('UNLINK', key)
if #ARGV > 2 then
  for at = 2, #ARGV - 2, 2 do redis.call('ZADD', key, ARGV[at], ARGV[at + 1]) end
  if ARGV[1] ~= '0' then redis.call('PEXPIRE', key, ARGV[1]) end
end
return 1
