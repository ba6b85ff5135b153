-- Forgets records that ended before a time. KEYS: the set of ended records, the counter, then the records. ARGV: the time (µs), then
-- the ids.
local gone = 0
for i = 3, #KEYS do
  local ended = redis.call('ZSCORE', KEYS[1], ARGV[i - 1])
  if ended and tonumber(ended) < tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[i])
    redis.call('ZREM', KEYS[1], ARGV[i - 1])
    gone = gone + 1
  end
end
if gone > 0 then redis.call('HINCRBY', KEYS[2], 'changes', 1) end
return gone
