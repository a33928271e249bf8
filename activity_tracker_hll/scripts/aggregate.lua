-- Counts and stores the union of buckets on the same server without moves, with its sketch.
-- seen: the aggregate's own count as it was read, or empty. Further keys: of each source the sketch, which
-- was there, and the ids moved out of it, which were not.
-- CHANGED: something is not as it was read. COUNTED n.
local TEMPORARY_S = 60
if (redis.call('GET', count) or '') ~= seen then return {'CHANGED'} end
for i = REST_KEYS, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 0 or redis.call('EXISTS', KEYS[i + 1]) == 1 then return {'CHANGED'} end
end
redis.call('DEL', temporary) -- PFMERGE would add to what is there: build anew, then replace
for i = REST_KEYS, #KEYS, 2 do
  -- The target is a source too; servers imply that, fakeredis wants to be told.
  redis.call('PFMERGE', temporary, temporary, KEYS[i])
end
redis.call('EXPIRE', temporary, TEMPORARY_S)
local n = cardinality(temporary)
redis.call('RENAME', temporary, hll)
redis.call('PERSIST', hll)
redis.call('DEL', stderr)
redis.call('SET', count, n)
expire({hll}, expiry, true)
return {'COUNTED', n}
