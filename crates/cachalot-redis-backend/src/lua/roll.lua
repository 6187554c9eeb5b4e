-- Who is listed.
-- KEYS: key. The registry. ARGV: none.
-- Replies: ROLL now age, and for each member itself and the ms that are left of its term.
local reply = {'ROLL', now, now - begun}
local listed = redis.call('ZRANGEBYSCORE', key, '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES')
for at = 1, #listed, 2 do
  reply[#reply + 1] = string.sub(listed[at], 2)
  reply[#reply + 1] = tonumber(listed[at + 1]) - now
end
return reply
