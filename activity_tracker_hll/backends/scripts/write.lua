-- Adds ids to a bucket and moves ids out of it, unless the bucket was collapsed and its sketch is gone.
-- KEYS count hll moved out back recent   ARGV moved_limit, number of ids to add, ids to add..., and for each
-- id to move out: the id, how many milliseconds ago it moved.
-- Returns OK or LATE.
local count, hll, moved, out, back, recent = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local KEEP_RECENT_MS = 3600000
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

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = adds + 3, #ARGV, 2 do
  local id = ARGV[i]
  redis.call('PFADD', hll, id)
  redis.call('PFADD', moved, id)
  if redis.call('SMOVE', back, out, id) == 0 and redis.call('SISMEMBER', out, id) == 0
      and redis.call('SCARD', out) + redis.call('SCARD', back) < limit then
    redis.call('SADD', out, id)
  end
  -- When: who hears later that it was active in the bucket before that does not take it for a return.
  if limit > 0 then redis.call('ZADD', recent, now - ARGV[i + 1], id) end
end
if #ARGV > adds + 2 and limit > 0 then
  redis.call('ZREMRANGEBYSCORE', recent, '-inf', now - KEEP_RECENT_MS)
  redis.call('ZREMRANGEBYRANK', recent, 0, -limit - 1)
  redis.call('PEXPIRE', recent, KEEP_RECENT_MS)
end

local ttl = redis.call('PTTL', hll)
if ttl > 0 then -- collapsed already: what is new beside the sketch ends with it
  for _, key in ipairs({moved, out, back}) do
    if redis.call('PTTL', key) == -1 then redis.call('PEXPIRE', key, ttl) end
  end
end
return 'OK'
