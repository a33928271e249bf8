-- Stores a count made outside, if the bucket is still as it was read: numbers of ids tracked, moved and back.
-- error: standard error, or empty for the plain formula's.
-- STORED. CHANGED.
if cardinality(hll) ~= tonumber(tracked) or cardinality(moved) ~= tonumber(left)
    or redis.call('ZCOUNT', moves, '(0', '+inf') ~= tonumber(back) then
  return {'CHANGED'}
end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, n)
expire({hll, moved, moves}, expiry, true)
return {'STORED'}
