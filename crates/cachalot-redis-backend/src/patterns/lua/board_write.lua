-- Sets a member's score, or adds to it. The life of a leaderboard begins with its first member.
-- KEYS: key. ARGV: command (ZADD, ZINCRBY), score, member, life ms (0: for ever).
-- Replies: what the command does.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('zset') then return refuse() end
local reply = redis.call(ARGV[1], key, ARGV[2], ARGV[3])
if ARGV[4] ~= '0' and redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, ARGV[4]) end
return reply
