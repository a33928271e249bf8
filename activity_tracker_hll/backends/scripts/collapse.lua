-- Stores the counts of some buckets without moves, each in one step with the expiry of its sketch.
-- KEYS for each bucket count hll moved out back raw stderr
-- ARGV recount (1 or 0), check (1 where someone may have chosen ids, or 0), and for each bucket expiry, field
-- Returns for each bucket {state, ...}: RAW (activity-tracker's set must be folded in first), DONE, GONE (a
-- recount without a sketch), FOREIGN stored tracked (the count was not made from the sketch), MOVES tracked
-- moved back (to be estimated, then stored), COUNTED n, FAILED message; with check COUNTED n sketch, whose standard
-- error is infinite until the caller has looked at it and called sound.lua, and UNCHECKED n sketch (done, but that).
local recount, check = ARGV[1] == '1', ARGV[2] == '1'

local function collapse(count, hll, moved, out, back, raw, stderr, at, field)
  local stored = redis.call('GET', count)
  local tracked = cardinality(hll)
  local exists = tracked > 0 or redis.call('EXISTS', hll) == 1
  local foreign = false
  if stored then
    -- A sketch whose count is stored has an expiry. One without is newer than the count, or was counted while
    -- sketches were kept for ever.
    local endless = exists and redis.call('TTL', hll) == -1
    local estimated = redis.call('HEXISTS', stderr, field) == 1
    if stored == '0' and endless and tracked > 0 and not estimated then stored = false
    else foreign = endless and at ~= 'keep' and not estimated and tonumber(stored) ~= tracked end
  end

  local gone = stored and stored ~= '0' and not exists
  if not gone and redis.call('EXISTS', raw) == 1 then return {'RAW'} end
  if foreign and not (recount and tracked > tonumber(stored)) then
    return {'FOREIGN', tonumber(stored), tracked}
  end
  if stored and not recount then
    expire({hll, moved, out, back}, at, false)
    if check and tonumber(stored) == tracked and redis.call('HGET', stderr, field) == 'inf'
        and redis.call('EXISTS', moved) == 0 then
      return {'UNCHECKED', tracked, redis.call('GET', hll)}
    end
    return {'DONE'}
  end
  if gone then return {'GONE'} end

  if redis.call('EXISTS', moved) == 1 then
    if not exists then error('the sketch is gone but not what was moved out of it') end
    return {'MOVES', tracked, cardinality(moved), redis.call('SCARD', back)}
  end
  local sketch = check and tracked > 0 and redis.pcall('GET', hll)
  if type(sketch) ~= 'string' then sketch = nil end -- a stand-in for tests keeps something else
  if sketch then redis.call('HSET', stderr, field, 'inf') else redis.call('HDEL', stderr, field) end
  redis.call('SET', count, tracked)
  expire({hll}, at, true) -- without moves there is nothing else
  return {'COUNTED', tracked, sketch}
end

-- One bad bucket must not keep the others from being counted: each fails for itself.
local results = {}
for i = 0, #KEYS / 7 - 1 do
  local at, field = ARGV[2 * i + 3], ARGV[2 * i + 4]
  local k = 7 * i
  local ok, result = pcall(collapse, KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], KEYS[k + 5],
    KEYS[k + 6], KEYS[k + 7], at, field)
  results[i + 1] = ok and result or {'FAILED', type(result) == 'table' and result.err or tostring(result)}
end
return results
