-- Lists members, or raises the scores of those that are; none gets lower. The life of a leaderboard begins with its
-- first member.
-- KEYS: key. ARGV: life ms (0: for ever), and for each member its score and itself.
-- Replies: 1.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('zset') then return refuse() end
for at = 2, #ARGV - 2, 2 do redis.call('ZADD', key, 'GT', ARGV[at], ARGV[at + 1]) end
if ARGV[1] ~= '0' and redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, ARGV[1]) end
return 1
