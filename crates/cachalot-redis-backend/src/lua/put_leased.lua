-- Stores, if the reader's lease is still outstanding. Its deadline does not count: the token alone fences.
-- KEYS: key. ARGV: token 16, nonce 16, payload, ttl ms (at least 1), era 8.
-- Replies: STORED now | LOST now | ABSENT now. An absent record is a refusal.
if reader and token == ARGV[1] then
  store(ARGV[2], ARGV[3], ARGV[4])
  return {'STORED', now}
end
return {(#head == 0 and not other) and 'ABSENT' or 'LOST', now}
