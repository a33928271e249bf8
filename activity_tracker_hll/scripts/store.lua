-- Stores a count that the client made, if the bucket is still as it was read: the same numbers of ids tracked,
-- left (moved out) and back.
-- error_text: the standard error, or empty for the plain formula's.
-- STORED. CHANGED.
if cardinality(hll) ~= tonumber(tracked) or cardinality(moved) ~= tonumber(left)
    or redis.call('ZCOUNT', moves, '(0', '+inf') ~= tonumber(back) then
  return {'CHANGED'}
end
if error_text == '' then redis.call('DEL', stderr) else redis.call('SET', stderr, error_text) end
redis.call('SET', count, n)
expire({hll, moved, moves}, expiry, true)
return {'STORED'}
