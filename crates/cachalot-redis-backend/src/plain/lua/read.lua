-- Reads values and how long they live.
-- KEYS: any number of keys. ARGV: none.
-- Replies: READ now (value? ms_left)...
local reply = {'READ', now}
for _, name in ipairs(KEYS) do
  local value = text(name)
  reply[#reply + 1] = value
  reply[#reply + 1] = value and left(name) or 0
end
return reply
