-- Puts an object in the place of the one that was there.
-- KEYS: key. ARGV: life ms (0: nothing is to stay), and for each field its name and its value.
-- Replies: 1.
-- Errors: WRONGTYPE if the key is of another type.
if is_other('hash') then return refuse() end
redis.call('UNLINK', key)
if ARGV[1] ~= '0' and #ARGV > 2 then
  for at = 2, #ARGV - 2, 2 do redis.call('HSET', key, ARGV[at], ARGV[at + 1]) end
  redis.call('PEXPIRE', key, ARGV[1])
end
return 1
