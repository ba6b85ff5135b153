-- Forgets records that ended before a time. KEYS: the set of ended records, the counter, then each record and its secret, which went with
-- the record's end unless an older program wrote that. ARGV: the time (µs), then the ids.
local gone = 0
for i = 2, #ARGV do
  local ended = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if ended and tonumber(ended) < tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[2 * i - 1], KEYS[2 * i])
    redis.call('ZREM', KEYS[1], ARGV[i])
    gone = gone + 1
  end
end
if gone > 0 then redis.call('HINCRBY', KEYS[2], 'changes', 1) end
return gone
