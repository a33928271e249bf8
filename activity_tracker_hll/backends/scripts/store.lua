-- Stores an estimate made outside, if the bucket is still as it was read.
-- KEYS count hll moved out back stderr   ARGV tracked, moved, back (as read), count, standard error, expiry, field
-- Returns STORED or CHANGED.
local count, hll, moved, out, back, stderr = unpack(KEYS)
if cardinality(hll) ~= tonumber(ARGV[1]) or cardinality(moved) ~= tonumber(ARGV[2])
    or redis.call('SCARD', back) ~= tonumber(ARGV[3]) then
  return 'CHANGED'
end
redis.call('HSET', stderr, ARGV[7], ARGV[5])
redis.call('SET', count, ARGV[4])
expire({hll, moved, out, back}, ARGV[6], true)
return 'STORED'
