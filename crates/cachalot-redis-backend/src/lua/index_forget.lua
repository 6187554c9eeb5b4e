-- Forgets keys of a tag, except those that have come again since they were read.
-- KEYS: key. The tag's index.
-- ARGV: member, the end of its time as it was read, and so on; era 8.
-- Replies: FORGOTTEN now number.
local forgotten = 0
for at = 1, #ARGV - 1, 2 do
  local ends = redis.call('ZSCORE', key, ARGV[at])
  if ends and tonumber(ends) == tonumber(ARGV[at + 1]) then
    forgotten = forgotten + redis.call('ZREM', key, ARGV[at])
  end
end
return {'FORGOTTEN', now, forgotten}
