-- Stores a count that the client made, if the bucket is still as it was read: the same numbers of ids tracked,
-- left (moved out) and back. Without moves the sketch may have grown: it is counted again, but whether its ids
-- were found suspect still holds.
-- error_text: the standard error, or empty for the plain formula's.
-- STORED n. CHANGED.
local now, left, sketches = cardinality(hll), tonumber(left), {hll, moved, moves}
if left == 0 and redis.call('EXISTS', moved) == 0 then
  if now < tonumber(tracked) then return {'CHANGED'} end
  n, sketches = now, {hll} -- there is nothing else
elseif now ~= tonumber(tracked) or cardinality(moved) ~= left
    or redis.call('ZCOUNT', moves, '(0', '+inf') ~= tonumber(back) then
  return {'CHANGED'}
end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, n)
expire(sketches, expiry, true)
return {'STORED', tonumber(n)}
