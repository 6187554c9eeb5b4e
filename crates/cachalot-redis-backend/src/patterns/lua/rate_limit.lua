-- Lets through at most `limit` in any window, by the times of the last that were let through.
-- KEYS: key. ARGV: limit, window us.
-- Replies: 0 let through | the us until one would be.
-- Errors: WRONGTYPE if the key is of another type, or no limit's.
--
-- Record: "CWL\1" | limit 4 | count 8 | times of 8 each, us of this server; all big endian. The times are a ring of
-- `limit` places: the n-th that was let through, from 0, stands at n % limit, until the one `limit` behind it does.
if is_other('string') then return refuse() end
local HEAD, MAGIC = 16, 'CWL\1'
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local life = math.ceil(window / 1000)

local function head(count) return MAGIC .. struct.pack('>I4', limit) .. struct.pack('>I8', count) end
local function place(n, places) return HEAD + n % places * 8 end
local function at(n, places)
  local from = place(n, places)
  return redis.call('GETRANGE', key, from, from + 7)
end

if kind == 'none' then
  redis.call('SET', key, head(1) .. struct.pack('>I8', now), 'PX', life)
  return 0
end
local found = redis.call('GETRANGE', key, 0, HEAD - 1)
if #found < HEAD or string.sub(found, 1, 4) ~= MAGIC then return refuse() end
local places = struct.unpack('>I4', string.sub(found, 5, 8))
local count = struct.unpack('>I8', string.sub(found, 9, 16))
if places ~= limit then
  -- Another limit than before: the latest times move to the places that they have under this one.
  local kept, times = math.min(count, places, limit), {}
  for n = count - kept, count - 1 do times[#times + 1] = at(n, places) end
  count = kept
  redis.call('SET', key, head(count) .. table.concat(times), 'KEEPTTL')
end
if count >= limit then
  local oldest = struct.unpack('>I8', at(count, limit))
  -- A time to come is of a clock that was put back: it keeps nobody out.
  if oldest <= now and oldest + window > now then return oldest + window - now end
end
redis.call('SETRANGE', key, place(count, limit), struct.pack('>I8', now))
redis.call('SETRANGE', key, 0, head(count + 1))
redis.call('PEXPIRE', key, life)
return 0
