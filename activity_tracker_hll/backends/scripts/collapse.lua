-- Stores the counts of some buckets without moves, each in one step with the expiry of its sketch.
-- KEYS for each bucket count hll moved out back raw stderr
-- ARGV recount (1 or 0), and for each bucket expiry, field, standard error (0 the plain one, inf where the sketch is
-- suspect, empty where that is not known yet)
-- Returns for each bucket {state, ...}: RAW (activity-tracker's set must be folded in first), DONE, GONE (a
-- recount without a sketch), FOREIGN stored tracked (the count was not made from the sketch), MOVES tracked
-- moved back (to be estimated, then stored), CHECK (whether the sketch is suspect), COUNTED n, FAILED message.
local recount = ARGV[1] == '1'

local function collapse(count, hll, moved, out, back, raw, stderr, at, field, error_of)
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
    return {'DONE'}
  end
  if gone then return {'GONE'} end

  if redis.call('EXISTS', moved) == 1 then
    if not exists then error('the sketch is gone but not what was moved out of it') end
    return {'MOVES', tracked, cardinality(moved), redis.call('SCARD', back)}
  end
  if error_of == '' and tracked > 0 then return {'CHECK'} end
  if error_of == 'inf' then redis.call('HSET', stderr, field, error_of)
  else redis.call('HDEL', stderr, field) end
  redis.call('SET', count, tracked)
  expire({hll}, at, true) -- without moves there is nothing else
  return {'COUNTED', tracked}
end

-- One bad bucket must not keep the others from being counted: each fails for itself.
local results = {}
for i = 0, #KEYS / 7 - 1 do
  local at, field, error_of = ARGV[3 * i + 2], ARGV[3 * i + 3], ARGV[3 * i + 4]
  local k = 7 * i
  local ok, result = pcall(collapse, KEYS[k + 1], KEYS[k + 2], KEYS[k + 3], KEYS[k + 4], KEYS[k + 5],
    KEYS[k + 6], KEYS[k + 7], at, field, error_of)
  results[i + 1] = ok and result or {'FAILED', type(result) == 'table' and result.err or tostring(result)}
end
return results
