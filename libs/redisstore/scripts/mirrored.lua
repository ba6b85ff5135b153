-- Takes records out of the set of those that have to be mirrored, unless they have changed since.
-- KEYS: the set, then the records. ARGV: node, then id and version of each record.
for i = 2, #KEYS do
  local have = redis.call('HMGET', KEYS[i], 'n', 'v')
  local version = tonumber(ARGV[2 * i - 1])
  if have[2] and have[1] == ARGV[1] and version >= tonumber(have[2]) then redis.call('ZREM', KEYS[1], ARGV[2 * i - 2]) end
end
return 'ok'
