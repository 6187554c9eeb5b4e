-- Stands before every script of the layout `plain`: values and locks as the common recipe has them.
--
-- A value is a string of JSON under its key; a lock is a string under `lock:` and the key:
--   cachalot:load:TOKEN   a reader's lease of ours
--   cachalot:write:TOKEN  a writer's hold of ours; without a token it is poisoned, and nobody's
--   anything else         somebody else's lock, which counts as a reader's lease
-- A lock ends by its time to live: then it is nobody's, and its token stores no more.
--
-- Every reply is {status, now, ...}: `now` is this server's time in ms.
-- A key of another type (list, hash, ...) counts as no value and is never touched.
local WRITE = 'cachalot:write:'
-- For ever, as far as anybody counts: some 35,000 years, ms.
local EVER = 1125899906842624
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- The string under `name`, or false; and whether something else is there.
local function text(name)
  local found = redis.pcall('GET', name)
  if type(found) ~= 'table' then return found, false end
  if not string.find(found.err, 'WRONGTYPE', 1, true) then error(found.err) end
  return false, true
end

-- How much longer `name` lives, ms.
local function left(name)
  local ms = redis.call('PTTL', name)
  return ms < 0 and EVER or ms
end

local function is_writers(lock)
  return lock and string.sub(lock, 1, #WRITE) == WRITE
end

-- Nobody stores until this hold's deadline, or a later one.
local function poison(name, least)
  redis.call('SET', name, WRITE, 'PX', math.max(1, redis.call('PTTL', name), least))
end

-- Drops the value under `name`. Whether there was one.
local function drop(name)
  local value, other = text(name)
  return not other and redis.call('UNLINK', name) == 1
end

-- Drops the value under `name` and every right to store one; a writer's live hold stays, poisoned.
local function remove(name, lock_name)
  local had = drop(name)
  local lock = text(lock_name)
  if is_writers(lock) then
    poison(lock_name, 0)
    return 'HELD'
  end
  return (drop(lock_name) or had) and 'EXISTING' or 'NONE'
end
