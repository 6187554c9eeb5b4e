-- Strikes a member off.
-- KEYS: key. The registry. ARGV: member.
-- Replies: LEFT now | NONE now, if it was not listed.
return {redis.call('ZREM', key, 'm' .. ARGV[1]) == 1 and 'LEFT' or 'NONE', now}
