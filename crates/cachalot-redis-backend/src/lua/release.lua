-- Gives a reader's lease back; what value there is stays.
-- KEYS: key. ARGV: token 16, era 8.
-- Replies: RELEASED now | NONE now, if the token was not outstanding.
if not reader or token ~= ARGV[1] then return {'NONE', now} end
if has then
  redis.call('SETRANGE', key, 0, header(unleased(), ZERO, 0, nonce))
else
  redis.call('UNLINK', key)
end
return {'RELEASED', now}
