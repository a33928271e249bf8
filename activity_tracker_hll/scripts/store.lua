-- Stores a count made outside, if the bucket is still as it was read: numbers of ids tracked, moved and back.
-- Without moves the sketch may have grown: the count is made anew, what was found out about the ids holds.
-- error_text: standard error, or empty for the plain formula's.
-- STORED n. CHANGED.
local now, left = cardinality(hll), tonumber(left)
if left == 0 and redis.call('EXISTS', moved) == 0 then
  if now < tonumber(tracked) then return {'CHANGED'} end
  n = now
elseif now ~= tonumber(tracked) or cardinality(moved) ~= left
    or redis.call('ZCOUNT', moves, '(0', '+inf') ~= tonumber(back) then
  return {'CHANGED'}
end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, n)
expire({hll, moved, moves}, expiry, true)
return {'STORED', tonumber(n)}
