-- Shared by the scripts that store.
-- KEYS: key, its lock, then for each tag its set and its token.
-- ARGV: the lock's text, ttl ms (0: nothing to store), form, ms fresh, delta in seconds, JSON, then each tag's
--   token as it was before the load.

-- What is stored: the JSON as it is, or in one of the wrappers.
local function wrapped()
  local form, json = ARGV[3], ARGV[6]
  if form == 'bare' then return json end
  local till = string.format('%.3f', (now + tonumber(ARGV[4])) / 1000)
  if form == 'early' then
    return '{"value":' .. json .. ',"_expiry":' .. till .. ',"_delta":' .. ARGV[5] .. '}'
  end
  return '{"value":' .. json .. ',"_fresh":' .. till .. '}'
end

-- Stores, and notes the key in the sets of its tags, unless one of them has been removed since: a token that is
-- missing counts as another one. Whether it did.
local function store()
  local value, other = text(KEYS[1])
  if other or ARGV[2] == '0' then return false end
  for at = 3, #KEYS, 2 do
    if text(KEYS[at + 1]) ~= ARGV[6 + (at - 1) / 2] then return false end
  end
  for at = 3, #KEYS, 2 do
    redis.call('SADD', KEYS[at], KEYS[1])
  end
  redis.call('SET', KEYS[1], wrapped(), 'PX', ARGV[2])
  return true
end
