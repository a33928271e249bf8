-- Stores the count of a bucket without moves, in one step with the expiry of its sketch.
-- KEYS count hll moved out back raw stderr   ARGV recount (1 or 0), expiry, field
-- Returns {state, numbers...}: RAW (activity-tracker's set must be folded in first), DONE, GONE (a recount
-- without a sketch), MOVES tracked moved back (to be estimated, then stored), COUNTED n.
local count, hll, moved, out, back, raw, stderr = unpack(KEYS)
local recount, at, field = ARGV[1] == '1', ARGV[2], ARGV[3]
local sketch = {hll, moved, out, back}

local stored = redis.call('GET', count)
local tracked = cardinality(hll)
local gone = stored and stored ~= '0' and redis.call('EXISTS', hll) == 0

if not gone and redis.call('EXISTS', raw) == 1 then return {'RAW'} end
if stored and not recount then
  expire(sketch, at)
  return {'DONE'}
end
if gone then return {'GONE'} end

if redis.call('EXISTS', moved) == 1 then
  if redis.call('EXISTS', hll) == 0 then error('the sketch is gone but not what was moved out of it') end
  return {'MOVES', tracked, cardinality(moved), redis.call('SCARD', back)}
end
redis.call('HDEL', stderr, field)
redis.call('SET', count, tracked)
expire(sketch, at)
return {'COUNTED', tracked}
