-- Stands before the scripts about members, after the prelude.
--
-- Registry: a sorted set of members by the end of their terms, ms of this server. One element is no member:
-- "r" and the run of the server in which the registry began, by minus the time at which it did. Where that run is
-- missing, the set was lost, or comes from a snapshot or another server, and begins anew.
local DAY = 86400000
local info = redis.pcall('INFO', 'server')
-- Who may not ask cannot tell: all runs are one then.
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
local mark = 'r' .. run
local begun = redis.call('ZSCORE', key, mark)
if begun then
  begun = -tonumber(begun)
else
  begun = now
  redis.call('UNLINK', key)
  redis.call('ZADD', key, string.format('%.0f', -now), mark)
  redis.call('PEXPIRE', key, DAY)
end
-- Whose terms are over.
redis.call('ZREMRANGEBYSCORE', key, 0, now)
