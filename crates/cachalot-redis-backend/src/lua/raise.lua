-- Raises the floor of a key's versions; it never goes down, and its life is never cut.
-- KEYS: key. The floor: 8 bytes, big endian. Whatever else is there counts as none.
-- ARGV: version 8, life ms (at least 1). A version of zeros only reads.
-- Replies: FLOOR now before. The floor that stood before, 8 bytes.
-- Errors: WRONGTYPE if the key is of another type.
if other then return redis.error_reply('WRONGTYPE the key holds another type of value') end
local NONE = string.rep('\0', 8)
local version, life = ARGV[1], ARGV[2]
local before = #head == 8 and head or NONE
if version == NONE then return {'FLOOR', now, before} end
-- Byte by byte: a Lua number has 53 bits, and strings are compared by the server's locale.
local raises = false
for at = 1, 8 do
  local new, old = string.byte(version, at), string.byte(before, at)
  if new ~= old then
    raises = new > old
    break
  end
end
local left = redis.call('PTTL', key)
if raises and left > tonumber(life) then
  redis.call('SET', key, version, 'KEEPTTL')
elseif raises then
  redis.call('SET', key, version, 'PX', life)
elseif left >= 0 and left < tonumber(life) then
  redis.call('PEXPIRE', key, life)
end
return {'FLOOR', now, before}
