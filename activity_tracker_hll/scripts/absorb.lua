-- Adds ids that came late to a bucket. Its count does not have them: it is deleted, to be made again, and the sketch
-- is all that is known until then, so it must not expire.
-- seen: the count as it was read, or empty. Extra arguments: the ids.
-- CHANGED: the count is no longer as it was read, or its sketch is gone. OPEN.
if (redis.call('GET', count) or '') ~= seen or is_late(count, stderr, hll) then return {'CHANGED'} end
local ids = {}
for i = EXTRA_ARGS, #ARGV do ids[#ids + 1] = ARGV[i] end
each_chunk('PFADD', hll, ids)
for _, key in ipairs({hll, moved, moves}) do redis.call('PERSIST', key) end
redis.call('DEL', count, stderr)
return {'OPEN'}
