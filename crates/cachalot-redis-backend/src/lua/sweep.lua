-- Drops the values of many keys and every right to store them, each as remove.lua does.
-- KEYS: key. Any number of them, at least one; on a cluster all of one slot.
-- ARGV: era 8.
-- Replies: SWEPT now removed. Poisoned holds count as removed.
local gone, held = {}, 0
for _, each in ipairs(KEYS) do
  local lead = redis.pcall('GETRANGE', each, 0, 27)
  if type(lead) == 'table' then
    if not string.find(lead.err, 'WRONGTYPE', 1, true) then return lead end
  else
    local ends = 0
    if #lead == 28 and string.sub(lead, 1, 3) == 'CW\1' and math.floor(string.byte(lead, 4) / 8) % 2 == 1 then
      ends = struct.unpack('>I8', string.sub(lead, 21, 28))
    end
    if ends > now then
      redis.call('SET', each, header(8, ZERO, ends, ZERO), 'PX', ends - now)
      held = held + 1
    else
      gone[#gone + 1] = each
    end
  end
end
local removed = held
if #gone > 0 then removed = removed + redis.call('UNLINK', unpack(gone)) end
return {'SWEPT', now, removed}
