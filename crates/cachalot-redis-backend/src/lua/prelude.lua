-- Stands before every other script: reads the header of the record under KEYS[1].
--
-- Record: "CW" version flags | token 16 | deadline 8 | nonce 16 | mark 4 | stored_at 8 | era 8 | payload
--   flags      1 value, 2 invalidated, 4 reader's lease, 8 writer's hold
--   token      who may store; zeros: nobody
--   deadline   of the lease or hold, ms of this server, big endian
--   nonce      names the put that stored the value
--   mark       the second half of the era in which the lease or hold was granted
--   stored_at  ms of this server, big endian; a record without a value ends before it
--   era        in which the value was stored; zeros: eras are not asked for
--
-- The last argument of every script is the era of the connection that carries it. A value of another one counts
-- as no value, a reader's lease of another one is not live; a writer's hold is, since it keeps others from storing.
-- Tokens have the era mixed in already.
--
-- Every reply is {status, now, ...}: `now` is this server's time in ms.
-- A string that is no record counts as no value. A key of another type (list, hash, ...) is never touched:
-- `other` is then true.
local key = KEYS[1]
local era = ARGV[#ARGV]
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local head = redis.pcall('GETRANGE', key, 0, 63)
local other = type(head) == 'table'
if other then
  if not string.find(head.err, 'WRONGTYPE', 1, true) then return head end
  head = ''
end
local ZERO = string.rep('\0', 16)
local flags, token, deadline, nonce, mark = 0, ZERO, 0, ZERO, ''
if #head >= 48 and string.sub(head, 1, 3) == 'CW\1' then
  flags = string.byte(head, 4)
  token = string.sub(head, 5, 20)
  deadline = struct.unpack('>I8', string.sub(head, 21, 28))
  nonce = string.sub(head, 29, 44)
  mark = string.sub(head, 45, 48)
end
local has = flags % 2 == 1 and #head == 64 and string.sub(head, 57, 64) == era
local inval = math.floor(flags / 2) % 2 == 1
local reader = math.floor(flags / 4) % 2 == 1
local writer = math.floor(flags / 8) % 2 == 1
local live = deadline > now and (writer or reader and mark == string.sub(era, 5, 8))

local function header(f, t, d, n)
  return 'CW\1' .. string.char(f) .. t .. struct.pack('>I8', d) .. n .. string.sub(era, 5, 8)
end

-- A record without a value, which ends with its deadline.
local function bare(f, t, d)
  redis.call('SET', key, header(f, t, d, ZERO), 'PX', math.max(1, d - now))
end

local function store(n, payload, ttl)
  redis.call('SET', key, header(1, ZERO, 0, n) .. struct.pack('>I8', now) .. era .. payload, 'PX', ttl)
end

-- The value's flags without any lease.
local function unleased() return inval and 3 or 1 end
