-- Adds ids to a bucket and moves ids out of it, unless the bucket was collapsed and its sketch is gone.
-- KEYS count hll moved out back   ARGV moved_limit, number of ids to add, ids to add..., ids to move out...
-- Returns OK or LATE.
local count, hll, moved, out, back = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local limit, adds = tonumber(ARGV[1]), tonumber(ARGV[2])

local collapsed = redis.call('GET', count)
if collapsed and redis.call('EXISTS', hll) == 0 then
  if collapsed ~= '0' then return 'LATE' end
  redis.call('DEL', count) -- nothing was lost with an empty period: it is open again
end

if adds > 0 then
  local added = {}
  for i = 1, adds do added[i] = ARGV[i + 2] end
  each_chunk('PFADD', hll, added, 1)
  if redis.call('EXISTS', out) == 1 then
    for _, id in ipairs(added) do redis.call('SMOVE', out, back, id) end
  end
end

for i = adds + 3, #ARGV do
  local id = ARGV[i]
  redis.call('PFADD', hll, id)
  redis.call('PFADD', moved, id)
  if redis.call('SMOVE', back, out, id) == 0 and redis.call('SISMEMBER', out, id) == 0
      and redis.call('SCARD', out) + redis.call('SCARD', back) < limit then
    redis.call('SADD', out, id)
  end
end

local ttl = redis.call('PTTL', hll)
if ttl > 0 then -- collapsed already: what is new beside the sketch ends with it
  for _, key in ipairs({moved, out, back}) do
    if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, ttl) end
  end
end
return 'OK'
