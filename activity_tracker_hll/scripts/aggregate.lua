-- Counts the union of buckets without moves on the same server, and stores the count and its sketch.
-- seen: the aggregate's own count as it was read, or empty. Extra keys: for each source its sketch, which
-- existed when it was read, and its sketch of moved ids, which did not.
-- CHANGED: something is no longer as it was read. COUNTED n.
if (redis.call('GET', count) or '') ~= seen then return {'CHANGED'} end
for i = EXTRA_KEYS, #KEYS, 2 do
  if redis.call('EXISTS', KEYS[i]) == 0 or redis.call('EXISTS', KEYS[i + 1]) == 1 then return {'CHANGED'} end
end
redis.call('DEL', temporary) -- PFMERGE adds to what is there: build a new sketch, then replace the old one
for i = EXTRA_KEYS, #KEYS, 2 do
  -- The target is a source too; servers imply that, fakeredis does not.
  redis.call('PFMERGE', temporary, temporary, KEYS[i])
end
redis.call('EXPIRE', temporary, TEMPORARY_S) -- so it is gone soon if a command below is denied
local n = cardinality(temporary)
redis.call('RENAME', temporary, hll)
redis.call('DEL', stderr)
redis.call('SET', count, n)
expire({hll}, expiry, true)
return {'COUNTED', n}
