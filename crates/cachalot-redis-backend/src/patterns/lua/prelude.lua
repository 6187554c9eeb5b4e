-- Stands before every other script of patterns. The last argument of every script is none of these scripts' concern.
local key = KEYS[1]
local kind = redis.call('TYPE', key).ok
local function is_other(wanted) return kind ~= 'none' and kind ~= wanted end
local function refuse() return redis.error_reply('WRONGTYPE the key holds another type of value') end
