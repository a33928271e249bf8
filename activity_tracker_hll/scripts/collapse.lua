-- Stores the count of a bucket, in one step with the expiry of its sketch, or returns the data to make it from.
-- recount: 1 = also count what was counted before.
-- error_text: the standard error of a bucket without moves; empty for the plain formula's; ? = nobody looked.
-- NONE: there is nothing. DONE stored: it is counted. GONE: a recount, but the sketch is gone. TEXT stored: what is
-- stored is not a count. FOREIGN stored tracked: the stored count was not made from the sketch. CHANGED:
-- there is a sketch now, and nobody looked at it. COUNTED n. READ: there were moves; the numbers of ids tracked,
-- moved, and back according to the side table, then both sketches; see store.lua.
local stored = redis.call('GET', count)
if stored and not (string.match(stored, '^%d+$') and #stored <= 16 and tonumber(stored) < 2 ^ 53) then
  return {'TEXT', stored}
end
local tracked = cardinality(hll)
local exists = tracked > 0 or redis.call('EXISTS', hll) == 1
local foreign = false
if stored then
  -- A sketch whose count is stored has an expiry. A sketch without one is newer than the count, or was counted
  -- while sketches were kept for ever.
  local without_expiry = exists and redis.call('TTL', hll) == -1
  local estimated = redis.call('EXISTS', stderr) == 1
  if stored == '0' and without_expiry and tracked > 0 and not estimated then stored = false
  else foreign = without_expiry and expiry ~= 'keep' and not estimated and tonumber(stored) ~= tracked end
end
if foreign and not (recount == '1' and tracked > tonumber(stored)) then
  return {'FOREIGN', stored, tracked}
end
if stored and recount == '0' then
  expire({hll, moved, moves}, expiry, false)
  return {'DONE', stored}
end
local moving = redis.call('EXISTS', moved) == 1
if not exists then
  if moving then error('CORRUPT: the sketch is gone but not what was moved out of it') end
  return {is_counted(stored, stderr) and 'GONE' or 'NONE'}
end
-- Test doubles store something else than a sketch; a nil would cut a reply off.
local function read(key)
  local value = redis.pcall('GET', key)
  return type(value) == 'string' and value or ''
end
if moving then
  local back = redis.call('ZCOUNT', moves, '(0', '+inf')
  return {'READ', tracked, cardinality(moved), back, read(hll), read(moved)}
end
if error_text == '?' then
  if read(hll) ~= '' then return {'CHANGED'} end
  error_text = '' -- nobody can look at it
end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, tracked)
expire({hll}, expiry, true) -- without moves there is nothing else
return {'COUNTED', tracked}
